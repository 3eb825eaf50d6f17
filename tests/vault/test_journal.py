"""The journal alone: what it keeps whatever happens to its file, and what it refuses."""

import errno
import itertools
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from cryptfs.crypto.keys import PurposeKey
from cryptfs.errors import LocalDisk, LocalDiskFull
from cryptfs.faults import Faults
from cryptfs.format.operation import Unlink
from cryptfs.vault.journal import Base, Entry, Journal, PackOpened, Record, SegmentConfirmed, Submitted
from tests.vault.vault_faults import failing

KEY = PurposeKey(bytes(range(32)))
VAULT = b"V" * 32
BASE = Base(VAULT, b"L" * 16, 0, 0, 0, bytes(32), 0, 0)


def submitted(k: int) -> Submitted:
    return Submitted(k, 7, Unlink(bytes([k]) * 16, (), ()), b"")


def new_journal(directory: Path, faults: Faults | None = None) -> Journal:
    """A journal that a new process would make; nothing is read or written yet."""
    directory.mkdir(exist_ok=True)
    return Journal(directory, KEY, VAULT, faults or Faults())


async def journal_with(directory: Path, frames: list[list[Entry]], faults: Faults | None = None) -> Journal:
    """A journal that starts with BASE, then one frame for each list."""
    journal = new_journal(directory, faults)
    journal.recover()
    journal.start([BASE])
    for entries in frames:
        for entry in entries:
            journal.append(entry)
        await journal.commit()
    return journal


def only_file(directory: Path) -> Path:
    (path,) = directory.glob("journal-*")
    return path


def entries_in(directory: Path) -> list[Entry]:
    found = new_journal(directory).recover()
    return found.entries if found is not None else []


# ---- what is read back ----------------------------------------------------------------------------------------------


async def test_what_was_committed_is_read_back_in_order(tmp_path: Path) -> None:
    frames: list[list[Entry]] = [[submitted(0), PackOpened(1, b"k" * 16)], [Record(1, 64, b"data")], [submitted(1)]]
    (await journal_with(tmp_path, frames)).close()
    assert entries_in(tmp_path) == [BASE, *frames[0], *frames[1], *frames[2]]


async def test_a_tail_torn_at_any_byte_costs_the_last_frame_only(tmp_path: Path) -> None:
    journal = await journal_with(tmp_path, [[submitted(0)], [submitted(1)]])
    end = journal.size
    journal.append(submitted(2))
    await journal.commit()
    whole = only_file(tmp_path).read_bytes()[: journal.size]
    journal.close()
    for cut in range(end, len(whole)):
        for rest in (b"", bytes(300), b"\xff" * (len(whole) - cut)):
            only_file(tmp_path).write_bytes(whole[:cut] + rest)
            found = new_journal(tmp_path).recover()
            assert found is not None
            assert found.entries == [BASE, submitted(0), submitted(1)], cut
            assert found.damaged_frames == 0, cut


async def test_a_flipped_bit_anywhere_in_a_middle_frame_costs_that_frame_and_is_reported(tmp_path: Path) -> None:
    journal = await journal_with(tmp_path, [[submitted(0)]])
    start = journal.size
    journal.append(submitted(1))
    await journal.commit()
    end = journal.size
    for k in (2, 3):
        journal.append(submitted(k))
        await journal.commit()
    journal.close()
    good = only_file(tmp_path).read_bytes()
    for at in range(start, end):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        only_file(tmp_path).write_bytes(bad)
        found = new_journal(tmp_path).recover()
        assert found is not None
        assert found.entries == [BASE, submitted(0), submitted(2), submitted(3)], at - start
        assert found.damaged_frames == 1


async def test_damage_to_the_first_frame_does_not_hide_the_others(tmp_path: Path) -> None:
    (await journal_with(tmp_path, [[submitted(0)], [submitted(1)]])).close()
    path = only_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    data[40] ^= 1
    path.write_bytes(data)
    found = new_journal(tmp_path).recover()
    assert found is not None
    assert found.entries == [submitted(0), submitted(1)]
    assert found.damaged_frames == 1


