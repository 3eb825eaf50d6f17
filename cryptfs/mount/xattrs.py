"""Extended attributes: which travel, which stay, which are refused."""

from collections.abc import Callable
from errno import E2BIG, EINVAL, ENODATA, ENOTSUP, EPERM, ERANGE, ESTALE
from typing import Final

from cryptfs.errors import FsError
from cryptfs.format.operation import DelXattr, SetXattr
from cryptfs.mount.attributes import Caller
from cryptfs.mount.inodes import Inodes
from cryptfs.mount.localxattrs import LocalXattrs
from cryptfs.tree.conflict_name import copied_from

__all__ = ["Xattrs"]

_NAME_MAX: Final = 255
_VALUE_MAX: Final = 1 << 16

_STATUS: Final = b"user.cryptfs."
"""Read-only answers about a file; never listed, so that `cp -a` and `rsync -X` do not carry them."""

_LABEL: Final = b"security.selinux"
"""`ls -l` asks every file for it, but after EOPNOTSUPP none any more. Where SELinux is in force it never reaches us."""


class Xattrs:
    """Answers the four xattr calls, by the prefix of the name.

    | name            | kept                                      |
    |-----------------|-------------------------------------------|
    | `user.cryptfs.*`| computed, read-only, not listed           |
    | `user.*`        | in the tree: every device sees them       |
    | `security.*`    | on this device; labels of SELinux are EOPNOTSUPP to ask for while no file has one |
    | `trusted.*`     | on this device, listed to uid 0 alone     |
    | anything else   | EOPNOTSUPP, POSIX ACLs among them: nobody would enforce them |

    Nothing here waits. XATTR_CREATE and XATTR_REPLACE are pyfuse3's: it asks before it sets.
    """

    def __init__(self, inodes: Inodes, local: LocalXattrs) -> None:
        self._inodes = inodes
        self._replica = inodes.replica
        self._local = local

    def get(self, st: int, name: bytes) -> bytes:
        """The value. Raises ENODATA, ENOTSUP."""
        value = self.find(st, name)
        if value is None:
            raise FsError(ENODATA)
        return value

    def find(self, st: int, name: bytes) -> bytes | None:
        """The value, None if there is none: by far the most frequent answer. Raises ENOTSUP."""
        if name.startswith((b"security.", b"trusted.")):
            value = self._local.get(st, name)
            if value is None and name == _LABEL and not self._local.ever(_LABEL):
                raise FsError(ENOTSUP)
        elif not name.startswith(b"user."):
            raise FsError(ENOTSUP)
        elif st in self._inodes.orphans:
            value = self._inodes.orphans[st].xattrs.get(name)
        elif name.startswith(_STATUS):
            value = self._status(st, name[len(_STATUS) :])
        else:
            value = self._replica.xattr(st, name)
        return value

    def list(self, st: int, caller: Caller) -> list[bytes]:
        """Names of all that the caller may know of."""
        orphan = self._inodes.orphans.get(st)
        names = list(orphan.xattrs) if orphan is not None else list(self._replica.xattrs(st))
        names += self._local.keys(st)
        if caller.uid != 0:
            names = [name for name in names if not name.startswith(b"trusted.")]
        return names

    def set(self, st: int, name: bytes, value: bytes) -> None:
        """Set one. Raises ENOTSUP, ERANGE for a long name, E2BIG above 64 KiB, EINVAL, EPERM for status attributes."""
        if len(name) > _NAME_MAX:
            raise FsError(ERANGE)
        if len(value) > _VALUE_MAX:
            raise FsError(E2BIG)
        if name.endswith(b".") and name.count(b".") == 1:
            raise FsError(EINVAL)  # a name space without a name in it
        inodes = self._inodes
        orphan = inodes.orphans.get(st)
        if name.startswith((b"security.", b"trusted.")):
            self._local.set(st, name, value)
            self._touch(st)
        elif not name.startswith(b"user."):
            raise FsError(ENOTSUP)
        elif name.startswith(_STATUS):
            raise FsError(EPERM)
        elif orphan is not None:
            orphan.xattrs[name] = value
            orphan.ctime_ns = inodes.clock.now()
        else:
            self._require(st)
            inodes.vault.submit(SetXattr(self._replica.ino_of(st), name, value))

    def remove(self, st: int, name: bytes) -> None:
        """Remove one. Raises ENODATA, ENOTSUP, EPERM for status attributes."""
        inodes = self._inodes
        orphan = inodes.orphans.get(st)
        if name.startswith((b"security.", b"trusted.")):
            if not self._local.remove(st, name):
                raise FsError(ENODATA)
            self._touch(st)
        elif not name.startswith(b"user."):
            raise FsError(ENOTSUP)
        elif name.startswith(_STATUS):
            raise FsError(EPERM)
        elif orphan is not None:
            if orphan.xattrs.pop(name, None) is None:
                raise FsError(ENODATA)
            orphan.ctime_ns = inodes.clock.now()
        else:
            if self._replica.xattr(st, name) is None:
                raise FsError(ENODATA)
            inodes.vault.submit(DelXattr(self._replica.ino_of(st), name))

    def _require(self, st: int) -> None:
        if self._replica.node(st) is None:
            raise FsError(ESTALE)

    def _touch(self, st: int) -> None:
        inodes = self._inodes
        orphan = inodes.orphans.get(st)
        if orphan is not None:
            orphan.ctime_ns = inodes.clock.now()
        else:
            self._replica.touch_ctime(st, inodes.clock.now())

    def _status(self, st: int, what: bytes) -> bytes | None:
        answer = _STATUS_ANSWERS.get(what)
        return None if answer is None else answer(self._inodes, st)


def _state(inodes: Inodes, st: int) -> bytes:
    opened = inodes.opened.get(st)
    if opened is not None and opened.content.dirty:
        return b"open"
    return inodes.vault.state_of(st).encode()


def _inode(inodes: Inodes, st: int) -> bytes:
    return inodes.replica.ino_of(st).hex().encode()


def _vault(inodes: Inodes, _: int) -> bytes:
    return inodes.vault.name.encode()


def _conflict(inodes: Inodes, st: int) -> bytes | None:
    for entry in inodes.replica.links(st):
        copied = copied_from(entry.name)
        if copied is not None:
            return copied.name
    return None


_STATUS_ANSWERS: Final[dict[bytes, Callable[[Inodes, int], bytes | None]]] = {
    b"state": _state,
    b"inode": _inode,
    b"vault": _vault,
    b"conflict": _conflict,
}
