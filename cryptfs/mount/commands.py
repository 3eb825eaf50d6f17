"""What the control socket offers: the commands of a running mount."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from errno import ENOENT
from pathlib import Path

import trio

from cryptfs.errors import CryptfsError, FsError, UsageError
from cryptfs.mount.control import Answer, Command, Say
from cryptfs.mount.filesystem import FileSystem
from cryptfs.mount.mountpoint import unmount
from cryptfs.vault.acts import perform
from cryptfs.vault.checking import check
from cryptfs.vault.pace import Pace
from cryptfs.vault.past_acts import look_back
from cryptfs.vault.pin_acts import change_pins
from cryptfs.vault.revoking import carry_out

__all__ = ["LAST_SECONDS", "Commands"]

_PROGRESS_SECONDS = 0.5
_DELIVERY_SECONDS = 5.0
"""Seconds that `sync` waits for the kernel to hear what came; a program that hangs in a read may hold that up."""
LAST_SECONDS = 3.0
"""Seconds that `umount` gives to what has not been sent yet."""

_SHARE = 0.5
"""Of the time of the one thread, for work that no program waits for."""

_ALL = 100
"""Percent."""

_log = logging.getLogger(__name__)


class Commands:
    """One mount's commands; `table` is for the control server.

    `requests` counts what the kernel asked, `pid` is ours; `delivered` returns when the kernel knows what came.
    """

    def __init__(
        self,
        fs: FileSystem,
        point: Path,
        pid: int,
        requests: Callable[[], Mapping[str, int]],
        delivered: Callable[[], Awaitable[None]],
    ) -> None:
        self.fs = fs
        self._vault = fs.vault
        self._point = point
        self._pid = pid
        self._requests = requests
        self._delivered = delivered
        self._began = time.monotonic()
        self.acting = trio.Lock()
        """Held while this device decides about the group."""

    def table(self) -> dict[str, Command]:
        """By name."""
        return {
            "ping": self._ping,
            "status": self._status,
            "sync": self._sync,
            "info": self._info,
            "umount": self._umount,
            "admin": self._admin,
            "collect": self._collect,
            "check": self._check,
            "reencrypt": self._reencrypt,
            "past": self._past,
            "pin": self._pin,
        }

    async def _ping(self, _: Answer, __: Say) -> Answer:
        return {"mountpoint": str(self._point), "pid": self._pid}

    async def _status(self, _: Answer, __: Say) -> Answer:
        mine: Answer = {
            "mountpoint": str(self._point),
            "pid": self._pid,
            "uptime_seconds": int(time.monotonic() - self._began),
            "requests": dict(self._requests()),
            "failed_hand_overs": self.fs.files.failed_hand_overs,
        }
        return self._vault.status() | mine

    async def _sync(self, _: Answer, say: Say) -> Answer:
        async def progress() -> None:
            while True:
                await trio.sleep(_PROGRESS_SECONDS)
                await say({"progress": {"pending_bytes": self._pending_bytes()}})

        await self.fs.files.hand_over_all()
        await say({"progress": {"pending_bytes": self._pending_bytes()}})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(progress)
            await self._vault.sync(thorough=True)
            with trio.move_on_after(_DELIVERY_SECONDS):
                await self._delivered()
            nursery.cancel_scope.cancel()
        return {"pending_bytes": self._pending_bytes()}

    async def _info(self, request: Answer, _: Say) -> Answer:
        path = request.get("path")
        if not isinstance(path, str):
            raise UsageError("`info` needs a path.")
        st = self._vault.replica.find(path.encode(errors="surrogateescape"))
        if st is None:
            raise FsError(ENOENT)
        return await self._vault.info(st)

    async def _admin(self, request: Answer, _: Say) -> Answer:
        """One act at a time: two decided on one view would both change the key."""
        arguments = request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise UsageError("`admin` needs an object of arguments.")
        async with self.acting:
            return await perform(self._vault, str(request.get("act")), arguments)

    async def _collect(self, request: Answer, say: Say) -> Answer:
        """One run of the collector; `now` and `history` as in `Collector.run`."""
        async with _telling(say) as tell:
            done = await self._vault.collector.run(
                now=bool(request.get("now")), history=bool(request.get("history")), say=tell
            )
        return done.as_json()

    async def _check(self, request: Answer, say: Say) -> Answer:
        """What `fsck` does, while programs go on; problems are told one by one, since there may be many."""
        percent = request.get("percent", 0.0)
        if not isinstance(percent, int | float) or not 0 <= percent <= _ALL:
            raise UsageError("`check` needs a share of the packs.")
        async with _telling(say) as tell:
            report, healed = await check(
                self._vault, percent, tell, heal=bool(request.get("heal")), replace=bool(request.get("apply"))
            )
        answer = report.as_json()
        for problem in report.problems:
            await say({"problem": asdict(problem)})
        del answer["problems"]
        return {"report": answer, "healed": healed.as_json() if healed is not None else None}

    async def _reencrypt(self, request: Answer, say: Say) -> Answer:
        """In the background of the mount: programs get at least half of its time. Ends with who asked for it."""
        await self.fs.files.hand_over_all()
        return await carry_out(self._vault, request, Pace(_SHARE), say)

    async def _past(self, request: Answer, say: Say) -> Answer:
        """What programs hold in memory counts, too, before somebody looks back."""
        arguments = request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise UsageError("`past` needs an object of arguments.")
        await self.fs.files.hand_over_all()
        return await look_back(self._vault, str(request.get("act")), arguments, say)

    async def _pin(self, request: Answer, say: Say) -> Answer:
        """What is kept here for use without the store."""
        arguments = request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise UsageError("`pin` needs an object of arguments.")
        await self.fs.files.hand_over_all()
        return await change_pins(self._vault, str(request.get("act")), arguments, say)

    async def _umount(self, request: Answer, _: Say) -> Answer:
        """Hand over and unmount; the kernel may still ask us things while it does, hence the thread."""
        await self.fs.files.hand_over_all()
        await self._vault.commit()
        lazy = bool(request.get("lazy"))
        await trio.to_thread.run_sync(lambda: unmount(self._point, lazy=lazy))
        # What goes quickly goes now, so that the answer tells what really stays behind.
        with trio.move_on_after(LAST_SECONDS):
            try:
                await self._vault.sync()
            except CryptfsError as err:
                _log.info("left for later: %s", err)
        return {"pending_bytes": self._pending_bytes()}

    def _pending_bytes(self) -> object:
        return self._vault.status().get("pending_bytes", 0)


@asynccontextmanager
async def _telling(say: Say) -> AsyncIterator[Callable[[str], None]]:
    """What is told in this block reaches who asked, but not more often than people read."""
    words: list[str] = []

    async def progress() -> None:
        while True:
            await trio.sleep(_PROGRESS_SECONDS)
            if words:
                await say({"progress": {"text": words[-1]}})
                words.clear()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress)
        yield words.append
        nursery.cancel_scope.cancel()
