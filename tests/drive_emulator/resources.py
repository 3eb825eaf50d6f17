"""Files, permissions and drives as the API shows them to one asker."""

import pathlib

from tests.drive_emulator import access
from tests.drive_emulator.items import Item, Permission, SharedDrive, User, at_least, stamp

Resource = dict[str, object]


def user_resource(user: User, asker: str) -> Resource:
    """An account."""
    return {
        "kind": "drive#user",
        "displayName": user.name,
        "me": user.email == asker,
        "permissionId": user.permission_id,
        "emailAddress": user.email,
    }


def permission_resource(tree: access.Tree, grant: Permission, details: list[Resource] | None = None) -> Resource:
    """A grant."""
    user = tree.users.get(grant.email)
    resource: Resource = {
        "kind": "drive#permission",
        "id": grant.id,
        "type": grant.type,
        "role": grant.role,
        "emailAddress": grant.email,
        "displayName": user.name if user else grant.email.partition("@")[0],
        "deleted": bool(user and user.gone),
        "pendingOwner": False,
    }
    if details is not None:
        resource["permissionDetails"] = details
    return resource


def all_grants(tree: access.Tree, item: Item) -> dict[str, tuple[Permission, str | None]]:
    """The strongest grant of everybody, by permission id, with the id it is inherited from (None: its own).

    Owners come as the role "owner" on what is theirs, and as "writer" on what others put into their folders.
    """
    found: dict[str, tuple[Permission, str | None]] = {}

    def offer(grant: Permission, source: str | None) -> None:
        known = found.get(grant.id)
        if known is None or (at_least(grant.role, known[0].role) and grant.role != known[0].role):
            found[grant.id] = (grant, source)

    blocked: set[str] = set()
    for one in access.chain(tree.items, item):
        source = None if one is item else one.id
        for grant in one.grants.values():
            if one is item or grant.id not in blocked:
                offer(grant, source)
        blocked |= one.blocked
        owner = tree.users.get(one.owner or "")
        if owner is not None and (one is item or owner.permission_id not in blocked):
            role = "owner" if one is item else "writer"
            offer(Permission(owner.email, role, owner.permission_id), source)
    drive = tree.drives.get(item.drive or "")
    for grant in drive.members.values() if drive else ():
        offer(grant, item.drive if item.id != item.drive else None)
    return found


def file_resource(tree: access.Tree, item: Item, asker: str) -> Resource:
    """A file as `asker` sees it, with every field this emulator knows."""
    role = access.role_of(tree, item, asker)
    trashed = access.is_trashed(tree.items, item)
    grants = all_grants(tree, item)
    resource: Resource = {
        "kind": "drive#file",
        "id": item.id,
        "name": item.name,
        "mimeType": item.mime,
        "starred": False,
        "trashed": trashed,
        "explicitlyTrashed": item.trashed,
        "spaces": ["drive"],
        "version": str(item.version),
        "webViewLink": f"https://drive.google.com/file/d/{item.id}/view",
        "createdTime": stamp(item.created),
        "modifiedTime": stamp(item.modified),
        "viewedByMe": item.changed_by == asker,
        "modifiedByMe": item.changed_by == asker,
        "writersCanShare": True,
        "copyRequiresWriterPermission": False,
        "viewersCanCopyContent": True,
        "isAppAuthorized": True,
        "hasThumbnail": False,
        "thumbnailVersion": "0",
        "quotaBytesUsed": str(item.size),
        "capabilities": access.capabilities(tree, item, asker),
        "shared": len(grants) > 1,
    }
    resource.update(item.extra)
    if trashed:
        resource["trashedTime"] = stamp(item.trashed_at)
    changer = tree.users.get(item.changed_by)
    if changer is not None:
        resource["lastModifyingUser"] = user_resource(changer, asker)
    above = tree.items.get(item.parent or "")
    if above is not None and access.role_of(tree, above, asker) is not None:
        resource["parents"] = [above.id]
    if item.drive is not None:
        resource |= {"driveId": item.drive, "teamDriveId": item.drive, "hasAugmentedPermissions": bool(item.grants)}
    else:
        resource["ownedByMe"] = item.owner == asker
        resource["owners"] = [user_resource(tree.users[item.owner or ""], asker)]
        if at_least(role, "writer"):
            resource["permissions"] = [permission_resource(tree, grant) for grant, _ in grants.values()]
    if at_least(role, "writer"):
        resource["permissionIds"] = list(grants)
    if item.blob is not None:
        suffix = pathlib.PurePosixPath(item.name).suffix[1:]
        resource |= {
            "size": str(item.size),
            "md5Checksum": item.blob.md5,
            "headRevisionId": f"{item.id}-{len(item.revisions)}",
            "originalFilename": item.name,
            "fileExtension": suffix,
            "fullFileExtension": suffix,
            "webContentLink": f"https://drive.google.com/uc?id={item.id}&export=download",
        }
        if item.checksums and tree.behaviour.sha256:
            resource |= {"sha1Checksum": item.blob.sha1, "sha256Checksum": item.blob.sha256}
    return resource


def drive_resource(tree: access.Tree, drive: SharedDrive, asker: str) -> Resource:
    """A shared drive as one of its members sees it."""
    member = drive.members.get(tree.users[asker].permission_id)
    role = member.role if member else None
    return {
        "kind": "drive#drive",
        "id": drive.id,
        "name": drive.name,
        "hidden": False,
        "createdTime": stamp(tree.items[drive.id].created),
        "capabilities": {
            "canAddChildren": at_least(role, "writer"),
            "canDeleteChildren": role == "organizer",
            "canTrashChildren": at_least(role, "fileOrganizer"),
            "canManageMembers": role == "organizer",
            "canRenameDrive": role == "organizer",
            "canListChildren": role is not None,
        },
    }
