"""The methods of changes, about, permissions and drives."""

from tests.drive_emulator import access
from tests.drive_emulator.answers import Refusal, Reply, Request, forbidden, json_reply, not_found
from tests.drive_emulator.feed import Change
from tests.drive_emulator.fields import chosen
from tests.drive_emulator.files_api import whole_number
from tests.drive_emulator.items import ROLES, Item, Permission, at_least, stamp
from tests.drive_emulator.resources import (
    all_grants,
    drive_resource,
    file_resource,
    permission_resource,
    user_resource,
)
from tests.drive_emulator.world import World

# ---- changes -------------------------------------------------------------------------------------------------------


def _whose(world: World, request: Request) -> str:
    """The feed that is meant: of the user, or of a shared drive."""
    drive = request.query.get("driveId")
    if drive is None:
        return request.email
    if drive not in world.drives or not access.may_see(world, world.items[drive], request.email):
        raise Refusal(404, "notFound", f"Shared drive not found: {drive}", location="driveId")
    if not request.flag("supportsAllDrives"):
        raise Refusal(403, "teamDrivesParameterRequired", "supportsAllDrives must be true.")
    return "drive " + drive


def start_page_token(world: World, request: Request) -> Reply:
    end = world.feeds.end(_whose(world, request))
    reply = {"kind": "drive#startPageToken", "startPageToken": str(end + 1)}
    return json_reply(chosen("changes.getStartPageToken", request.query.get("fields"), reply))


def list_changes(world: World, request: Request) -> Reply:
    whose = _whose(world, request)
    token = request.query.get("pageToken")
    if token is None:
        raise Refusal(400, "required", "Required parameter: pageToken", location="pageToken")
    end = world.feeds.end(whose)
    if not token.isdecimal() or not 1 <= int(token) <= end + 1:
        raise Refusal(400, "invalid", "Invalid Value", location="pageToken")
    size = whole_number(request, "pageSize", 100, 1, 1000)
    start = int(token) - 1
    read = world.feeds.read(whose, start, size)
    changes = [one for one in (_change(world, request, entry) for entry in read) if one is not None]
    answer: dict[str, object] = {"kind": "drive#changeList", "changes": changes}
    after = start + len(read)
    answer["nextPageToken" if after < end else "newStartPageToken"] = str(after + 1)
    return json_reply(chosen("changes.list", request.query.get("fields"), answer))


def _change(world: World, request: Request, entry: Change) -> dict[str, object] | None:
    """The entry with the file as it is now, or None if this asker did not want to hear of it."""
    item = world.items.get(entry.file_id)
    drive = request.query.get("driveId")
    removed = entry.gone or item is None or not access.may_see(world, item, request.email)
    if removed and not request.flag("includeRemoved", True):
        return None
    if entry.drive is not None and not request.flag("includeItemsFromAllDrives"):
        return None
    if item is not None and drive is None and request.flag("restrictToMyDrive"):
        tops = list(access.chain(world.items, item))
        if tops[-1].id != world.users[request.email].root:
            return None
    change: dict[str, object] = {
        "kind": "drive#change",
        "type": "file",
        "changeType": "file",
        "time": stamp(entry.at),
        "removed": removed,
        "fileId": entry.file_id,
    }
    if entry.drive is not None:
        change["driveId"] = entry.drive
    if item is not None and not removed:
        change["file"] = file_resource(world, item, request.email)
    return change


# ---- about ---------------------------------------------------------------------------------------------------------


def about(world: World, request: Request) -> Reply:
    if "fields" not in request.query:
        raise Refusal(400, "required", "The 'fields' parameter is required for this method.", location="fields")
    user = world.users[request.email]
    used = world.bytes_of[user.email]
    in_trash = sum(
        item.size for item in world.items.values() if item.owner == user.email and access.is_trashed(world.items, item)
    )
    quota = {"usage": str(used), "usageInDrive": str(used - in_trash), "usageInDriveTrash": str(in_trash)}
    if user.storage is not None:
        quota["limit"] = str(user.storage)
    answer = {
        "kind": "drive#about",
        "user": user_resource(user, request.email),
        "storageQuota": quota,
        "maxUploadSize": "5242880000000",
        "appInstalled": True,
        "canCreateDrives": False,
        "importFormats": {},
        "exportFormats": {},
        "folderColorPalette": [],
    }
    return json_reply(chosen("about.get", request.query["fields"], answer))


# ---- permissions ---------------------------------------------------------------------------------------------------


def _shareable(world: World, request: Request) -> Item:
    """The file whose permissions are meant; only who may write sees them."""
    item = world.visible(request.ids[0], request.email, request.flag("supportsAllDrives"))
    if not at_least(access.role_of(world, item, request.email), "writer"):
        raise forbidden()
    return item


def _shown(world: World, item: Item, grant: Permission, source: str | None) -> dict[str, object]:
    detail: dict[str, object] = {"permissionType": "file", "role": grant.role, "inherited": source is not None}
    if source in world.drives:
        detail["permissionType"] = "member"
    if source is not None:
        detail["inheritedFrom"] = source
    return permission_resource(world, grant, [detail] if item.drive is not None or source is not None else None)


