"""Who may do what: roles as they are inherited, capabilities as they are told to each asker."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from tests.drive_emulator.items import ROLES, Item, SharedDrive, User, at_least
from tests.drive_emulator.settings import Behaviour


class Tree(Protocol):
    """What access is decided from."""

    items: dict[str, Item]
    drives: dict[str, SharedDrive]
    users: dict[str, User]

    @property
    def behaviour(self) -> Behaviour: ...


def chain(items: Mapping[str, Item], item: Item) -> Iterator[Item]:
    """The item, its folder, that one's folder, ..."""
    here: Item | None = item
    while here is not None:
        yield here
        here = items.get(here.parent) if here.parent else None


def is_trashed(items: Mapping[str, Item], item: Item) -> bool:
    """In the trash itself, or inside a folder that is."""
    return any(one.trashed for one in chain(items, item))


def role_of(tree: Tree, item: Item, email: str) -> str | None:
    """The greatest role `email` has on `item` by itself or through a folder above; None: it does not exist for them.

    Who owns a folder may write to what others put into it.
    """
    user = tree.users.get(email)
    if user is None or user.gone:
        return None
    if item.owner == email:
        return "owner"
    best = -1
    for one in chain(tree.items, item):
        grant = one.grants.get(user.permission_id)
        if grant is not None:
            best = max(best, ROLES.index(grant.role))
        if one.owner == email:
            best = max(best, ROLES.index("writer"))
        if user.permission_id in one.blocked:
            break  # what stands above was taken away here
    drive = tree.drives.get(item.drive or "")
    member = drive.members.get(user.permission_id) if drive else None
    if member is not None:
        best = max(best, ROLES.index(member.role))
    return ROLES[best] if best >= 0 else None


def may_see(tree: Tree, item: Item, email: str) -> bool:
    """Whether a get by id finds it."""
    if role_of(tree, item, email) is None:
        return False
    if item.drive is None and item.owner != email and is_trashed(tree.items, item):
        return tree.behaviour.others_read_trash
    return True


def may_trash(tree: Tree, item: Item, email: str) -> bool:
    """My Drive: the owner. Shared drive: who may organise files, and by a setting who may write."""
    role = role_of(tree, item, email)
    if item.drive is None:
        return role == "owner"
    return at_least(role, "writer" if tree.behaviour.writer_may_trash else "fileOrganizer")


def may_delete(tree: Tree, item: Item, email: str) -> bool:
    """For good: the owner, on a shared drive an organizer."""
    return role_of(tree, item, email) == ("owner" if item.drive is None else "organizer")


def may_move_out(tree: Tree, item: Item, email: str) -> bool:
    """Whether `email` may take `item` out of the folder it is in."""
    least = "writer" if item.drive is None else "fileOrganizer"
    return at_least(role_of(tree, item, email), least)


def capabilities(tree: Tree, item: Item, email: str) -> dict[str, bool]:
    """What Drive tells this asker about this item."""
    role = role_of(tree, item, email)
    write, folder = at_least(role, "writer"), item.is_folder
    top = item.id in tree.drives or any(user.root == item.id for user in tree.users.values())
    return {
        "canAddChildren": write and folder,
        "canChangeViewersCanCopyContent": write,
        "canComment": at_least(role, "commenter"),
        "canCopy": not folder and tree.behaviour.copies_allowed,
        "canDelete": may_delete(tree, item, email) and not top,
        "canDeleteChildren": folder and item.drive is not None and role == "organizer",
        "canDownload": not folder,
        "canEdit": write,
        "canListChildren": folder,
        "canModifyContent": write,
        "canMoveChildrenWithinDrive": folder and may_move_out(tree, item, email),
        "canMoveItemOutOfDrive": role in ("owner", "organizer") and not top,
        "canMoveItemWithinDrive": may_move_out(tree, item, email) and not top,
        "canReadDrive": item.drive is not None,
        "canReadRevisions": write and not folder,
        "canRemoveChildren": folder and may_move_out(tree, item, email),
        "canRename": write and not top,
        "canShare": write,
        "canTrash": may_trash(tree, item, email) and not top,
        "canTrashChildren": folder and item.drive is not None and may_trash(tree, item, email),
        "canUntrash": may_trash(tree, item, email) and not top,
    }
