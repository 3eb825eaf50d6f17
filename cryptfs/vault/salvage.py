"""Puts files together from what packs and single segments tell of them (docs/replication.md, "Salvage").

Of each file the latest known size and, chunk by chunk, the latest sealed chunk that fits it. What opens is what some
member sealed for this place of this content; whether all chunks belong to one version only signed hashes can tell, and
each file is said to be one or the other. Zeros stand where nothing was found, and the name says so.
"""

import contextlib
import enum
import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import BinaryIO, Final

from cryptfs.crypto.keys import FileKey, chunk_ctx
from cryptfs.crypto.seal import open_sealed, sealed_len
from cryptfs.errors import AuthError, HostileStore, LocalDiskFull, NotAllowed
from cryptfs.format.content import CHUNK_LOG2S
from cryptfs.format.content_rules import plain_chunk_len
from cryptfs.group.keyring import Keyring
from cryptfs.tree.conflict_name import marked_name
from cryptfs.vault.outside import Outside, tame
from cryptfs.vault.remains import Called, Part, Remains, Told

__all__ = ["Grade", "Salvage", "Salvaged"]

_NO_NAME: Final = b"without a name"
_INCOMPLETE: Final = b" (incomplete)"
_NS_PER_MS: Final = 1_000_000
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_MS_MAX: Final = 253_402_300_800_000
"""The year 10000; what claims to be later bears the time at which it was written here."""
_HASH: Final = 32
_TRIES: Final = 16
"""Sealed chunks tried for one place; a hostile index may name any number that do not open."""


