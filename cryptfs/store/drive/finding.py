"""Finding the files of objects: those that are known, those that a query tells, those of a whole folder.

A listing only adds to what is known. What it does not show is asked for by its id, a few files at a time, and only
Drive's answer to that takes anything away.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from cryptfs.errors import NotFound
from cryptfs.store.base import Call, Stat, is_folder, is_key, split_key
from cryptfs.store.drive.client import Client
from cryptfs.store.drive.feed import stat_of
from cryptfs.store.drive.folders import BELIEVED_S, Folders, entry_of, spellings
from cryptfs.store.drive.idmap import Entry, IdMap

__all__ = ["Finder"]

_NOTICED: Final = ("c", "j", "l", "m", "w")
"""Folders of which a feed that starts over tells; packs are named by segments."""
_MISSED_S: Final = 10.0
"""Seconds after which an object that is in no folder known makes the folders be looked for again."""
_ASKED: Final = 10
"""Files that a listing hides and that are asked for by their id, before the next listing asks for others."""


class Finder:
    """Looks for objects of one vault. Thread-safe. Raises the store family."""

    def __init__(self, client: Client, ids: IdMap, folders: Folders) -> None:
        self._client = client
        self._ids = ids
        self._folders = folders

    def known(self, key: str) -> list[Entry]:
        """The files that are known under a key, the most trustworthy first."""
        return [entry for one in spellings(key) for entry in self._ids.copies(one)]

    def is_there(self, entry: Entry, call: Call) -> bool:
        """Ask Drive, which may say that it is gone."""
        try:
            file = self._client.file(entry.id, call)
        except NotFound:
            self._ids.forget(entry.id)
            return False
        if self._folders.key_of(file) != entry.key:  # in the trash, or moved out of the vault
            self._ids.forget(entry.id)
            return False
        return True

    def search(self, key: str, call: Call, *, surely: bool = False) -> list[Entry]:
        """Ask Drive for an object that this device has not heard of. It may be there although nothing is found.

        `surely`: also when a moment ago there was not even the folder.
        """
        asked: set[str] = set()
        self._ask(key, call, asked, 0.0 if surely else BELIEVED_S)
        if not self.known(key):
            # It may lie in a folder of that name that somebody made meanwhile.
            self._folders.look_if_old(call, _MISSED_S)
            self._ask(key, call, asked, BELIEVED_S)
        return self.known(key)

    def _ask(self, key: str, call: Call, asked: set[str], believed_s: float) -> None:
        """Ask for it in those folders that were not `asked` yet."""
        for spelling in spellings(key):
            folder, name = split_key(spelling)
            for parent in self._folders.of(folder, call, believed_s):
                if parent in asked:
                    continue
                asked.add(parent)
                try:
                    files = list(self._client.listing(parent, self._folders.drive(call), call, name=name))
                except NotFound:
                    self._folders.lost(parent, call)
                    continue
                self._ids.learn(entry_of(file, spelling) for file in files if file.name == name and not file.folder)

    def parts(self, prefix: str, call: Call) -> list[str]:
        """The objects at the top, and each folder with a slash, that can hold keys with this prefix; in their order."""
        folder, slash, _ = prefix.partition("/")
        if slash:
            return [f"{folder}/"] if is_folder(folder) else []
        self._folders.look(call)
        top = {entry.key for entry in self._ids.inside(self._folders.root)}
        everything = sorted([*top, *(f"{name}/" for name in self._ids.folder_names())])
        return [part for part in everything if part.startswith(prefix)]

    def noticed(self, call: Call) -> Iterable[Stat]:
        """What a feed that starts over tells of: everything but packs."""
        self._folders.look(call)
        folders = [folder for folder in _NOTICED if self._ids.folders(folder)]
        with ThreadPoolExecutor(len(_NOTICED), "drive-listing") as pool:  # each takes as long as a call
            listings = [pool.submit(lambda part: list(self.part(part, "", "", call)), f"{one}/") for one in folders]
        yield from map(stat_of, self._ids.inside(self._folders.root))
        for listing in listings:
            yield from listing.result()

    def part(self, part: str, prefix: str, after: str, call: Call) -> Iterator[Stat]:
        """The objects of one of `parts`, by ascending key; each key once."""
        entries = self._in_folder(part[:-1], call) if part.endswith("/") else self._ids.copies(part)
        found: dict[str, Stat] = {}
        for entry in entries:
            if entry.key.startswith(prefix) and entry.key > after:
                found.setdefault(entry.key, stat_of(entry))
        for key in sorted(found):
            yield found[key]

    def _in_folder(self, folder: str, call: Call) -> list[Entry]:
        """What lies in a folder and in its namesakes: the listing, and what is known beside it."""
        self._folders.look_if_old(call)
        shown: set[str] = set()
        for parent in self._folders.of(folder, call, 0.0):
            try:
                files = list(self._client.listing(parent, self._folders.drive(call), call))
            except NotFound:
                self._folders.lost(parent, call)
                continue
            files = [file for file in files if not file.folder and is_key(f"{folder}/{file.name}")]
            self._ids.learn(entry_of(file, f"{folder}/{file.name}") for file in files)
            shown.update(file.id for file in files)
        if not shown and self._ids.starting_with(f"{folder}/"):
            self._folders.look(call)  # an empty listing is also what Drive gives of a folder it does not show any more
        hidden = [entry for entry in self._ids.starting_with(f"{folder}/") if entry.id not in shown]
        for entry in sorted(hidden, key=lambda one: one.proven)[:_ASKED]:
            self.is_there(entry, call)
        return sorted(self._ids.starting_with(f"{folder}/"), key=lambda one: (not one.proven, not one.mine, one.id))
