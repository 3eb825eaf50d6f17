"""The `fields` parameter: what of a resource is sent, with Drive's own defaults."""

from collections.abc import Mapping

from tests.drive_emulator.answers import Refusal

Mask = dict[str, "Mask"]
"""Names to what is wanted inside; an empty mask wants everything inside."""

FILE_DEFAULT = "kind,id,name,mimeType,resourceKey"
DEFAULTS = {
    "files.get": FILE_DEFAULT,
    "files.create": FILE_DEFAULT,
    "files.update": FILE_DEFAULT,
    "files.copy": FILE_DEFAULT,
    "files.list": f"kind,incompleteSearch,nextPageToken,files({FILE_DEFAULT})",
    "changes.list": (
        "kind,nextPageToken,newStartPageToken,"
        f"changes(kind,removed,fileId,changeType,type,time,driveId,file({FILE_DEFAULT}))"
    ),
    "permissions.get": "kind,id,type,role",
    "permissions.create": "kind,id,type,role",
    "permissions.update": "kind,id,type,role",
    "permissions.list": "kind,nextPageToken,permissions(kind,id,type,role)",
    "drives.get": "kind,id,name",
    "drives.list": "kind,nextPageToken,drives(kind,id,name)",
}
"""What comes without `fields`; a call that is not here sends everything."""

FILE_FIELDS = frozenset(
    [
        "kind",
        "id",
        "name",
        "mimeType",
        "description",
        "starred",
        "trashed",
        "explicitlyTrashed",
        "trashedTime",
        "trashingUser",
        "parents",
        "properties",
        "appProperties",
        "spaces",
        "version",
        "webContentLink",
        "webViewLink",
        "iconLink",
        "hasThumbnail",
        "thumbnailLink",
        "viewedByMe",
        "viewedByMeTime",
        "createdTime",
        "modifiedTime",
        "modifiedByMeTime",
        "modifiedByMe",
        "sharedWithMeTime",
        "sharingUser",
        "owners",
        "teamDriveId",
        "driveId",
        "lastModifyingUser",
        "shared",
        "ownedByMe",
        "capabilities",
        "viewersCanCopyContent",
        "copyRequiresWriterPermission",
        "writersCanShare",
        "permissions",
        "permissionIds",
        "hasAugmentedPermissions",
        "originalFilename",
        "fullFileExtension",
        "fileExtension",
        "md5Checksum",
        "sha1Checksum",
        "sha256Checksum",
        "size",
        "quotaBytesUsed",
        "headRevisionId",
        "contentHints",
        "imageMediaMetadata",
        "videoMediaMetadata",
        "isAppAuthorized",
        "exportLinks",
        "shortcutDetails",
        "contentRestrictions",
        "labelInfo",
        "resourceKey",
        "linkShareMetadata",
        "folderColorRgb",
        "thumbnailVersion",
        "inheritedPermissionsDisabled",
        "downloadRestrictions",
    ]
)
OUTER_FIELDS = {
    "files.list": frozenset(["kind", "nextPageToken", "incompleteSearch", "files"]),
    "changes.list": frozenset(["kind", "nextPageToken", "newStartPageToken", "changes"]),
    "about.get": frozenset(
        [
            "kind",
            "user",
            "storageQuota",
            "importFormats",
            "exportFormats",
            "maxImportSizes",
            "maxUploadSize",
            "appInstalled",
            "folderColorPalette",
            "driveThemes",
            "teamDriveThemes",
            "canCreateDrives",
            "canCreateTeamDrives",
        ]
    ),
}


def parse_mask(text: str) -> Mask:
    """Read `a,b/c,d(e,f)`. Raises Refusal as Drive does for what it cannot read."""
    mask, rest = _group(text.replace(" ", ""), text)
    if rest or not mask:
        raise bad_fields(text)
    return mask


def _group(text: str, whole: str) -> tuple[Mask, str]:
    """Selections up to a closing bracket or the end, and what follows."""
    mask: Mask = {}
    while True:
        place, name = mask, ""
        while text and text[0] not in ",()":
            if text[0] == "/":
                place = place.setdefault(_checked(name, whole), {})
                name = ""
            else:
                name += text[0]
            text = text[1:]
        inner = place.setdefault(_checked(name, whole), {})
        if text.startswith("("):
            found, text = _group(text[1:], whole)
            if not text.startswith(")"):
                raise bad_fields(whole)
            inner.update(found)
            text = text[1:]
        if not text.startswith(","):
            return mask, text
        text = text[1:]


def _checked(name: str, whole: str) -> str:
    if name != "*" and not name.isalnum():
        raise bad_fields(whole)
    return name


def bad_fields(text: str) -> Refusal:
    """A selection of what does not exist."""
    return Refusal(400, "invalidParameter", f"Invalid field selection {text}", location="fields")


def check_names(call: str, mask: Mask) -> None:
    """Refuse names that the resource of `call` never has."""
    files: Mask | None = mask if call in ("files.get", "files.create", "files.update", "files.copy") else None
    outer = OUTER_FIELDS.get(call)
    if outer is not None:
        for name in mask:
            if name not in outer and name != "*":
                raise bad_fields(name)
        files = mask.get("files") if call == "files.list" else mask.get("changes", {}).get("file")
    for name in files or ():
        if name not in FILE_FIELDS and name != "*":
            raise bad_fields(name)


def select(value: object, mask: Mask) -> object:
    """What `mask` leaves of `value`; an empty mask and `*` leave all."""
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [select(one, mask) for one in value]
    if isinstance(value, Mapping):
        return {name: select(value[name], inner) for name, inner in mask.items() if name in value}
    return value


def chosen(call: str, fields: str | None, value: object) -> object:
    """What `call` sends of `value` when asked for `fields`."""
    text = fields if fields is not None else DEFAULTS.get(call)
    if text is None:
        return value
    mask = parse_mask(text)
    check_names(call, mask)
    return select(value, mask)