async def test_a_damaged_file_is_kept_under_another_name(tmp_path: Path) -> None:
    (await journal_with(tmp_path, [[submitted(0)], [submitted(1)]])).close()
    path = only_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    journal = new_journal(tmp_path)
    journal.recover()
    journal.start([BASE])
    journal.close()
    assert (tmp_path / f"damaged-{path.name}").read_bytes() == data
    assert entries_in(tmp_path) == [BASE]


async def test_a_file_of_which_nothing_opens_is_kept_and_reported(tmp_path: Path) -> None:
    (tmp_path / "journal-0000000000000004").write_bytes(b"CFSJRNL1 something else altogether")
    journal = new_journal(tmp_path)
    found = journal.recover()
    assert found is not None
    assert (found.entries, found.damaged_frames) == ([], 1)
    journal.start([BASE])
    journal.close()
    assert only_file(tmp_path).name == "journal-0000000000000005"
    assert (tmp_path / "damaged-journal-0000000000000004").exists()


# ---- what is refused ------------------------------------------------------------------------------------------------


async def test_a_frame_that_was_moved_or_doubled_is_refused(tmp_path: Path) -> None:
    journal = await journal_with(tmp_path, [])
    edges = [journal.size]
    for k in range(3):
        journal.append(submitted(k))
        await journal.commit()
        edges.append(journal.size)
    journal.close()
    data = only_file(tmp_path).read_bytes()
    head, frames = data[: edges[0]], [data[a:b] for a, b in itertools.pairwise(edges)]
    only_file(tmp_path).write_bytes(head + frames[0] + frames[0] + frames[2] + frames[1])
    found = new_journal(tmp_path).recover()
    assert found is not None
    assert found.entries == [BASE, submitted(0), submitted(2)]
    assert found.damaged_frames == 1


async def test_a_frame_of_another_generation_vault_or_key_is_refused(tmp_path: Path) -> None:
    (await journal_with(tmp_path / "a", [[submitted(0)]])).close()
    first = only_file(tmp_path / "a").read_bytes()
    journal = new_journal(tmp_path / "a")
    journal.recover()
    journal.start([BASE])
    journal.close()
    only_file(tmp_path / "a").write_bytes(first)  # the frames of generation 1 under the name of generation 2
    assert entries_in(tmp_path / "a") == []
    (await journal_with(tmp_path / "b", [[submitted(0)]])).close()
    assert Journal(tmp_path / "b", KEY, b"W" * 32, Faults()).recover().entries == []  # type: ignore[union-attr]
    assert Journal(tmp_path / "b", PurposeKey(bytes(32)), VAULT, Faults()).recover().entries == []  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(30))
