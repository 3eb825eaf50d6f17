"""The mount process on a vault in memory: `memory_daemon.py POINT SOCKET [option=value ...]`, for tests.

`slow=FILE` makes reads wait while FILE exists; `deaf=yes` sends nothing, for ever; `settle=FILE` writes a line to
FILE when the vault is closed. SIGUSR1 does what a pull would: the file `a` moves to `b`, `f` gets other bytes under
the same size and mtime.
"""

import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import trio
from memory_vault import MemoryContent, MemoryVault, new_replica

from cryptfs.errors import CryptfsError
from cryptfs.format.operation import Rename
from cryptfs.mount.daemon import MountProcess
from cryptfs.mount.mountoptions import MountOptions
from cryptfs.mount.mountpoint import prepare
from cryptfs.mount.process import harden


def slow_contents(flag: Path) -> None:
    """Contents wait while the flag is there, as on a store that does not answer."""
    quick = MemoryContent.read_here

    async def read(self: MemoryContent, offset: int, length: int) -> bytes:
        while flag.exists():  # noqa: ASYNC110, ASYNC240  # a flag another process sets
            await trio.sleep(0.01)
        return quick(self, offset, length)

    MemoryContent.read = read
    MemoryContent.read_here = lambda *_: None


def deaf_store() -> None:
    """What is written never reaches the store, and that is never said."""

    async def sync(self: MemoryVault, seconds: float | None = None, *, thorough: bool = False) -> None:
        await trio.sleep_forever()

    MemoryVault.sync = sync


async def pull_on_signal(vault: MemoryVault) -> None:
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async for _ in signals:
            replica = vault.replica
            moved, changed = replica.lookup(1, b"a"), replica.lookup(1, b"f")
            here = replica.ino_of(1)
            vault.submit(Rename(replica.ino_of(moved.st), replica.extern_ver(moved.lver), here, b"b", None, 0))
            chunk = vault.stored[changed.st][0]
            chunk[:] = bytes(byte ^ 1 for byte in chunk)
            for listener in vault.exchange.listeners:
                listener([(1, b"a"), (1, b"b")], [changed.st])


@contextlib.asynccontextmanager
async def opener(settle: str) -> AsyncIterator[MemoryVault]:
    with tempfile.TemporaryDirectory() as local:
        vault = MemoryVault(new_replica(Path(local) / "replica.db"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pull_on_signal, vault)
            yield vault
            nursery.cancel_scope.cancel()
        dirty = [st for st, (content, _) in vault.open_files.items() if content.dirty and not content.detached]
        vault.replica.close()
        if settle:
            Path(settle).write_text(f"dirty {len(dirty)} ops {len(vault.ops)}\n")  # noqa: ASYNC240


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = dict(text.split("=", 1) for text in sys.argv[3:])
    if "slow" in options:
        slow_contents(Path(options["slow"]))
    if "deaf" in options:
        deaf_store()
    harden()
    try:
        wanted = MountOptions.of(options)
        point = prepare(Path(sys.argv[1]), "memory", nonempty=wanted.nonempty)
        settle = options.get("settle", "")
        trio.run(MountProcess(lambda: opener(settle), "memory", Path(sys.argv[2]), point, wanted).run)
    except* CryptfsError as group:
        error = group.exceptions[0]
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        print(f"{error}\n{error.advice}", file=sys.stderr)
        os._exit(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
