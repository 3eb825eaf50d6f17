"""A tree as comparable values, and the search for plaintext where none may be."""

import base64
import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Entry", "differences", "find_plaintext", "snapshot"]

_BLOCK = 1 << 20
SHORTEST = 7  # bytes: what is shorter stands in random data by chance


class Entry(NamedTuple):
    """What must survive of one name. `twins` are all names of its inode, `content` a SHA-256, a target or nothing."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    rdev: int
    content: str
    twins: tuple[bytes, ...]
    xattrs: tuple[tuple[str, bytes], ...]


def _digest(path: bytes) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return ()
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def _walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    pending = [root]
    while pending:
        here = pending.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                yield entry.path, info
                if stat.S_ISDIR(info.st_mode):
                    pending.append(entry.path)


def snapshot(root: Path, *, content: bool = True, times: bool = True) -> dict[bytes, Entry]:
    """Everything below `root`, by path relative to it."""
    top = os.fsencode(root)
    found = [(path[len(top) + 1 :], info) for path, info in _walk(top)]
    names: dict[int, list[bytes]] = {}
    for path, info in found:
        names.setdefault(info.st_ino, []).append(path)
    tree = {}
    for path, info in found:
        whole = top + b"/" + path
        what = ""
        if stat.S_ISLNK(info.st_mode):
            what = os.fsdecode(os.readlink(whole))
        elif stat.S_ISREG(info.st_mode) and content:
            what = _digest(whole)
        folder = stat.S_ISDIR(info.st_mode)
        tree[path] = Entry(
            kind=stat.filemode(info.st_mode)[0],
            mode=stat.S_IMODE(info.st_mode),
            uid=info.st_uid,
            gid=info.st_gid,
            size=0 if folder else info.st_size,
            mtime_ns=info.st_mtime_ns if times else 0,
            rdev=info.st_rdev if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode) else 0,
            content=what,
            twins=() if folder else tuple(sorted(names[info.st_ino])),
            xattrs=_xattrs(whole),
        )
        if not folder:
            assert info.st_nlink == len(names[info.st_ino]), f"{path!r} has nlink {info.st_nlink}"
    return tree


def differences(
    left: dict[bytes, Entry], right: dict[bytes, Entry], limit: int = 10, *, rebuilt_since: int | None = None
) -> list[str]:
    """What differs, in words; empty when the trees are equal.

    `rebuilt_since` (ns): `right` comes from a replica rebuilt from the store. The mtime of a directory whose entries
    changed after that moment is not looked at: logs keep the time of the segment, and changes that undid each other
    before they were sent are not in it at all. A time that was set is exact.
    """
    lines = [f"{path!r} only on the left" for path in sorted(left.keys() - right.keys())]
    lines += [f"{path!r} only on the right" for path in sorted(right.keys() - left.keys())]
    for path in sorted(left.keys() & right.keys()):
        for field in Entry._fields:
            old, new = getattr(left[path], field), getattr(right[path], field)
            if field == "mtime_ns" and left[path].kind == "d" and rebuilt_since is not None and old >= rebuilt_since:
                continue
            if old != new:
                lines.append(f"{path!r} {field}: {old!r} != {new!r}")
    return lines[:limit] + ([f"and {len(lines) - limit} more"] if len(lines) > limit else [])


def _disguises(word: str) -> Iterator[tuple[str, bytes]]:
    """How a word may lie in a file without being hidden."""
    raw = word.encode()
    yield "raw", raw
    yield "utf-16le", word.encode("utf-16-le")
    yield "utf-16be", word.encode("utf-16-be")
    yield "hex", raw.hex().encode()
    yield "reversed", raw[::-1]
    for shift in range(3):
        # Base64 depends on the place modulo 3: cut what neighbours influence.
        coded = base64.b64encode(bytes(shift) + raw)
        yield f"base64+{shift}", coded[4 if shift else 0 : -4]
        yield f"base64url+{shift}", base64.urlsafe_b64encode(bytes(shift) + raw)[4 if shift else 0 : -4]


def _inflated(data: bytes) -> Iterator[bytes]:
    """Every zlib or gzip stream that starts anywhere in `data`, decompressed as far as it goes (1 MiB at most)."""
    for head, wbits in (
        (b"\x78\x01", 15),
        (b"\x78\x5e", 15),
        (b"\x78\x9c", 15),
        (b"\x78\xda", 15),
        (b"\x1f\x8b\x08", 31),
    ):
        at = data.find(head)
        while at >= 0:
            try:
                plain = zlib.decompressobj(wbits).decompress(data[at : at + _BLOCK], _BLOCK)
            except zlib.error:
                plain = b""
            if len(plain) > 8:
                yield plain
            at = data.find(head, at + 1)


def find_plaintext(roots: Iterable[Path], words: Iterable[str]) -> list[str]:
    """Where a word stands in the files below `roots`, or in their names: raw, UTF-16, hex, base64, compressed."""
    hits = []
    needles = [(word, how, needle) for word in words for how, needle in _disguises(word) if len(needle) >= SHORTEST]
    for root in roots:
        for path in [root, *sorted(root.rglob("*"))]:
            name = os.fsencode(path)[len(os.fsencode(root)) :]
            hits += [f"{path}: name holds {word!r} {how}" for word, how, needle in needles if needle in name]
            if path.is_symlink() or not path.is_file():
                continue
            data = path.read_bytes()
            hits += [f"{path}: {word!r} {how}" for word, how, needle in needles if needle in data]
            for plain in _inflated(data):
                hits += [f"{path}: {word!r} compressed {how}" for word, how, needle in needles if needle in plain]
    return hits


def self_test(folder: Path) -> None:
    """The search must find what it is for: one planted file a disguise."""
    word = "Zaunkoenig-Quittung"
    plants = [needle for _, needle in _disguises(word)]
    plants += [zlib.compress(word.encode()), gzip.compress(word.encode()), b"junk" + zlib.compress(word.encode(), 9)]
    plants += [base64.b64encode(pad + word.encode() + b"tail") for pad in (b"", b"a", b"ab", b"abcd")]
    for number, plant in enumerate(plants):
        (folder / str(number)).write_bytes(b"\x00\xff" + plant + b"\xfe")
        assert find_plaintext([folder / str(number)], [word]), f"plant {number} not found: {plant!r}"
