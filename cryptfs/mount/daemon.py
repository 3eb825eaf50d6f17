"""The process that serves a mount: from an open vault to a clean end, whatever ends it.

It always runs in the foreground and says when it is ready as to systemd (sd_notify(3)). `cryptfs mount` without
`--foreground` starts it as a child with a NOTIFY_SOCKET of its own and returns at READY=1 (`cli/background.py`): a fork
after pyfuse3 or trio began would duplicate threads and epoll descriptors.

How it ends. Unmounted by anybody: pyfuse3.main returns. SIGTERM, SIGINT, SIGHUP: handlers get 1.5 s more. Connection
aborted: as a crash, but the dead mount is cleared. In each case buffers are handed over and the vault commits.
"""

import gc
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Self

import pyfuse3
import trio

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import ConfigError, CryptfsError, NotAllowed
from cryptfs.mount import loop
from cryptfs.mount.commands import LAST_SECONDS, Commands
from cryptfs.mount.control import ControlServer
from cryptfs.mount.filesystem import FileSystem
from cryptfs.mount.fuse import Adapter, requests
from cryptfs.mount.invalidation import Invalidator
from cryptfs.mount.localxattrs import MetaXattrs
from cryptfs.mount.mountoptions import MountOptions
from cryptfs.mount.mountpoint import prepare, raise_read_ahead, unmount
from cryptfs.mount.mounttable import Mounted, mount_at
from cryptfs.mount.outdated import keep_current
from cryptfs.mount.process import Notifier, harden
from cryptfs.vault.home import VaultHome
from cryptfs.vault.hourly import look_after
from cryptfs.vault.opening import open_vault
from cryptfs.vault.reconciling import keep_reconciled
from cryptfs.vault.stores import store_at
from cryptfs.vault.vault import Vault, VaultOptions

__all__ = ["MountLost", "MountProcess", "serve"]

_HANDLERS_SECONDS: Final = 1.5
"""For requests under way when a signal ends the mount."""
_HAND_OVER_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 2.0
"""For the answers of commands under way, beyond what `umount` gives to sending: who asked for it hears what is left."""
_SWITCH_INTERVAL: Final = 0.0005
"""Seconds a busy worker thread may keep the interpreter while a request waits; Python's own is ten times as much."""
_COLLECT: Final = (10_000, 10, 10)
"""New objects between two collections. Nearly all that a request makes goes by reference count; looking for cycles
after every 700, as Python does by itself, took a tenth of the time of reading and deleting."""

_log = logging.getLogger(__name__)


class MountLost(CryptfsError):
    """The kernel aborted the connection; the mount was cleared."""

    exit_code = 75
    default_advice = "Mount it again; what was written is kept in the journal."


def serve(home: VaultHome, keys: DeviceKeys, store: str, point: Path, options: Mapping[str, str]) -> None:
    """Mount the vault of `home`, whose store has the address `store`, at `point`; return when it is unmounted.

    `options` are checked strings. Raises what opening the vault and `prepare` raise, ConfigError or NotAllowed if the
    mount itself is refused, MountLost.
    """
    wanted = MountOptions.of(options)
    level = "debug" if wanted.debug else options.get("log_level", "info")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    harden()
    vault_options = VaultOptions.of(options)
    place = prepare(point, home.name, nonempty=wanted.nonempty)
    process = MountProcess(
        lambda: open_vault(home, keys, store_at(store, home, keys), vault_options),
        home.name,
        home.control_socket,
        place,
        wanted,
    )
    trio.run(process.run)


