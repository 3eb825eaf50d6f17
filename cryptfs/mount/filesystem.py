"""POSIX on a vault, without pyfuse3: everything a mount answers, callable in process."""

import time
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptfs.mount.attributes import Attributes, Owner
from cryptfs.mount.changing import Change, change
from cryptfs.mount.files import Files
from cryptfs.mount.inodes import Inodes
from cryptfs.mount.listing import Listings
from cryptfs.mount.localxattrs import LocalXattrs, LocalXattrStore
from cryptfs.mount.names import NAME_MAX, Names
from cryptfs.mount.renaming import rename
from cryptfs.mount.times import AtimeRule
from cryptfs.mount.xattrs import Xattrs
from cryptfs.vault.vault import Vault

__all__ = ["FileSystem", "Rules", "Space"]

BLOCK: Final = 4096
_INODES_FREE: Final = 1 << 32
_COUNT_EVERY: Final = 10.0
"""Seconds a count of all nodes is good for: counting walks over the table."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the options of a mount change in its behaviour. `owner` None shows owners as they are stored."""

    atime: AtimeRule = "relatime"
    nodiratime: bool = False
    fsync_remote: bool = False
    owner: Owner | None = None


class Space(NamedTuple):
    """statfs(2); blocks of `block` bytes."""

    block: int
    blocks: int
    free: int
    files: int
    files_free: int
    name_max: int


class FileSystem:
    """The parts of a mount on one table of inodes. Owned by the trio thread; every error is a CryptfsError.

    What waits for content is `async` (files, setattr); everything else answers from the replica.
    """

    def __init__(self, vault: Vault, rules: Rules, local: LocalXattrStore | None = None) -> None:
        self.vault = vault
        self._nodes = 0
        self._nodes_counted_at: float | None = None
        attributes = LocalXattrs(local)
        self.inodes = Inodes(vault, attributes, owner=rules.owner, atime=rules.atime, nodiratime=rules.nodiratime)
        self.names = Names(self.inodes)
        self.files = Files(self.inodes, self.names, fsync_remote=rules.fsync_remote)
        self.listings = Listings(self.inodes, self.names)
        self.xattrs = Xattrs(self.inodes, attributes)

    def getattr(self, st: int) -> Attributes:
        """What `stat` shows."""
        return self.inodes.attributes(st)

    async def setattr(self, st: int, fields: Change) -> Attributes:
        """chmod, chown, utimens, truncate."""
        return await change(self.inodes, self.files, st, fields)

    def readlink(self, st: int) -> bytes:
        """Target of a symbolic link. Raises ESTALE, or EINVAL for anything else."""
        return self.names.readlink(st)

    def rename(self, old: tuple[int, bytes], new: tuple[int, bytes], flags: int) -> None:
        """See `renaming.rename`."""
        rename(self.inodes, self.names, old, new, flags)

    def statfs(self) -> Space:
        """Room left: what store and local disk both take."""
        space = self.vault.space()
        now = time.monotonic()
        if self._nodes_counted_at is None or now - self._nodes_counted_at > _COUNT_EVERY:
            self._nodes, self._nodes_counted_at = self.vault.replica.count_nodes(), now
        nodes = self._nodes
        return Space(BLOCK, space.total // BLOCK, space.free // BLOCK, nodes + _INODES_FREE, _INODES_FREE, NAME_MAX)
