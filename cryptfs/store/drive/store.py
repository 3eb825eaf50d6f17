"""A vault's objects in a folder of Google Drive, shared by people with accounts of their own (docs/google-drive.md).

Drive has no unique names, no strong listings and no conditional writes; the files have ids. So a key is a name that
several files may bear, of which this device knows some (`idmap.py`); what it learns adds to that, and only Drive's own
word on an id takes anything away.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from cryptfs.errors import Denied, NotFound
from cryptfs.faults import Faults
from cryptfs.store.base import MONOTONIC, Access, Buffer, Call, Cap, Changes, Clock, Space, Stat, split_key
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.client import Client
from cryptfs.store.drive.feed import Feed, stat_of
from cryptfs.store.drive.finding import Finder
from cryptfs.store.drive.folders import Folders
from cryptfs.store.drive.idmap import IdMap
from cryptfs.store.drive.owning import Ownership
from cryptfs.store.drive.quota import Limits, Pace
from cryptfs.store.drive.reading import Reader
from cryptfs.store.drive.room import Room
from cryptfs.store.drive.sharing import Permissions
from cryptfs.store.drive.source import BytesSource, opened_file
from cryptfs.store.drive.uploads import Uploads

__all__ = ["DriveStore"]


class DriveStore:
    """Keeps objects in the Drive folder with the id `folder`, as the account of `access`.

    `table` is the file that remembers ids and unfinished uploads, sealed under `key`; None: in memory. Opening does no
    network. `limits` of the pace are for tests and for accounts that may do more; `reload` reads the login again.
    """

    def __init__(
        self,
        access: DriveAccess,
        folder: str,
        table: Path | None = None,
        *,
        key: bytes | None = None,
        clock: Clock = MONOTONIC,
        limits: Limits | None = None,
        faults: Faults | None = None,
        reload: Callable[[], DriveAccess] | None = None,
    ) -> None:
        self._ids = IdMap(table, key, f"{folder} {access.client_id} {access.account}")
        self.client = Client(access, clock, Pace(clock.now(), limits), reload)
        self._folders = Folders(self.client, self._ids, folder, clock.now)
        self._finder = Finder(self.client, self._ids, self._folders)
        self._uploads = Uploads(self.client, self._ids, self._folders, faults or Faults())
        self._reader = Reader(self.client, self._ids, self._finder.known, self._finder.search)
        self._feed = Feed(self.client, self._ids, self._folders, self._finder.noticed)
        self._room = Room(self.client)
        self._ownership = Ownership(
            self.client, self._ids, self._folders, self._finder, uploads=self._uploads, room=self._room
        )
        self._permissions = Permissions(self.client, self._folders)

    @property
    def caps(self) -> frozenset[Cap]:
        """See Store. On a shared drive, once that is known, nothing has an owner."""
        owners = {Cap.OWNERS} if self._folders.have_owners else set()
        return frozenset({Cap.ATOMIC_PUT, Cap.TWINS, Cap.COPY, Cap.CHANGES} | owners)

    def put(self, key: str, data: Buffer, call: Call, *, if_absent: bool = False) -> Stat:  # noqa: ARG002 - cannot tell
        """See Store. `Fatal` with the state "alarm" if Drive holds other bytes than were sent."""
        split_key(key)
        call.check()
        source = BytesSource(data)
        with self._room.for_bytes(source.sums.size, call):
            return stat_of(self._uploads.put(key, source, call))

    def put_file(self, key: str, path: Path, call: Call, *, if_absent: bool = False) -> Stat:  # noqa: ARG002 - as put
        """See Store."""
        split_key(key)
        call.check()
        with opened_file(path, call) as source, self._room.for_bytes(source.sums.size, call):
            return stat_of(self._uploads.put(key, source, call))

    def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        """See Store. `Denied` when Drive gives out no copy of it."""
        split_key(key)
        call.check()
        return self._reader.get(key, call, start, length)

    def stat(self, key: str, call: Call) -> Stat | None:
        """See Store."""
        split_key(key)
        call.check()
        for entry in self._finder.known(key):
            if self._finder.is_there(entry, call):
                return stat_of(entry)
        found = self._finder.search(key, call)
        return stat_of(found[0]) if found else None

    def delete(self, key: str, call: Call) -> None:
        """See Store. Deletes the copies that this account may delete, for good; `Denied` if that is none."""
        split_key(key)
        call.check()
        deleted = denied = 0
        for entry in self._finder.known(key) or self._finder.search(key, call, surely=True):
            try:
                file = self.client.file(entry.id, call)
                if file.trashed and file.may_delete is False:
                    raise NotFound("in its owner's trash")  # noqa: TRY301 - as good as gone
                if file.may_delete is False:
                    denied += 1
                    continue
                self.client.delete(entry.id, call)
            except NotFound:
                pass
            deleted += 1
            self._ids.forget(entry.id)
        if denied and not deleted:
            raise Denied(
                f"{key} belongs to another Google account, which alone can delete it.",
                "A device of its owner removes it; `cryptfs-admin adopt` takes such objects over.",
            )

    def take_over(self, key: str, call: Call) -> bool:
        """See Owning. On a shared drive nothing belongs to anybody's account, and nothing is done."""
        split_key(key)
        call.check()
        return self._ownership.take_over(key, call)

    def hand_over(self, key: str, call: Call) -> bool:
        """See Owning."""
        split_key(key)
        call.check()
        return self._ownership.hand_over(key, call)

    def list(self, prefix: str, call: Call, after: str = "") -> Iterator[Stat]:
        """See Store. What is known and not shown is listed too, until Drive itself says that it is gone."""
        call.check()
        for part in self._finder.parts(prefix, call):
            yield from self._finder.part(part, prefix, after, call)

    def changes(self, cursor: str, call: Call) -> Changes:
        """See Store."""
        call.check()
        return self._feed.since(cursor, call)

    def space(self, call: Call) -> Space | None:
        """See Store. A shared drive does not say."""
        call.check()
        return None if self._folders.drive(call) else self.client.about(call)[1]

    def access(self, call: Call) -> tuple[Access, ...]:
        """See Sharing."""
        return self._permissions.access(call)

    def grant(self, account: str, call: Call, *, letter: bool) -> bool:
        """See Sharing."""
        return self._permissions.grant(account, call, letter=letter)

    def withdraw(self, account: str, call: Call) -> bool:
        """See Sharing."""
        return self._permissions.withdraw(account, call)

    def senders(self, folder: str, call: Call) -> dict[str, str]:
        """See Sharing."""
        return self._permissions.senders(folder, call)

    def close(self) -> None:
        """See Store."""
        self.client.close()
        self._ids.close()
