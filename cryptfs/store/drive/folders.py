"""The folders of a vault in Google Drive: found, made once, and split before they are full.

Two devices can make the folder `l` at the same moment, and Drive keeps both. Every device then reads both and writes to
the older one, so that nothing has to be mended. Packs go to `p` until that holds 200,000, then to `p0` … `pf` by their
first digit (docs/format.md, "Objects"); who looks for a pack looks in both.
"""

import threading
from collections.abc import Callable
from typing import Final

from cryptfs.errors import Denied, Exists, NotFound, Retry
from cryptfs.store.base import Call, is_folder, is_key, split_key
from cryptfs.store.drive.client import Client, File
from cryptfs.store.drive.errors import IdRefused
from cryptfs.store.drive.idmap import Entry, IdMap, Sums, Upload
from cryptfs.store.drive.turns import Turns

__all__ = ["BELIEVED_S", "Folders", "draw", "entry_of", "spellings"]

SPLIT_AT: Final = 200_000
"""Children of `p` from which on packs are spread; Drive takes 500,000, and other devices fill it meanwhile."""
_LOOK_AGAIN_S: Final = 60.0
"""Seconds after which the top of the vault is listed again: two folders of one name may have come to be."""
BELIEVED_S: Final = 1.0
"""Seconds for which a folder that was not there is believed not to be there."""
_IDS_AT_ONCE: Final = 200
_NO_SUMS: Final = Sums(-1, "", "")


def spellings(key: str) -> list[str]:
    """The key, and for a pack the other name that it may lie under."""
    folder, name = split_key(key)
    if folder == "p":
        return [key, f"p{name[0]}/{name}"]
    return [key, f"p/{name}"] if folder == f"p{name[0]}" else [key]


def entry_of(file: File, key: str, *, proven: bool = False) -> Entry:
    """What the table keeps of a file."""
    return Entry(file.id, key, file.parent, file.sums, file.mtime_ms, file.mine, proven)


def draw(client: Client, ids: IdMap, key: str, parent: str, sums: Sums, *, call: Call) -> Upload:
    """Begin an upload under an id of its own, minting some if need be."""
    upload = ids.begin(key, parent, sums)
    if upload is None:
        ids.add_ids(client.new_ids(_IDS_AT_ONCE, call))
        upload = ids.begin(key, parent, sums)
    if upload is None:
        raise Retry("Google Drive gave no ids for new files.", "It is tried again.")
    return upload


