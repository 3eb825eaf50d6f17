"""Mount options as this room understands them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from cryptfs.errors import UsageError
from cryptfs.mount.attributes import Owner
from cryptfs.mount.filesystem import Rules
from cryptfs.mount.mounttable import source_of
from cryptfs.mount.times import AtimeRule

__all__ = ["MountOptions"]

_ATIME: Mapping[str, tuple[AtimeRule, bool]] = {
    "relatime": ("relatime", False),
    "noatime": ("noatime", False),
    "strictatime": ("strictatime", False),
    "nodiratime": ("relatime", True),
}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What `-o` decides for one mount."""

    read_only: bool = False
    allow_other: bool = False
    xattrs: bool = True
    atime: AtimeRule = "relatime"
    nodiratime: bool = False
    fsync_remote: bool = False
    real_owner: bool = False
    nonempty: bool = False
    stock_loop: bool = False
    debug: bool = False

    @classmethod
    def of(cls, options: Mapping[str, str]) -> "MountOptions":
        """From checked options: flags are "yes" or "no". Raises UsageError for an atime rule nobody knows."""
        atime = options.get("atime", "relatime")
        if atime not in _ATIME:
            raise UsageError(f"'atime={atime}' is no rule for access times.", f"Known: {', '.join(_ATIME)}.")
        rule, nodiratime = _ATIME[atime]
        return cls(
            read_only=options.get("ro") == "yes",
            allow_other=options.get("allow_other") == "yes",
            xattrs=options.get("noxattr") != "yes",
            atime=rule,
            nodiratime=nodiratime,
            fsync_remote=options.get("fsync") == "remote",
            real_owner=options.get("real_owner") == "yes",
            nonempty=options.get("nonempty") == "yes",
            stock_loop=options.get("loop") == "stock",
            debug=options.get("debug") == "yes",
        )

    def rules(self) -> Rules:
        """How the file system behaves. Root sees owners as they are stored, everybody else sees his own files."""
        owner = None if self.real_owner or os.geteuid() == 0 else Owner(os.getuid(), os.getgid())
        return Rules(self.atime, nodiratime=self.nodiratime, fsync_remote=self.fsync_remote, owner=owner)

    def for_kernel(self, name: str) -> set[str]:
        """Options of the mount call for the vault `name`.

        A member's setuid file or device node gains no rights here. There is no `auto_unmount`: its helper would unmount
        the next mount at the same place; a dead mount is cleared at the next start instead.
        """
        options = {"default_permissions", f"fsname={source_of(name)}", "subtype=cryptfs", "nosuid", "nodev"}
        options |= {"allow_other"} if self.allow_other else set()
        options |= {"ro"} if self.read_only else set()
        options |= {"debug"} if self.debug else set()
        return options
