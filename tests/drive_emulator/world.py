"""The truth of an emulated Drive: accounts, ids and files, and the acts that change them, each judged as Drive judges.

All methods are called under `lock`, by the API (`files_api.py`, ...) and by the object that tests hold alike. `asker`
is an e-mail address. Refusals are raised before anything changes.
"""

import copy
import random
import threading
from collections import Counter, deque
from dataclasses import dataclass

from tests.drive_emulator import access
from tests.drive_emulator.answers import Refusal, forbidden, not_found
from tests.drive_emulator.clock import Clock
from tests.drive_emulator.feed import Feeds
from tests.drive_emulator.items import FOLDER, Blob, Item, Permission, SharedDrive, User, at_least
from tests.drive_emulator.settings import Behaviour, GiB, Settings

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_PAST_STATES = 64  # of one item, kept for listings that lag


@dataclass(slots=True)
class Minted:
    """An id that was given out."""

    email: str
    at: float


@dataclass(slots=True)
class State:
    """What an item was from a moment on; None: it was not there."""

    at: float
    request: int
    item: Item | None


class World:
    """Everything there is. `requests` counts what came in, for listings that lag by that."""

    def __init__(self, settings: Settings, clock: Clock, seed: int) -> None:
        self.settings, self.clock = settings, clock
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.users: dict[str, User] = {}
        self.items: dict[str, Item] = {}
        self.drives: dict[str, SharedDrive] = {}
        self.minted: dict[str, Minted] = {}
        self.used: set[str] = set()  # ids of all that ever was
        self.children: dict[str, set[str]] = {}
        self.past: dict[str, deque[State]] = {}
        self.feeds = Feeds(settings, clock, self.random)
        self.requests = 0
        self.uploaded: dict[str, deque[tuple[float, int]]] = {}
        self.bytes_of: Counter[str] = Counter()  # by account, what is in the trash included
        self.items_in: Counter[str] = Counter()  # by shared drive

    @property
    def behaviour(self) -> Behaviour:
        return self.settings.behaviour

    # ---- accounts and ids ------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """33 letters, as Drive has them."""
        return "1" + "".join(self.random.choices(_LETTERS, k=32))

    def add_user(self, email: str, name: str = "", storage: int | None = 15 * GiB) -> User:
        """A new account with its My Drive, or the one that is there."""
        if email not in self.users:
            root = self.new_id()
            digits = "".join(self.random.choices("0123456789", k=20))
            self.users[email] = User(email, name or email.partition("@")[0].title(), digits, root, storage)
            now = self.clock.now()
            self.items[root] = Item(root, "My Drive", FOLDER, email, None, None, now, now)
            self.used.add(root)
        return self.users[email]

    def remove_user(self, email: str) -> None:
        """The account is deleted: all it owns goes, whoever may have used it."""
        for item in [one for one in self.items.values() if one.owner == email]:
            self._drop(item)
        self.users[email].gone = True

    def add_drive(self, name: str, roles: dict[str, str]) -> SharedDrive:
        """A shared drive with its members."""
        drive = SharedDrive("0A" + self.new_id()[:17], name)
        now = self.clock.now()
        self.items[drive.id] = Item(drive.id, name, FOLDER, None, drive.id, None, now, now)
        self.drives[drive.id] = drive
        for email, role in roles.items():
            user = self.add_user(email)
            drive.members[user.permission_id] = Permission(email, role, user.permission_id)
        return drive

    def mint(self, asker: str, count: int) -> list[str]:
        """Ids for files to come."""
        ids = [self.new_id() for _ in range(count)]
        now = self.clock.now()
        self.minted.update((one, Minted(asker, now)) for one in ids)
        return ids

    def check_new_id(self, asker: str, wanted: str) -> None:
        """Refuse an id that is taken (409), or that this account was not given (400)."""
        if wanted in self.used:
            raise Refusal(409, "fileIdInUse", "A file already exists with the provided ID.", location="file.id")
        mint = self.minted.get(wanted)
        life = self.behaviour.id_seconds
        if (
            mint is None
            or (mint.email != asker and not self.behaviour.foreign_ids)
            or (life is not None and self.clock.now() - mint.at > life)
        ):
            raise Refusal(400, "fileIdNotUsable", "The provided file ID is not usable.", location="file.id")

    # ---- looking ---------------------------------------------------------------------------------------------------

    def visible(self, file_id: str, asker: str, all_drives: bool = True) -> Item:
        """The item, if this account may see it. Raises Refusal 404."""
        if file_id == "root" and asker in self.users:
            file_id = self.users[asker].root
        item = self.items.get(file_id)
        if item is None or not access.may_see(self, item, asker) or (item.drive is not None and not all_drives):
            raise not_found(file_id)
        return item

    def check_room(self, owner: str | None, size: int) -> None:
        """Refuse what does not fit into the account that would own it."""
        user = self.users.get(owner or "")
        if user is not None and user.storage is not None and self.bytes_of[user.email] + size > user.storage:
            raise forbidden("storageQuotaExceeded")

    def as_listed(self, item_id: str) -> Item | None:
        """An item as listings show it now: with their lag, as it was some time ago."""
        listing = self.settings.listing
        if item_id in listing.hidden:
            return None
        if not listing.lag_seconds and not listing.lag_requests:
            return self.items.get(item_id)
        before, request = self.clock.now() - listing.lag_seconds, self.requests - listing.lag_requests
        for state in reversed(self.past.get(item_id, ())):
            if state.at <= before and state.request <= request:
                return state.item
        return None

    # ---- acts ------------------------------------------------------------------------------------------------------

    def check_parent(self, asker: str, parent_id: str | None, all_drives: bool) -> Item:
        """The folder something is to be put into; without a name the account's own. Raises Refusal."""
        parent = self.visible(parent_id or "root", asker, all_drives)
        if not parent.is_folder:
            raise Refusal(403, "parentNotAFolder", "The specified parent is not a folder.")
        if not at_least(access.role_of(self, parent, asker), "writer"):
            raise forbidden("insufficientParentPermissions")
        limits = self.settings.limits
        if len(self.children.get(parent.id, ())) >= limits.children:
            raise forbidden("numChildrenInNonRootLimitExceeded")
        if self.items_in[parent.drive or ""] >= limits.shared_drive_items:
            raise forbidden("teamDriveFileLimitExceeded")
        return parent

    def create(
        self,
        asker: str,
        parent: Item,
        name: str,
        mime: str,
        data: bytes | None,
        *,
        file_id: str | None = None,
        extra: dict[str, object] | None = None,
    ) -> Item:
        """Make a file, or (`data` None) a folder. `parent` is what `check_parent` gave. Raises Refusal."""
        if file_id is not None:
            self.check_new_id(asker, file_id)
        owner = None if parent.drive is not None else asker
        self.check_room(owner, len(data or b""))
        now = self.clock.now()
        blob = Blob.of(data) if data is not None else None
        file_id = file_id or self.new_id()
        item = Item(file_id, name, mime, owner, parent.drive, parent.id, now, now, blob, changed_by=asker)
        item.extra = dict(extra or {})
        self.items[file_id] = item
        self.used.add(file_id)
        self._count(item, 1)
        self.children.setdefault(parent.id, set()).add(file_id)
        self.changed(item)
        return item

    def replace(self, asker: str, item: Item, data: bytes) -> None:
        """New contents."""
        if not at_least(access.role_of(self, item, asker), "writer"):
            raise forbidden()
        self.check_room(item.owner, len(data) - item.size)
        item.modified, item.changed_by = self.clock.now(), asker
        self.put_bytes(item, data)

    def put_bytes(self, item: Item, data: bytes) -> None:
        """Other contents, whoever may want that."""
        self._count(item, -1)
        if item.blob is not None:
            item.revisions.append(item.blob)
        item.blob = Blob.of(data)
        self._count(item, 1)
        self.changed(item)

    def _count(self, item: Item, sign: int) -> None:
        """What an account stores and a shared drive holds."""
        if item.owner is not None:
            self.bytes_of[item.owner] += sign * item.size
        elif item.drive is not None:
            self.items_in[item.drive] += sign

    def move(self, asker: str, item: Item, add: str | None, remove: str | None, all_drives: bool) -> None:
        """Change the folder. Taken out of every folder, an item lands at the top of its owner's My Drive."""
        if remove is not None and item.parent != remove:
            remove = None  # Drive is silent about folders the file is not in
        if add is not None:
            target = self.check_parent(asker, add, all_drives)
            if target.id != item.parent and remove is None and item.parent is not None:
                raise forbidden("cannotAddParent")
            if any(one is item for one in access.chain(self.items, target)):
                raise Refusal(403, "cyclicMembershipsNotAllowed", "A folder cannot be put into itself.")
            if target.drive != item.drive:
                raise Refusal(403, "fileOwnerNotMemberOfTeamDrive", "This move between drives is not emulated.")
        elif remove is not None:
            if item.owner is None:
                raise Refusal(403, "teamDrivesParentLimit", "A shared drive item must have exactly one parent.")
            target = self.items[self.users[item.owner].root]
        else:
            return
        if not access.may_move_out(self, item, asker):
            raise forbidden()
        saw = self.who_sees(item)
        self.put_under(item, target.id)
        self.changed(item, saw)

    def put_under(self, item: Item, parent: str | None) -> None:
        """Only the change of place."""
        if item.parent is not None:
            self.children.get(item.parent, set()).discard(item.id)
        item.parent = parent
        if parent is not None:
            self.children.setdefault(parent, set()).add(item.id)

    def trash(self, asker: str, item: Item, trashed: bool) -> None:
        """Into the trash or out of it."""
        if not access.may_trash(self, item, asker):
            raise forbidden()
        if item.trashed != trashed:
            saw = self.who_sees(item)
            item.trashed, item.trashed_at = trashed, self.clock.now()
            self.changed(item, saw)

    def delete(self, asker: str, item: Item) -> None:
        """For good, with all in it that has the same owner; what others put there moves to their top folders."""
        if not access.may_delete(self, item, asker) or item.id in self.drives or item.parent is None:
            raise forbidden()
        self._delete_tree(item, item.owner)

    def _delete_tree(self, item: Item, owner: str | None) -> None:
        for child in [self.items[one] for one in self.children.get(item.id, set()) if one in self.items]:
            if child.owner == owner:
                self._delete_tree(child, owner)
            elif child.owner is not None:
                saw = self.who_sees(child)
                self.put_under(child, self.users[child.owner].root)
                self.changed(child, saw)
        self._drop(item)

    def _drop(self, item: Item) -> None:
        saw = self.who_sees(item)
        self.forget(item)
        for email in saw:
            self.feeds.add(email, item.id, item.drive, gone=True)
        self.feeds.note_drive(item.drive, item.id)

    def forget(self, item: Item) -> None:
        """Remove it and tell nobody."""
        self.put_under(item, None)
        if self.items.pop(item.id, None) is not None:
            self._count(item, -1)
        self._remember(item.id, None)

    def changed(self, item: Item, saw: set[str] | None = None) -> None:
        """Count the change, tell the feeds; those of `saw` who do not see it any more are told it was removed."""
        item.version += 1
        self._remember(item.id, item)
        sees = self.who_sees(item)
        for email in sees:
            self.feeds.add(email, item.id, item.drive, gone=False, foreign=item.owner not in (None, email))
        for email in (saw or set()) - sees:
            self.feeds.add(email, item.id, item.drive, gone=True)
        self.feeds.note_drive(item.drive, item.id)

    def who_sees(self, item: Item) -> set[str]:
        """All accounts that a get by id would serve."""
        return {email for email in self.users if access.may_see(self, item, email)}

    def below(self, item: Item) -> list[Item]:
        """The item and everything in it."""
        inside = [self.items[one] for one in self.children.get(item.id, set()) if one in self.items]
        return [item] + [deep for child in inside for deep in self.below(child)]

    def _remember(self, item_id: str, item: Item | None) -> None:
        states = self.past.setdefault(item_id, deque(maxlen=_PAST_STATES))
        states.append(State(self.clock.now(), self.requests, copy.copy(item) if item is not None else None))
