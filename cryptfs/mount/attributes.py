"""What `stat` shows: one record, and the one way from a node to it."""

import stat
from typing import Final, NamedTuple, Protocol

import msgspec

from cryptfs.format.content import Content, Hole, Inline
from cryptfs.format.operation import (
    KIND_BLOCK,
    KIND_CHAR,
    KIND_DIR,
    KIND_FIFO,
    KIND_FILE,
    KIND_SOCKET,
    KIND_SYMLINK,
)

__all__ = ["KIND_OF", "TYPE_BITS", "Attributes", "Caller", "Owner", "blocks_of", "present_bytes"]

TYPE_BITS: Final = {
    KIND_FILE: stat.S_IFREG,
    KIND_DIR: stat.S_IFDIR,
    KIND_SYMLINK: stat.S_IFLNK,
    KIND_FIFO: stat.S_IFIFO,
    KIND_SOCKET: stat.S_IFSOCK,
    KIND_CHAR: stat.S_IFCHR,
    KIND_BLOCK: stat.S_IFBLK,
}
KIND_OF: Final = {bits: kind for kind, bits in TYPE_BITS.items()}

_DECODER: Final = msgspec.msgpack.Decoder(Content)


class Attributes(NamedTuple):
    """`mode` with the type bits, `blocks` of 512 bytes, times in ns."""

    st: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


class Caller(Protocol):
    """Who makes the system call."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...


class Owner(NamedTuple):
    """Whom a file is shown to belong to, whoever is stored: the mounting user, unless the stored one is asked for.

    Uids of other people's machines mean nothing here, and the kernel would lock the user out of their files.
    """

    uid: int
    gid: int

    def shown(self, uid: int, gid: int) -> tuple[int, int]:
        """Own files keep the group they were given; files of others appear as our own."""
        return (uid, gid) if uid == self.uid else (self.uid, self.gid)


def blocks_of(present: int) -> int:
    """512-byte blocks that hold `present` bytes."""
    return (present + 511) >> 9


def present_bytes(encoded: bytes, size: int) -> int:
    """Bytes of the chunks of an encoded `Content` that are no holes, at most `size`.

    A paged content counts as full: its pages are in the store, and `stat` never waits for the store.
    """
    content = _DECODER.decode(encoded)
    if not isinstance(content.body, Inline):
        return size
    absent = sum(span.count for span in content.body.spans if isinstance(span, Hole))
    return max(0, size - (absent << content.chunk_log2)) if absent else size