async def test_noise_in_the_file_never_raises_and_never_invents(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    (await journal_with(tmp_path, [[submitted(k)] for k in range(5)])).close()
    data = bytearray(only_file(tmp_path).read_bytes()[:2000])
    for _ in range(rng.randrange(1, 40)):
        data[rng.randrange(len(data))] = rng.choice(b"CFSF\0\xff")
    only_file(tmp_path).write_bytes(data)
    found = new_journal(tmp_path).recover()
    assert found is not None
    wanted = [BASE, *(submitted(k) for k in range(5))]
    assert found.entries == [entry for entry in wanted if entry in found.entries]


# ---- a new generation -----------------------------------------------------------------------------------------------


class Died(BaseException):
    """The process is gone at this point."""


@pytest.mark.parametrize("at", range(1, 5))
async def test_a_crash_at_any_step_of_compacting_leaves_the_old_or_the_new(tmp_path: Path, at: int) -> None:
    def die(_: str) -> None:
        frozen = tmp_path / "frozen"  # what the disk holds at this moment; what happens after it does not count
        shutil.copytree(tmp_path / "live", frozen)
        raise Died

    journal = await journal_with(tmp_path / "live", [[submitted(0)], [submitted(1)]])
    journal._faults = Faults(at, die)
    journal.snapshot = lambda: [BASE, submitted(1)]
    try:
        await journal.compact()
    except Died:
        assert entries_in(tmp_path / "frozen") in ([BASE, submitted(0), submitted(1)], [BASE, submitted(1)])
    else:
        assert at == 4
        assert entries_in(tmp_path / "live") == [BASE, submitted(1)]
    journal.close()


async def test_a_compaction_that_fails_leaves_the_journal_usable(tmp_path: Path) -> None:
    journal = await journal_with(tmp_path, [[submitted(0)]])
    journal._faults = failing("journal.generation.synced", errno.EIO)
    journal.append(submitted(1))
    journal.snapshot = lambda: [BASE, submitted(1)]
    with pytest.raises(LocalDisk):
        await journal.compact()
    assert entries_in(tmp_path) == [BASE, submitted(0)]
    await journal.commit()
    journal.close()
    assert entries_in(tmp_path) == [BASE, submitted(0), submitted(1)]


# ---- failing disks --------------------------------------------------------------------------------------------------


async def test_after_a_failed_flush_the_file_is_never_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await journal_with(tmp_path, [[submitted(0)]])
    journal.snapshot = lambda: [BASE, submitted(0), submitted(1)]
    flushed: list[int] = []

    def fdatasync(fd: int) -> None:
        flushed.append(os.fstat(fd).st_ino)
        raise OSError(errno.EIO, "planted")

    old = only_file(tmp_path).stat().st_ino
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    journal.append(submitted(1))
    with pytest.raises(LocalDisk):
        await journal.commit()
    await journal.commit()
    journal.close()
    assert flushed == [old]
    assert only_file(tmp_path).stat().st_ino != old
    assert entries_in(tmp_path) == [BASE, submitted(0), submitted(1)]


@pytest.mark.parametrize("step", ["journal.write", "journal.fsync"])
async def test_a_full_disk_keeps_the_entries_for_the_next_commit(tmp_path: Path, step: str) -> None:
    journal = await journal_with(tmp_path, [])
    journal._faults = failing(step, errno.ENOSPC)
    journal.snapshot = lambda: [BASE, submitted(0)]  # asked for only if the file is not trusted any more
    journal.append(submitted(0))
    with pytest.raises(LocalDiskFull):
        await journal.commit()
    assert journal.dirty
    await journal.commit()
    assert not journal.dirty
    journal.close()
    assert entries_in(tmp_path) == [BASE, submitted(0)]


async def test_records_that_ride_stay_for_the_next_frame_when_theirs_fails(tmp_path: Path) -> None:
    journal = await journal_with(tmp_path, [])
    journal._faults = failing("journal.write", errno.ENOSPC)
    ride = [[Record(1, 64, b"one")], [Record(1, 67, b"two")], []]
    journal.before_write = lambda _: ride.pop(0).copy
    journal.append(submitted(0))
    with pytest.raises(LocalDiskFull):
        await journal.commit()
    await journal.commit()
    journal.close()
    found = entries_in(tmp_path)
    assert [entry for entry in found if isinstance(entry, Record)] == [Record(1, 67, b"two"), Record(1, 64, b"one")]
    assert submitted(0) in found


# ---- many at once ---------------------------------------------------------------------------------------------------


async def test_many_waiters_share_one_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await journal_with(tmp_path, [])
    flushes: list[int] = []
    real: Callable[[int], None] = os.fdatasync

    def fdatasync(fd: int) -> None:
        flushes.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    async with trio.open_nursery() as nursery:
        await journal._lock.acquire()
        for k in range(50):
            journal.append(submitted(k))
            nursery.start_soon(journal.commit)
        await wait_all_tasks_blocked()
        journal._lock.release()
    journal.close()
    assert len(flushes) == 1
    assert entries_in(tmp_path) == [BASE, *(submitted(k) for k in range(50))]


async def test_a_waiter_that_is_cancelled_loses_nothing(tmp_path: Path) -> None:
    journal = await journal_with(tmp_path, [])
    with trio.CancelScope() as scope:
        scope.cancel()
        journal.append(SegmentConfirmed(3))
        await journal.commit()
    await journal.commit()
    journal.close()
    assert entries_in(tmp_path) == [BASE, SegmentConfirmed(3)]
