"""Serve a vault in memory at a mount point until it is unmounted: `bare_mount.py DIR [noxattr]`.

For trials and measurements of the mount alone; CRYPTFS_STOCK_LOOP=1 takes plain trio.
"""

import logging
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pyfuse3
import trio
from memory_vault import MemoryVault, new_replica

from cryptfs.mount import loop
from cryptfs.mount.filesystem import FileSystem, Rules
from cryptfs.mount.fuse import Adapter


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as local:
        serve(FileSystem(MemoryVault(new_replica(Path(local) / "replica.db")), Rules()))


def serve(fs: FileSystem) -> None:
    adapter = Adapter(fs, xattrs="noxattr" not in sys.argv)
    pyfuse3.init(adapter, sys.argv[1], {"default_permissions", "allow_other", "fsname=bare", "subtype=cryptfs"})
    reader = None if loop.wants_stock_loop() else loop.install()
    print("ready", flush=True)
    trio.run(pyfuse3.main)
    pyfuse3.close(unmount=True)
    if reader is not None:
        print(f"spins {reader.spins} sleeps {reader.sleeps}")


if __name__ == "__main__":
    main()
