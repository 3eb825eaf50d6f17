"""Files that stay open while others change them: who sees which version, and when."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from mount_kernel import Kernel

from cryptfs.group.authority import Tier
from cryptfs.mount.outdated import keep_current
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.vault_faults import still
from tests.vault.vault_workshop import remove_file, write_file

__all__ = ["still"]
pytestmark = pytest.mark.usefixtures("still")
CHUNK = 1 << 16
OLD, NEW = b"o" * CHUNK + b"old", b"n" * CHUNK * 2


@dataclass
class Two:
    """Anna writes; Bob's file system is looked at as the kernel does. `told`: inodes the kernel was to forget."""

    anna: Vault
    bob: Vault
    kernel: Kernel
    told: list[int]

    async def anna_writes(self, name: bytes, data: bytes) -> None:
        entry = self.anna.replica.lookup(1, name)
        if entry is not None:
            content = self.anna.open_file(entry.st)
            await content.truncate(0, 2_000)
            self.anna.release_file(content)
        await write_file(self.anna, name, data)
        await self.anna.sync()
        await self.bob.exchange.pull()

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        return self.kernel.fs.files.open(self.kernel.st(path), flags).fh

    async def read(self, fh: int, offset: int = 0) -> bytes:
        return bytes(await self.kernel.fs.files.read(fh, offset, 4 * CHUNK))


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    async with meet(world.anna, bob) as both:
        await both.anna_writes(b"f", OLD)
        both.told.clear()
        yield both


@asynccontextmanager
async def meet(anna: Device, bob: Device) -> AsyncIterator[Two]:
    async with anna.open() as hers, bob.open() as his:
        told: list[int] = []
        kernel = Kernel(his)

        def listen(entries: object, nodes: object) -> None:
            told.extend(nodes)  # type: ignore[call-overload]
            for st in nodes:  # type: ignore[attr-defined]
                kernel.fs.inodes.changed_elsewhere(st)

        his.exchange.listeners.append(listen)
        yield Two(hers, his, kernel, told)


async def test_who_reads_a_file_sees_one_version_from_beginning_to_end(two: Two) -> None:
    fh = two.open("f")
    await two.anna_writes(b"f", NEW)
    assert await two.read(fh) == OLD  # nothing of it had been read yet
    assert two.kernel.stat("f").size == len(OLD)
    assert two.kernel.st("f") not in two.told  # nothing that the kernel has of it is wrong
    await two.kernel.close(fh)
    assert two.kernel.st("f") in two.told
    assert two.kernel.stat("f").size == len(NEW)
    assert await two.kernel.read("f") == NEW


async def test_a_closed_file_is_what_others_made_of_it_at_once(two: Two) -> None:
    assert await two.kernel.read("f") == OLD
    await two.anna_writes(b"f", NEW)
    assert two.kernel.st("f") in two.told
    assert await two.kernel.read("f") == NEW


async def test_who_goes_on_reading_gets_the_newest_version_after_a_minute(two: Two) -> None:
    """`tail -f`, a viewer, a player."""
    fh = two.open("f")
    assert await two.read(fh) == OLD
    await two.anna_writes(b"f", NEW)
    (since,) = two.bob.outdated.values()
    two.kernel.fs.inodes.go_over_late(since + 59)
    assert await two.read(fh) == OLD
    two.kernel.fs.inodes.go_over_late(since + 60)
    assert await two.read(fh) == NEW
    assert two.kernel.st("f") in two.told
    await two.kernel.close(fh)


async def test_open_files_are_looked_at_all_the_time(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    looks: list[float] = []
    with trio.move_on_after(61):
        await keep_current(SimpleNamespace(go_over_late=looks.append))
    assert len(looks) == 30
    assert looks == sorted(looks)


async def test_who_may_write_keeps_his_base_and_his_change_becomes_a_copy(two: Two) -> None:
    fh = two.open("f", os.O_RDWR)
    assert await two.read(fh) == OLD
    await two.anna_writes(b"f", NEW)
    two.kernel.fs.inodes.go_over_late(trio.current_time() + 3600)
    assert await two.read(fh) == OLD
    await two.kernel.fs.files.write(fh, 0, b"BOB")
    assert await two.read(fh) == b"BOB" + OLD[3:]
    await two.kernel.close(fh)
    (copy,) = set(two.kernel.list()) - {"f"}
    assert "conflicted copy" in copy
    assert await two.kernel.read(copy) == b"BOB" + OLD[3:]
    assert await two.kernel.read("f") == NEW


async def test_who_opens_a_file_to_write_starts_from_the_newest_version(two: Two) -> None:
    """Somebody follows a log with `tail -f`, and adds a line to it elsewhere: no copy comes of that."""
    reading = two.open("f")
    assert await two.read(reading) == OLD
    await two.anna_writes(b"f", NEW)
    writing = two.open("f", os.O_WRONLY)
    await two.kernel.fs.files.write(writing, len(NEW), b"more")
    await two.kernel.close(writing)
    assert await two.read(reading) == NEW + b"more"
    assert two.kernel.list() == ["f"]
    await two.kernel.close(reading)


async def test_a_truncate_starts_from_the_newest_version_too(two: Two) -> None:
    reading = two.open("f")
    assert await two.read(reading) == OLD
    await two.anna_writes(b"f", NEW)
    await two.kernel.set(two.kernel.st("f"), size=5)
    assert await two.read(reading) == b"nnnnn"
    assert two.kernel.list() == ["f"]
    await two.kernel.close(reading)


async def test_two_newer_versions_in_a_row_change_nothing_for_who_reads(two: Two) -> None:
    fh = two.open("f")
    await two.anna_writes(b"f", NEW)
    await two.anna_writes(b"f", b"newest")
    assert await two.read(fh) == OLD
    await two.kernel.close(fh)
    assert await two.kernel.read("f") == b"newest"


async def test_a_reader_goes_on_after_the_file_was_removed_elsewhere(two: Two) -> None:
    fh = two.open("f")
    remove_file(two.anna, b"f")
    await two.anna.sync()
    await two.bob.exchange.pull()
    assert not two.kernel.exists("f")
    assert await two.read(fh) == OLD
    await two.kernel.close(fh)
