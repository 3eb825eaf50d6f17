"""The key lineage of one file: its random id, its file keys by version, and their boxes for the log.

A content keeps its lineage through renames, copies in conflict and whole-file clones. A new file key is minted for the
first write to a new content and for the first write after the vault's key set changed, so that what is written after a
removal cannot be opened with keys from before it (docs/membership.md).
"""

from collections.abc import Container
from typing import Final, Protocol

from cryptfs.crypto.keys import FileKey, new_file_key, random_bytes
from cryptfs.errors import Invalid
from cryptfs.format.content import FileKeyBox
from cryptfs.group.keyring import Keyring

__all__ = ["Lineage"]


_NONE: Final[frozenset[int]] = frozenset()


class Keys(Protocol):
    """Who knows the vault's keys of now."""

    @property
    def keyring(self) -> Keyring: ...


class Lineage:
    """Keys of one file. `fid` 16 bytes, empty before the first write; `newest` version, -1 before it."""

    __slots__ = ("_boxes", "_keys", "_named", "_vault", "fid", "newest")

    def __init__(self, vault: Keys) -> None:
        self._vault = vault
        self._keys: dict[int, FileKey] = {}
        self._boxes: dict[int, FileKeyBox] = {}
        self.fid = b""
        self.newest = -1
        self._named = _NONE  # versions whose boxes stand in the operation of the sealed version

    def write_key(self) -> tuple[int, FileKey]:
        """Version and key that new chunks are sealed under; its box is made when a segment tells it."""
        if self.newest < 0 or not self._current():
            if self.newest < 0 and self.fid:
                raise RuntimeError("the keys of the sealed version were not loaded")
            if not self.fid:
                self.fid = random_bytes(16)
            self.newest += 1
            self._keys[self.newest] = new_file_key()
        return self.newest, self._keys.get(self.newest) or self.key(self.newest)

    def _current(self) -> bool:
        """Whether the newest key may serve for new chunks.

        While nobody knows what the vault's key is to be, one that has gone into a log may not: who is being put out may
        know it.
        """
        box, keyring = self._boxes.get(self.newest), self._vault.keyring
        return box is None or (keyring.may_seal and box.ks == keyring.write_keyset)

    def knows(self, fkv: int) -> bool:
        """Whether that version is known; else the root manifest may have it."""
        return fkv in self._keys or fkv in self._boxes

    def key(self, fkv: int) -> FileKey:
        """The key of a version. Raises Invalid if the file has none such, AuthError, NotAllowed."""
        key = self._keys.get(fkv)
        if key is None:
            box = self._boxes.get(fkv)
            if box is None:
                raise Invalid("a chunk names a file key that its file does not have")
            key = self._keys[fkv] = self._vault.keyring.open_file_key(box, self.fid)
        return key

    def box(self, fkv: int) -> FileKeyBox:
        """The box of a key for the log, made once."""
        box = self._boxes.get(fkv)
        if box is None:
            keyring = self._vault.keyring
            box = self._boxes[fkv] = keyring.box_file_key(keyring.write_keyset, self.fid, fkv, self.key(fkv))
        return box

    def to_keep(self, used: Container[int] = ()) -> tuple[tuple[int, FileKey], ...]:
        """(version, key) that the journal has to keep: what the sealed version does not tell by itself, and `used`.

        Not only new ones: a version without chunks names no key, but what is written into it later has one; and a root
        manifest, which has most, may be out of reach when the journal is read. `used` are versions of keys under which
        something was sealed that the journal is about to name. The version before it may count no more by then, and be
        gone from the tree with its keys.
        """
        return tuple((fkv, fk) for fkv, fk in sorted(self._keys.items()) if fkv not in self._named or fkv in used)

    def sealed_with(self, boxes: tuple[FileKeyBox, ...]) -> None:
        """There is a new sealed version, whose operation has these."""
        self._named = frozenset(box.fkv for box in boxes)
        self.learn_boxes(boxes)

    def learn_boxes(self, boxes: tuple[FileKeyBox, ...]) -> None:
        """Boxes that the sealed version names, itself or through its root manifest."""
        for box in boxes:
            self._boxes[box.fkv] = box
            self.newest = max(self.newest, box.fkv)

    def learn_keys(self, fid: bytes, keys: tuple[tuple[int, bytes], ...]) -> None:
        """Keys that the journal kept."""
        self.fid = fid
        for fkv, fk in keys:
            self._keys[fkv] = FileKey(fk)
            self.newest = max(self.newest, fkv)
