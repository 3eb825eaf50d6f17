"""The methods of `files` but for uploads: ids, metadata, contents in ranges, listings, changes of place, copies."""

import dataclasses
import json
import re

from tests.drive_emulator import access
from tests.drive_emulator.answers import Refusal, Reply, Request, forbidden, invalid, json_reply
from tests.drive_emulator.fields import chosen
from tests.drive_emulator.items import FOLDER, Item, at_least, moment
from tests.drive_emulator.resources import file_resource
from tests.drive_emulator.world import World

KEPT_AS_SENT = ("description", "properties", "appProperties", "starred", "folderColorRgb", "writersCanShare")
READ_ONLY = {"md5Checksum", "sha1Checksum", "sha256Checksum", "size", "version", "owners", "ownedByMe", "capabilities"}


def whole_number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A number of the query within bounds. Raises Refusal."""
    given = request.query.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", given) or not least <= int(given) <= most:
        message = f"Invalid value '{given}'. Values must be within the range: [{least}, {most}]"
        raise Refusal(400, "invalidParameter", message, location=name)
    return int(given)


def shown(world: World, request: Request, item: Item) -> Reply:
    """The file as the one who asks may see it, with the fields that were asked for."""
    resource = file_resource(world, item, request.email)
    return json_reply(chosen("files.get", request.query.get("fields"), resource))


def generate_ids(world: World, request: Request) -> Reply:
    count = whole_number(request, "count", 10, 1, 1000)
    space = request.query.get("space", "drive")
    if space not in ("drive", "appDataFolder"):
        raise invalid("space", space)
    reply = {"kind": "drive#generatedIds", "space": space, "ids": world.mint(request.email, count)}
    return json_reply(chosen("files.generateIds", request.query.get("fields"), reply))


# ---- making and changing -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Metadata:
    """The body of a create, update or copy, checked."""

    document: dict[str, object]

    def __post_init__(self) -> None:
        wrong = READ_ONLY & self.document.keys()
        if wrong:
            raise Refusal(403, "fieldNotWritable", "The resource body includes fields which are not directly writable.")
        for name in ("createdTime", "modifiedTime"):
            if name in self.document:
                try:
                    moment(str(self.document[name]))
                except ValueError:
                    raise invalid(name, str(self.document[name])) from None
        private = self.document.get("appProperties")
        for key, value in private.items() if isinstance(private, dict) else ():
            if len(str(key).encode()) + len(str(value).encode()) > 124:
                raise Refusal(400, "propertyTooLong", "The size of a property exceeds the limit.")

    def text(self, name: str, default: str | None = None) -> str | None:
        value = self.document.get(name, default)
        if value is not None and not isinstance(value, str):
            raise invalid(name, str(value))
        return value

    def parent(self) -> str | None:
        """The one folder that was named, if any. Raises Refusal for more than one."""
        parents = self.document.get("parents")
        if parents is None or parents == []:
            return None
        if not isinstance(parents, list) or not all(isinstance(one, str) for one in parents):
            raise invalid("parents", json.dumps(parents))
        if len(parents) > 1:
            raise Refusal(403, "multipleParentsNotSupported", "A file cannot be created in several folders.")
        return str(parents[0])

    def extra(self) -> dict[str, object]:
        return {name: self.document[name] for name in KEPT_AS_SENT if name in self.document}


def create(world: World, request: Request, metadata: Metadata, data: bytes | None, mime: str | None) -> Item:
    """Make what `metadata` describes; `data` None: no media came along, which is a folder or an empty file."""
    parent = world.check_parent(request.email, metadata.parent(), request.flag("supportsAllDrives"))
    wanted = metadata.text("mimeType") or mime or "application/octet-stream"
    if data is None and not wanted.startswith("application/vnd.google-apps."):
        data = b""
    file_id = metadata.text("id")
    if file_id is not None and wanted.startswith("application/vnd.google-apps.") and wanted != FOLDER:
        raise Refusal(400, "fileIdNotUsable", "Generated IDs are not supported for this type.", location="file.id")
    name = metadata.text("name") or "Untitled"
    item = world.create(request.email, parent, name, wanted, data, file_id=file_id, extra=metadata.extra())
    set_times(item, metadata)
    return item


def set_times(item: Item, metadata: Metadata) -> None:
    """Times the client wants to be kept."""
    if "createdTime" in metadata.document:
        item.created = moment(str(metadata.document["createdTime"]))
    if "modifiedTime" in metadata.document:
        item.modified = moment(str(metadata.document["modifiedTime"]))


def create_without_media(world: World, request: Request) -> Reply:
    return shown(world, request, create(world, request, Metadata(request.document()), None, None))


def change(world: World, request: Request, item: Item, metadata: Metadata, data: bytes | None) -> None:
    """What `files.update` does; every right is looked at before anything changes. Raises Refusal."""
    asker, document = request.email, metadata.document
    if "parents" in document:
        message = "The parents field is not directly writable in update requests. Use the addParents and removeParents."
        raise Refusal(403, "fieldNotWritable", message)
    trashed = document.get("trashed")
    edits = bool(document.keys() - {"trashed"}) or data is not None
    if edits and not at_least(access.role_of(world, item, asker), "writer"):
        raise forbidden()
    if trashed is not None and not access.may_trash(world, item, asker):
        raise forbidden()
    add, remove = (request.query.get(name) for name in ("addParents", "removeParents"))
    if any(one is not None and "," in one for one in (add, remove)):
        raise Refusal(403, "cannotAddParent", "Increasing the number of parents is not allowed")
    if add is not None or remove is not None:
        world.move(asker, item, add, remove, request.flag("supportsAllDrives"))
    if trashed is not None:
        world.trash(asker, item, bool(trashed))
    if data is not None:
        world.replace(asker, item, data)
    if edits:
        item.name = metadata.text("name") or item.name
        item.mime = metadata.text("mimeType") or item.mime
        item.extra = {**item.extra, **metadata.extra()}
        if data is None and "name" in document:
            item.modified = world.clock.now()
        set_times(item, metadata)
        item.changed_by = asker
        world.changed(item)


def update(world: World, request: Request) -> Reply:
    item = world.visible(request.ids[0], request.email, request.flag("supportsAllDrives"))
    change(world, request, item, Metadata(request.document()), None)
    return shown(world, request, item)


def delete(world: World, request: Request) -> Reply:
    item = world.visible(request.ids[0], request.email, request.flag("supportsAllDrives"))
    world.delete(request.email, item)
    return Reply(204)


def empty_trash(world: World, request: Request) -> Reply:
    for item in [one for one in world.items.values() if one.owner == request.email and one.trashed]:
        if item.id in world.items:
            world.delete(request.email, item)
    return Reply(204)


def copy(world: World, request: Request) -> Reply:
    everywhere = request.flag("supportsAllDrives")
    source = world.visible(request.ids[0], request.email, everywhere)
    if source.blob is None or not world.behaviour.copies_allowed:
        raise forbidden("cannotCopyFile")
    document = request.document()
    if not document.get("parents") and source.parent:
        document["parents"] = [source.parent]
    document.setdefault("name", f"Copy of {source.name}")
    document.setdefault("mimeType", source.mime)
    return shown(world, request, create(world, request, Metadata(document), source.blob.data, source.mime))


# ---- reading -------------------------------------------------------------------------------------------------------


def get(world: World, request: Request) -> Reply:
    item = world.visible(request.ids[0], request.email, request.flag("supportsAllDrives"))
    return shown(world, request, item)


def get_media(world: World, request: Request) -> Reply:
    item = world.visible(request.ids[0], request.email, request.flag("supportsAllDrives"))
    if item.blob is None:
        raise forbidden("fileNotDownloadable")
    knows = request.flag("acknowledgeAbuse") and access.may_delete(world, item, request.email)
    if item.id in world.behaviour.abusive and not knows:
        raise forbidden("cannotDownloadAbusiveFile")
    blob = item.revisions[-1] if request.old_version and item.revisions else item.blob
    return ranged(world, request, blob.data, item.mime)


def ranged(world: World, request: Request, data: bytes, mime: str) -> Reply:
    """The bytes, or the part that the Range header names; 416 beyond the end."""
    headers = {"Content-Type": mime, "Accept-Ranges": "bytes", "Vary": "Origin"}
    asked = request.headers.get("Range")
    span = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.strip()) if asked else None
    ignored = request.ignore_range or not world.behaviour.range_honoured
    if span is None or span.group(0) == "bytes=-" or ignored:
        return Reply(200, data, headers)
    first, last = span.groups()
    if first:
        start, end = int(first), min(int(last) + 1 if last else len(data), len(data))
    else:
        start, end = max(0, len(data) - int(last)), len(data)
    if start >= len(data) or end <= start:
        refused = Refusal(416, "requestedRangeNotSatisfiable", "Request range not satisfiable", location="Range")
        reply = refused.reply()
        return Reply(416, reply.body, reply.headers | {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Reply(206, data[start:end], headers)