class Grade(enum.Enum):
    """How much of a file there is."""

    SIGNED = "as it was signed"
    FOUND = "every part found, not attributable"
    EARLIER = "an earlier version, nothing of the latest one can be read"
    INCOMPLETE = "parts are missing"
    LOST = "nothing of it can be read"
    REFUSED = "could not be written here"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of one file. `meant`: its path in the vault, empty if unknown; `path` below the target, empty if it
    was not written; `missing` bytes of `size`; `by`: who signed it, or why it was refused.
    """  # noqa: D205 - one sentence

    meant: bytes
    path: bytes
    grade: Grade
    size: int
    missing: int
    by: str


class Salvage:
    """Writes what `remains` tell of into `outside`."""

    def __init__(self, remains: Remains, keyring: Keyring, outside: Outside) -> None:
        self._remains = remains
        self._keyring = keyring
        self._outside = outside
        self._keys: dict[int, list[FileKey]] = {}
        self.older = 0
        """Older contents of files of which the latest one was written."""

    def run(self) -> Iterator[Salvaged]:
        """Write every file, the latest one first. Raises StoreError, LocalDisk."""
        files = [(words, fid) for fid, told in self._remains.contents.items() for words in _files(told)]
        done = set[bytes]()
        for words, fid in sorted(files, reverse=True):
            ino = words[0].ino
            if ino in done:
                self.older += 1
                continue
            self._keys.clear()
            file = self._file(fid, self._remains.contents[fid], words)
            if file.path and ino:
                done.add(ino)
            yield file

    def _file(self, fid: bytes, told: Told, words: list[Called]) -> Salvaged:
        """The latest version of which there is anything; `words` on it, the latest first."""
        newest = words[0]
        meant = self._remains.path_of(newest.ino) if newest.ino else b""
        meant = meant or next((one.path for one in [*words, *chain(*told.called.values())] if one.path), b"")
        names = tame(meant) or [_NO_NAME, (newest.ino or fid).hex().encode()]
        file = None
        for called in words:
            try:
                tried = self._write(fid, _Layout(told, called), meant, names)
            except OSError as err:
                if err.errno in _FULL:
                    raise LocalDiskFull("The disk is full (writing salvaged files).", "Begin anew elsewhere.") from err
                tried = Salvaged(meant, b"", Grade.REFUSED, called.size, 0, os.strerror(err.errno or 0))
            if file is not None and tried.grade in {Grade.SIGNED, Grade.FOUND}:
                return replace(tried, grade=Grade.EARLIER)
            if tried.grade is not Grade.LOST:
                return tried
            file = file or tried
        return file or Salvaged(meant, b"", Grade.LOST, newest.size, newest.size, "")

    def _write(self, fid: bytes, layout: "_Layout", meant: bytes, names: list[bytes]) -> Salvaged:
        called, digest, found = layout.called, hashlib.sha256(), 0
        out: BinaryIO | None = None
        path = b""
        try:
            for chunk, parts in layout.chunks():
                plain = self._open(fid, layout.told, parts)
                if plain is None:
                    continue
                if out is None:
                    out, path = self._outside.create(names)
                out.seek(chunk << layout.log2)
                out.write(plain)
                digest.update(plain)
                found += len(plain)
            missing = called.size - found - layout.hole
            if out is None and missing:
                return Salvaged(meant, b"", Grade.LOST, called.size, missing, self._why(fid, layout.told))
            if out is None:
                out, path = self._outside.create(names)
            if not missing:
                out.truncate(called.size)
            out.flush()
            if 0 <= called.ms < _MS_MAX:
                os.utime(out.fileno(), ns=(called.ms * _NS_PER_MS, called.ms * _NS_PER_MS))
        finally:
            if out is not None:
                out.close()
        if missing:
            path = self._outside.rename(path, [*names[:-1], marked_name(names[-1], _INCOMPLETE)])
            return Salvaged(meant, path, Grade.INCOMPLETE, called.size, missing, "")
        signed = called.by and (called.whole or (found == called.size and called.digest == digest.digest()))
        grade = Grade.SIGNED if signed else Grade.FOUND
        return Salvaged(meant, path, grade, called.size, 0, called.by if signed else "")

    def _open(self, fid: bytes, told: Told, parts: list[Part]) -> bytes | None:
        """The bytes of the first of these parts that opens; at most some are tried. None if none does."""
        for part in parts[:_TRIES]:
            ctx = chunk_ctx(self._keyring.vault, fid, part.fkv, part.chunk, part.plain_len, 0)
            for holder, base in self._remains.holders.get(part.place, ()):
                sealed = holder.read(base + part.off, sealed_len(part.plain_len))
                if hashlib.sha256(sealed).digest() != part.hash:
                    continue
                for key in self._keys_of(fid, part.fkv, told):
                    with contextlib.suppress(AuthError):
                        return open_sealed(key, ctx, sealed)
        return None

    def _keys_of(self, fid: bytes, fkv: int, told: Told) -> list[FileKey]:
        if fkv not in self._keys:
            found = self._keys[fkv] = []
            for box in told.boxes.get(fkv, ()):
                with contextlib.suppress(HostileStore, NotAllowed):
                    found.append(self._keyring.open_file_key(box, fid))
        return self._keys[fkv]

    def _why(self, fid: bytes, told: Told) -> str:
        known = any(self._keys_of(fid, fkv, told) for fkv in {part.fkv for part in told.parts})
        return "" if known else "this device has no key for it"


class _Layout:
    """Which parts may stand where in a file: `hole` bytes of it are known to be zeros."""

    def __init__(self, told: Told, called: Called) -> None:
        self.told = told
        self.called = called
        self.log2 = called.chunk_log2 or _likely_log2(told.parts, called.size)
        self.hole = sum(self._span(first, count) for first, count in called.holes)
        signed = {
            first + at // _HASH: hashes[at : at + _HASH]
            for first, hashes in called.runs
            for at in range(0, len(hashes), _HASH)
        }
        self._parts: dict[int, list[Part]] = {}
        for part in told.parts:
            known = signed.get(part.chunk, b"" if called.whole else part.hash)
            if part.hash == known and _fits(part, called.size, self.log2) and not self._is_hole(part.chunk):
                self._parts.setdefault(part.chunk, []).append(part)

    def _span(self, first: int, count: int) -> int:
        return min(self.called.size, (first + count) << self.log2) - (first << self.log2)

    def _is_hole(self, chunk: int) -> bool:
        return any(first <= chunk < first + count for first, count in self.called.holes)

    def chunks(self) -> Iterator[tuple[int, list[Part]]]:
        """Each chunk of which there are parts, ascending, with them: the latest first that the name may know of."""
        for chunk in sorted(self._parts):
            parts = self._parts[chunk]
            parts.sort(key=lambda part: (part.ms <= self.called.ms, part.ms), reverse=True)
            yield chunk, parts


def _fits(part: Part, size: int, log2: int) -> bool:
    return part.chunk << log2 < size and part.plain_len == plain_chunk_len(size, log2, part.chunk)


def _likely_log2(parts: list[Part], size: int) -> int:
    """The chunk size under which most chunks fit the file."""
    return max(CHUNK_LOG2S, key=lambda log2: len({part.chunk for part in parts if _fits(part, size, log2)}))


def _files(told: Told) -> list[list[Called]]:
    """The files that had a content, one an inode: what is said of each, the latest first, one word a size.

    Nobody may have said anything: then they are as long as what there is.
    """
    named = {ino: words for ino, words in told.called.items() if ino} or told.called
    if named:
        return [list({one.size: one for one in sorted(words)}.values())[::-1] for words in named.values()]
    longest = max(part.plain_len for part in told.parts)
    log2 = next((log2 for log2 in CHUNK_LOG2S if longest <= 1 << log2), CHUNK_LOG2S[-1])
    return [[Called(0, b"", max((part.chunk << log2) + part.plain_len for part in told.parts), b"")]]