class Folders:
    """The vault whose top is the folder `root`. Thread-safe. Raises the store family."""

    def __init__(self, client: Client, ids: IdMap, root: str, now: Callable[[], float]) -> None:
        self._client = client
        self._ids = ids
        self.root = root
        self._now = now
        self._looked = float("-inf")
        self._lock = threading.Lock()
        self._turns = Turns()
        self.have_owners = ids.fact("drive") in ("", "-")
        """Whether what lies in them belongs to accounts, as far as is known; on a shared drive it does not."""
        self._mine: dict[str, bool] = {}  # folders by id; who made one stays its owner

    # ---- what there is ----------------------------------------------------------------------------------------------

    def drive(self, call: Call) -> str:
        """Id of the shared drive that the vault lies on; empty for somebody's My Drive."""
        known = self._ids.fact("drive")
        if not known:
            self.look(call)
            known = self._ids.fact("drive")
        return "" if known == "-" else known

    def look(self, call: Call) -> None:
        """List the top of the vault: folders and the objects beside them. Denied if the vault's folder is gone."""
        try:
            top = self._client.file(self.root, call)
            if top.trashed or not top.folder:
                raise self.gone()
            self._ids.set_fact("drive", top.drive or "-")
            self.have_owners = not top.drive
            found = list(self._client.listing(top.id, top.drive, call))
        except NotFound as error:
            raise self.gone() from error
        for file in found:
            if file.folder and is_folder(file.name):
                self._ids.learn_folder(file.id, file.name, file.made)
        objects = [file for file in found if not file.folder and is_key(file.name)]
        self._ids.learn(entry_of(file, file.name) for file in objects)
        with self._lock:
            self._looked = self._now()

    def look_if_old(self, call: Call, seconds: float = _LOOK_AGAIN_S) -> None:
        """As `look`, unless that was done less than that ago."""
        with self._lock:
            fresh = self._now() - self._looked < seconds
        if not fresh:
            self.look(call)

    def of(self, name: str, call: Call, believed_s: float = BELIEVED_S) -> list[str]:
        """Ids of all folders of that name, "" for the top itself; the one to write to first. Empty if there is none.

        `believed_s`: seconds for which a folder that was not there is believed not to be there.
        """
        if not name:
            return [self.root]
        found = self._ids.folders(name)
        if not found:
            self.look_if_old(call, believed_s)
            found = self._ids.folders(name)
        return found

    def name_of(self, parent: str) -> str | None:
        """Which folder of the vault an id is, "" for its top; None if it is none."""
        return "" if parent == self.root else self._ids.folder_name(parent)

    def key_of(self, file: File) -> str | None:
        """The key of a file, None if it is no object of this vault."""
        folder = self.name_of(file.parent)
        if folder is None or file.folder or file.trashed:
            return None
        key = f"{folder}/{file.name}" if folder else file.name
        return key if is_key(key) else None

    # ---- a place for a new object ------------------------------------------------------------------------------------

    def place_for(self, key: str, call: Call) -> tuple[str, str]:
        """Where a new object of that key goes: the key as it will be spelled, and the folder's id."""
        folder, name = split_key(key)
        if not folder:
            self.drive(call)  # also says whether the vault is there at all
            return key, self.root
        parent = self.made(folder, call)
        if folder == "p" and self._ids.count_in(parent) >= SPLIT_AT:
            return f"p{name[0]}/{name}", self.made(f"p{name[0]}", call)
        return key, parent

    def made(self, name: str, call: Call) -> str:
        """The folder to write to; made if there is none yet."""
        found = self.of(name, call)
        if found:
            return found[0]
        with self._turns.of(name, call):
            found = self._ids.folders(name)
            return found[0] if found else self._make(name, call)

    def of_mine(self, key: str, parent: str, call: Call) -> str:
        """A folder that `key` can lie in and that does not go with another account; `parent` is where it lies now."""
        name, _ = split_key(key)
        for folder in [parent, *self.of(name, call)] if name else []:
            if self._is_mine(folder, call):
                return folder
        if not name:
            return self.root
        with self._turns.of(name, call):
            return next((one for one in self._ids.folders(name) if self._is_mine(one, call)), "") or self._make(
                name, call
            )

    def _is_mine(self, folder: str, call: Call) -> bool:
        if folder not in self._mine:
            try:
                self._mine[folder] = self._client.file(folder, call).mine is True
            except NotFound:
                return False
        return self._mine[folder]

    def _make(self, name: str, call: Call) -> str:
        """Make it under an id that is known before, so that a lost answer does not lead to a second one."""
        key = f"folder:{name}"
        upload = self._ids.upload(key) or draw(self._client, self._ids, key, self.root, _NO_SUMS, call=call)
        try:
            file = self._client.create_folder(upload.id, name, self.root, call)
        except Exists:
            file = self._made_before(key, upload, call)
        except NotFound as error:
            raise self.gone() from error
        except IdRefused as error:
            self._ids.drop_ids()
            self._ids.ended(key)
            raise Retry(str(error), error.advice, passing=True) from error
        self._ids.learn_folder(file.id, name, file.made)
        self._ids.ended(key)
        return file.id

    def _made_before(self, key: str, upload: Upload, call: Call) -> File:
        try:
            file = self._client.file(upload.id, call)
        except NotFound as error:  # and deleted since
            self._ids.ended(key)
            raise Retry("A folder of the vault was made and is gone.", "It is tried again.", passing=True) from error
        if file.trashed:
            self._ids.ended(key)
            raise Retry("A folder of the vault was made and is gone.", "It is tried again.", passing=True)
        return file

    def lost(self, parent: str, call: Call) -> None:
        """Drive does not know a folder any more: forget it, and see whether the vault is there at all."""
        self._ids.forget_folder(parent)
        self.look(call)

    def gone(self) -> Denied:
        """What to say when the folder of the vault is not there."""
        return Denied(
            "The vault's folder is not to be found in Google Drive: deleted, in the trash, or not shared any more.",
            "Have its owner restore it or share it again; this device serves what it has and keeps your changes.",
            state="folder gone",
        )