class MountProcess:
    """One mount, from opening the vault to closing it. `run` once; pyfuse3 allows one a process.

    `opener` gives the vault; whatever it gives back when it closes has been made durable by it.
    """

    def __init__(
        self,
        opener: Callable[[], AbstractAsyncContextManager[Vault]],
        name: str,
        control_socket: Path,
        point: Path,
        options: MountOptions,
    ) -> None:
        self._opener = opener
        self._name = name
        self._control_socket = control_socket
        self._point = point
        self._options = options
        self._notifier = Notifier()
        self._mounted: Mounted | None = None
        self._stopping = False
        self._serving = trio.CancelScope()

    async def run(self) -> None:
        """Serve until unmounted or told to stop. Raises as `serve`."""
        sys.setswitchinterval(_SWITCH_INTERVAL)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals, nursery.cancel_scope)
                async with self._opener() as vault:
                    await self._serve(vault)
                nursery.cancel_scope.cancel()

    async def _obey(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """The first signal ends the mount in peace; there is nothing a second one could do better."""
        async for number in signals:
            _log.info("%s: ending", signal.Signals(number).name)
            if self._mounted is None:
                everything.cancel()
                return
            if self._stopping:
                continue
            self._stopping = True
            self._notifier.say("STOPPING=1")
            pyfuse3.terminate()
            await trio.sleep(_HANDLERS_SECONDS)
            self._serving.cancel()

    async def _serve(self, vault: Vault) -> None:
        fs = FileSystem(vault, self._options.rules(), MetaXattrs(vault.replica))
        invalidator = Invalidator(fs.inodes, fs.names)
        commands = Commands(fs, self._point, os.getpid(), lambda: requests, invalidator.delivered)
        server = ControlServer(self._control_socket, commands.table())
        await server.listen()
        try:
            adapter = self._mount(fs)
            try:
                await self._answer_kernel(vault, commands, server, invalidator, adapter.started)
            finally:
                with trio.move_on_after(_HAND_OVER_SECONDS) as scope:
                    scope.shield = True
                    await fs.files.hand_over_all()
                pyfuse3.close(unmount=True)
            await self._clear_if_lost()
        finally:
            server.close()

    def _mount(self, fs: FileSystem) -> Adapter:
        adapter = Adapter(fs, xattrs=self._options.xattrs)
        options = self._options.for_kernel(self._name)
        captured = _StandardError()
        try:
            with captured:
                pyfuse3.init(adapter, str(self._point), options)
        except RuntimeError as err:
            raise _refusal(captured.text, self._options) from err
        if captured.text:
            _log.debug("mounting: %s", captured.text)
        if not (self._options.stock_loop or loop.wants_stock_loop()):
            loop.install()
        self._mounted = mount_at(self._point)
        return adapter

    async def _answer_kernel(
        self, vault: Vault, commands: Commands, server: ControlServer, invalidator: Invalidator, started: trio.Event
    ) -> None:
        vault.exchange.listeners.append(invalidator.pulled)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            nursery.start_soon(invalidator.run)
            nursery.start_soon(keep_current, commands.fs.inodes)
            nursery.start_soon(keep_reconciled, vault, commands.acting)
            nursery.start_soon(look_after, vault)
            if self._notifier.watchdog_seconds is not None:
                nursery.start_soon(self._feed_watchdog, self._notifier.watchdog_seconds)
            nursery.start_soon(self._announce, started)
            with self._serving:
                await _answer_requests()
            self._notifier.say("STOPPING=1")
            await server.drain(LAST_SECONDS + _ANSWER_SECONDS)
            nursery.cancel_scope.cancel()

    async def _announce(self, started: trio.Event) -> None:
        """Once the kernel has agreed to the protocol; it would take the read-ahead back at that moment."""
        await started.wait()
        if self._mounted is not None:
            raise_read_ahead(self._mounted)
        # What the start made lives as long as the process: collections need not walk it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT)
        self._notifier.say("READY=1", f"STATUS={self._name} at {self._point}", f"MAINPID={os.getpid()}")
        _log.info("%s is mounted at %s", self._name, self._point)

    async def _feed_watchdog(self, seconds: float) -> None:
        while True:
            self._notifier.say("WATCHDOG=1")
            await trio.sleep(seconds)

    async def _clear_if_lost(self) -> None:
        """After an abort of the connection the mount stays in the table, dead."""
        there = mount_at(self._point)
        if there is None or self._mounted is None or there.number != self._mounted.number:
            return
        await trio.to_thread.run_sync(lambda: unmount(self._point, lazy=True))
        if not self._stopping:
            raise MountLost(f"The kernel cut the connection of the mount at {self._point}.")


async def _answer_requests() -> None:
    """Until the connection ends. Whether the mount was lost by that, its place tells (`_clear_if_lost`).

    The kernel ends a read of its device with ENODEV after an unmount, but with ECONNABORTED if the end comes while it
    hands a request over, as it may at the last close after a lazy unmount (fs/fuse/dev.c, fuse_dev_do_read).
    """
    try:
        await pyfuse3.main()
    except* ConnectionAbortedError as errors:
        _log.debug("the connection ended while a request was read: %s", errors.exceptions)


class _StandardError:
    """Catches what C code writes to descriptor 2: libfuse gives its reasons nowhere else."""

    def __init__(self) -> None:
        self.text = ""

    def __enter__(self) -> Self:
        sys.stderr.flush()
        self._file = tempfile.TemporaryFile()  # closed in __exit__
        self._saved = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        return self

    def __exit__(self, *error: object) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        with self._file as file:
            file.seek(0)
            self.text = file.read(4096).decode(errors="replace").strip()


def _refusal(said: str, options: MountOptions) -> CryptfsError:
    """What libfuse said, as an error that tells what to do."""
    reason = said.splitlines()[-1] if said else "no reason was given"
    if "user_allow_other" in said:
        return NotAllowed(
            "Mounting with allow_other is not permitted to you on this machine.",
            "An administrator can add the line `user_allow_other` to /etc/fuse.conf; or mount without allow_other.",
        )
    if "fusermount" in said and ("No such file" in said or "not found" in said):
        return ConfigError("There is no program fusermount3.", "Install the package fuse3.")
    if "Permission denied" in said or "not permitted" in said or "no write access" in said:
        return NotAllowed(f"The mount was refused: {reason}", "Choose a directory of your own.")
    if "modprobe" in said or "/dev/fuse" in said:
        return ConfigError(f"The mount was refused: {reason}", "Load the kernel's module: `sudo modprobe fuse`.")
    if "unknown option" in said:
        return ConfigError(f"libfuse does not know an option: {reason}", f"Given were {options}.")
    return ConfigError(f"The mount was refused: {reason}", "See the log for what else was said.")