def list_permissions(world: World, request: Request) -> Reply:
    item = _shareable(world, request)
    size = whole_number(request, "pageSize", 100, 1, 100)
    start = int(request.query.get("pageToken", "0"))
    found = [_shown(world, item, grant, source) for grant, source in all_grants(world, item).values()]
    answer: dict[str, object] = {"kind": "drive#permissionList", "permissions": found[start : start + size]}
    if start + size < len(found):
        answer["nextPageToken"] = str(start + size)
    return json_reply(chosen("permissions.list", request.query.get("fields"), answer))


def _one(world: World, request: Request) -> tuple[Item, Permission, str | None]:
    item = _shareable(world, request)
    found = all_grants(world, item).get(request.ids[1])
    if found is None:
        message = f"Permission not found: {request.ids[1]}."
        raise Refusal(404, "notFound", message, location="permissionId")
    return item, *found


def get_permission(world: World, request: Request) -> Reply:
    item, grant, source = _one(world, request)
    return json_reply(chosen("permissions.get", request.query.get("fields"), _shown(world, item, grant, source)))


def _role(world: World, item: Item, request: Request, role: object) -> str:
    if role not in ROLES:
        raise Refusal(400, "invalid", "The permission role field is required.", location="permission.role")
    if role == "owner":
        raise Refusal(403, "forbidden", "The transferOwnership parameter must be enabled for this.")
    if role in ("organizer", "fileOrganizer") and (item.drive is None or item.id not in world.drives):
        raise Refusal(403, "cannotShareTeamDriveTopFolderWithAnyoneOrDomains", "This role is for shared drives.")
    if item.id in world.drives and access.role_of(world, item, request.email) != "organizer":
        raise forbidden()
    return str(role)


def create_permission(world: World, request: Request) -> Reply:
    item = _shareable(world, request)
    document = request.document()
    role, email = _role(world, item, request, document.get("role")), document.get("emailAddress")
    request.flag("sendNotificationEmail", True)
    if document.get("type") not in ("user", "group") or not isinstance(email, str) or "@" not in email:
        raise Refusal(400, "invalid", "The permission type or address is not usable.", location="permission.type")
    if email not in world.users or world.users[email].gone:
        # Google wants to write a letter to addresses without an account; for these nothing is emulated.
        message = 'Bad Request. User message: "You are trying to invite an address without a Google account."'
        raise Refusal(400, "invalidSharingRequest", message)
    user = world.users[email]
    grant = Permission(email, role, user.permission_id)
    if item.owner == email:
        grant = Permission(email, "owner", user.permission_id)
    elif item.id in world.drives:
        world.drives[item.id].members[grant.id] = grant
    else:
        item.grants[grant.id] = grant
        item.blocked.discard(grant.id)
    for one in world.below(item):
        world.changed(one)
    return json_reply(chosen("permissions.create", request.query.get("fields"), _shown(world, item, grant, None)))


def update_permission(world: World, request: Request) -> Reply:
    item, grant, source = _one(world, request)
    if source is not None or grant.role == "owner":
        raise Refusal(403, "cannotModifyInheritedPermission", "Cannot update an inherited permission.")
    grant.role = _role(world, item, request, request.document().get("role"))
    for one in world.below(item):
        world.changed(one)
    return json_reply(chosen("permissions.update", request.query.get("fields"), _shown(world, item, grant, None)))


def delete_permission(world: World, request: Request) -> Reply:
    """An owner may even take away from his file what comes from the folder it is in."""
    item, grant, source = _one(world, request)
    if grant.role == "owner" or (source is not None and item.owner != request.email):
        raise Refusal(403, "cannotDeletePermission", "The permission cannot be deleted.")
    manages = item.id not in world.drives or access.role_of(world, item, request.email) == "organizer"
    if not manages and grant.email != request.email:
        raise forbidden()
    below = world.below(item)
    saw = [world.who_sees(one) for one in below]
    if item.id in world.drives:
        world.drives[item.id].members.pop(grant.id)
    elif source is not None:
        item.blocked.add(grant.id)
    else:
        item.grants.pop(grant.id)
    for one, before in zip(below, saw, strict=True):
        world.changed(one, before)
    return Reply(204)


# ---- shared drives -------------------------------------------------------------------------------------------------


def list_drives(world: World, request: Request) -> Reply:
    permission = world.users[request.email].permission_id
    mine = [one for one in world.drives.values() if permission in one.members]
    answer = {"kind": "drive#driveList", "drives": [drive_resource(world, one, request.email) for one in mine]}
    return json_reply(chosen("drives.list", request.query.get("fields"), answer))


def get_drive(world: World, request: Request) -> Reply:
    drive = world.drives.get(request.ids[0])
    if drive is None or world.users[request.email].permission_id not in drive.members:
        raise not_found(request.ids[0])
    return json_reply(chosen("drives.get", request.query.get("fields"), drive_resource(world, drive, request.email)))
