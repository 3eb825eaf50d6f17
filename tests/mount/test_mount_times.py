import os

import pytest

from cryptfs.mount.attributes import Owner
from cryptfs.mount.filesystem import Rules
from cryptfs.mount.times import Clock, atime_is_due, new_mtime

DAY = 24 * 3600 * 10**9


def test_the_clock_never_gives_the_same_time_twice(monkeypatch):
    readings = iter([100, 100, 99, 200])
    monkeypatch.setattr("cryptfs.mount.times.time.time_ns", lambda: next(readings))
    clock = Clock()
    assert [clock.now() for _ in range(4)] == [100, 101, 102, 200]


def test_a_real_step_backwards_is_believed(monkeypatch):
    readings = iter([10**18, 10**18 - 2 * 10**9])
    monkeypatch.setattr("cryptfs.mount.times.time.time_ns", lambda: next(readings))
    clock = Clock()
    assert [clock.now(), clock.now()] == [10**18, 10**18 - 2 * 10**9]


def test_a_new_mtime_is_never_the_one_that_is_shown():
    assert (new_mtime(5, 5), new_mtime(5, 9), new_mtime(9, 5)) == (6, 9, 5)


@pytest.mark.parametrize(
    ("rule", "times", "now", "due"),
    [
        ("relatime", (10, 10, 5), 20, True), ("relatime", (10, 5, 10), 20, True), ("relatime", (10, 5, 5), 20, False),
        ("relatime", (10, 5, 5), 10 + DAY, True), ("strictatime", (10, 5, 5), 20, True),
        ("noatime", (10, 20, 20), 30, False),
    ],
)  # fmt: skip
def test_relatime_as_in_mount_8(rule, times, now, due):
    assert atime_is_due(rule, *times, now) is due


async def moved(kernel, act, st):
    before = kernel.fs.getattr(st).atime_ns
    await act()
    return kernel.fs.getattr(st).atime_ns > before


@pytest.mark.parametrize(
    ("rules", "file_moves", "directory_moves"),
    [
        (Rules(), [True, False], [True, False]), (Rules(atime="strictatime"), [True, True], [True, True]),
        (Rules(atime="noatime"), [False, False], [False, False]),
        (Rules(nodiratime=True), [True, False], [False, False]),
    ],
)  # fmt: skip
async def test_reading_moves_atime_by_the_rule_of_the_mount(vault, kernel, rules, file_moves, directory_moves):
    kernel = type(kernel)(vault, rules)
    st = await kernel.write("f")
    directory = kernel.mkdir("d")

    async def read():
        await kernel.read(st)

    async def list_():
        kernel.list("d")

    assert [await moved(kernel, read, st) for _ in range(2)] == file_moves
    assert [await moved(kernel, list_, directory) for _ in range(2)] == directory_moves


async def test_atime_is_nobodys_business_but_this_devices(kernel):
    st = await kernel.write("f")
    count = len(kernel.vault.ops)
    await kernel.read(st)
    await kernel.set(st, atime_ns=77)
    assert len(kernel.vault.ops) == count


async def test_reading_a_symlink_and_an_orphan_moves_theirs(kernel):
    link = kernel.symlink(b"x", "s")

    async def follow():
        kernel.fs.readlink(link)

    assert await moved(kernel, follow, link)
    fh, st = kernel.create("f")
    kernel.unlink("f")

    async def read():
        await kernel.fs.files.read(fh, 0, 1)

    assert await moved(kernel, read, st)
    await kernel.close(fh)


def test_files_of_others_appear_as_the_mounting_users_own(vault, kernel):
    st = kernel.touch("f")
    shown = type(kernel)(vault, Rules(owner=Owner(1234, 5678))).fs.getattr(st)
    assert (shown.uid, shown.gid) == (1234, 5678)
    own = type(kernel)(vault, Rules(owner=Owner(1000, 5678))).fs.getattr(st)
    assert (own.uid, own.gid) == (1000, 100)
    assert os.getuid() >= 0
