"""Whose account an object lies in, where each file belongs to who made it (docs/google-drive.md, "Accounts that go").

With an account go its files and its folders, and what others have in those is shared with nobody any more. So a copy
of one's own is put into a folder of one's own, beside the other account's and of the same name: all read both.
Files are not transferred: that takes both accounts, one after the other, and Google refuses it between domains; a copy
takes one call, and the old owner's device deletes the original when it sees that it may.
"""

from typing import Final

from cryptfs.errors import Denied, Fatal, NotFound, Retry
from cryptfs.store.base import Call
from cryptfs.store.drive.client import Client
from cryptfs.store.drive.errors import IdRefused
from cryptfs.store.drive.finding import Finder
from cryptfs.store.drive.folders import Folders
from cryptfs.store.drive.idmap import Entry, IdMap, Sums
from cryptfs.store.drive.reading import bears_its_hash, is_named_by_hash
from cryptfs.store.drive.room import Room
from cryptfs.store.drive.source import BytesSource
from cryptfs.store.drive.uploads import Uploads

__all__ = ["Ownership"]

_VARIANTS: Final = 4
"""Files of one name and different bytes that are copied: which is right only a reader can tell, and who may write to
the folder can make any number."""


class Ownership:
    """What this account owns of the objects of one vault. Thread-safe. Raises the store family."""

    def __init__(
        self, client: Client, ids: IdMap, folders: Folders, finder: Finder, *, uploads: Uploads, room: Room
    ) -> None:
        self._client = client
        self._ids = ids
        self._folders = folders
        self._finder = finder
        self._uploads = uploads
        self._room = room

    def take_over(self, key: str, call: Call) -> bool:
        """See Owning. Fatal, if no file under that name has the bytes that the name says."""
        if self._folders.drive(call):
            return False
        there = self._there(key, call) or self._there(key, call, ask=True)
        if not there:
            raise NotFound(f"Google Drive has no object {key}.")
        named = is_named_by_hash(key)
        right = [entry for entry in there if not named or not entry.sums.sha256 or bears_its_hash(entry)]
        if not right:
            raise Fatal(
                f"What Google Drive has under {key} is not what that name says.",
                "`cryptfs fsck NAME --heal` on a device that has it sends it again.",
            )
        mine = [entry.sums for entry in right if entry.mine]
        if mine and named:
            return False
        lacking: dict[Sums, Entry] = {}
        for entry in right:
            if not any(entry.sums.agree(one) for one in mine):
                lacking.setdefault(entry.sums, entry)
        for entry in list(lacking.values())[:_VARIANTS]:
            with self._room.for_bytes(entry.sums.size, call):
                self._copy(entry, call)
        return bool(lacking)

    def hand_over(self, key: str, call: Call) -> bool:
        """See Owning. Asks nothing of Drive about what this device does not know to be its account's own."""
        if not any(entry.mine for entry in self._finder.known(key)) or self._folders.drive(call):
            return False
        there = self._there(key, call, ask=True)
        theirs = [entry.sums for entry in there if entry.mine is False and entry.sums.sha256]
        deleted = False
        for entry in there:
            # Both SHA-256: others can make files whose MD5 is that of ours.
            if entry.mine and entry.sums in theirs:
                self._client.delete(entry.id, call)
                self._ids.forget(entry.id)
                deleted = True
        return deleted

    def _there(self, key: str, call: Call, *, ask: bool = False) -> list[Entry]:
        """The files that Drive itself says to be there; `ask`: also of those that this device has not heard of."""
        if ask:
            self._folders.look(call)  # the other account may have made one of its own
            self._finder.search(key, call, surely=True)
        return [entry for entry in self._finder.known(key) if self._finder.is_there(entry, call)]

    def _copy(self, entry: Entry, call: Call) -> None:
        parent = self._folders.of_mine(entry.key, entry.parent, call)
        try:
            self._uploads.copy(entry, parent, call)
        except IdRefused:
            raise
        except NotFound as error:
            if not self._finder.is_there(entry, call):
                raise
            self._folders.lost(parent, call)
            raise Retry("A folder of the vault is gone.", "It is tried again.", passing=True) from error
        except Denied:
            self._carry(entry, parent, call)

    def _carry(self, entry: Entry, parent: str, call: Call) -> None:
        """Copy by hand: its owner may have forbidden that Drive does it."""
        _, _, data = self._client.read(entry.id, call)
        source = BytesSource(data)
        if not source.sums.agree(entry.sums):
            raise Retry(f"Google Drive sent other bytes of {entry.key} than it says it has.")
        self._uploads.put_beside(entry.key, parent, source, call)
