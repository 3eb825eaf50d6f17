"""What happened in a vault, out of the feed of changes of a whole Google account.

A cursor is the table's own name and Google's token: the feed tells of what is gone by its id alone, so a token is of no
use without the table that knows what the ids were. Any other cursor, or one that Google refuses, starts over: the token
first, then a listing, so that nothing falls between the two.
"""

from collections.abc import Callable, Iterable

from cryptfs.crypto.keys import random_bytes
from cryptfs.errors import Fatal, NotFound
from cryptfs.store.base import Call, Change, Changes, Stat, is_folder
from cryptfs.store.drive.client import Client, File, FileChange
from cryptfs.store.drive.folders import Folders, entry_of
from cryptfs.store.drive.idmap import Entry, IdMap

__all__ = ["Feed", "stat_of"]


def stat_of(entry: Entry) -> Stat:
    """The object as the protocol describes it."""
    return Stat(entry.key, entry.sums.size, entry.mtime_ms, entry.id)


class Feed:
    """The feed of one vault. `listing` gives all objects that need be told. Thread-safe."""

    def __init__(self, client: Client, ids: IdMap, folders: Folders, listing: Callable[[Call], Iterable[Stat]]) -> None:
        self._client = client
        self._ids = ids
        self._folders = folders
        self._listing = listing
        if not ids.fact("run"):
            ids.set_fact("run", random_bytes(8).hex())
        self._run = ids.fact("run")

    def since(self, cursor: str, call: Call) -> Changes:
        """See Store.changes."""
        run, _, token = cursor.partition(".")
        if run == self._run and token:
            try:
                return self._follow(token, call)
            except (NotFound, Fatal):
                pass  # Google has forgotten the token
        return self._start_over(call)

    def _start_over(self, call: Call) -> Changes:
        token = self._client.start_token(self._folders.drive(call), call)
        return [Change(stat.key, stat) for stat in self._listing(call)], f"{self._run}.{token}"

    def _follow(self, token: str, call: Call) -> Changes:
        drive = self._folders.drive(call)
        told: dict[str, Change] = {}  # by id, the last word on each
        while True:
            rows, token, more = self._client.changes(token, drive, call)
            for row in rows:
                for file_id, change in self._taken(row, drive, call):
                    told.pop(file_id, None)
                    told[file_id] = change
            if not more:
                return list(told.values()), f"{self._run}.{token}"

    def _taken(self, row: FileChange, drive: str, call: Call) -> list[tuple[str, Change]]:
        """Put one row into the table; returns what it says about objects of the vault, by id."""
        file = row.file
        if file is not None and file.folder:
            return self._folder(file, drive, call)
        key = self._folders.key_of(file) if file is not None else None
        if file is not None and key is not None:
            entry = entry_of(file, key)
            self._ids.learn([entry])
            return [(file.id, Change(key, stat_of(entry)))]
        before = self._ids.forget(row.id)
        if before is None:
            if self._folders.name_of(row.id):
                self._ids.forget_folder(row.id)
            return []
        left = self._ids.copies(before.key)
        return [(row.id, Change(before.key, stat_of(left[0]) if left else None))]

    def _folder(self, file: File, drive: str, call: Call) -> list[tuple[str, Change]]:
        """A folder came, went or changed. What lies in a new one may have been told before it: it is listed."""
        known = self._folders.name_of(file.id)
        if file.trashed or file.parent != self._folders.root or not is_folder(file.name):
            if known:
                self._ids.forget_folder(file.id)
            return []
        self._ids.learn_folder(file.id, file.name, file.made)
        if known is not None:
            return []
        found = []
        for inside in self._client.listing(file.id, drive, call):
            key = self._folders.key_of(inside)
            if key is not None:
                entry = entry_of(inside, key)
                self._ids.learn([entry])
                found.append((inside.id, Change(key, stat_of(entry))))
        return found
