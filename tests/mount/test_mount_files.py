import errno
import os
import stat

import pytest
from mount_kernel import Caller, refused

from cryptfs.errors import LocalDiskFull
from cryptfs.format.operation import Create, Put, SetAttr
from cryptfs.mount.filesystem import Rules

TIB = 1 << 40


def kinds(vault):
    return [type(op) for op in vault.ops]


async def test_what_is_written_is_read(kernel):
    await kernel.write("f", b"hello")
    assert await kernel.read("f") == b"hello"
    assert kernel.stat("f").size == 5


async def test_a_close_hands_over_once_and_only_what_changed(kernel):
    st = await kernel.write("f")
    await kernel.read(st)
    assert kinds(kernel.vault) == [Create, Put]


async def test_a_failed_hand_over_is_told_by_close_and_survived_by_release(kernel):
    fh, _ = kernel.create("f")
    await kernel.fs.files.write(fh, 0, b"x")
    kernel.vault.broken = LocalDiskFull("full")
    with refused(errno.ENOSPC):
        await kernel.fs.files.flush(fh)
    await kernel.fs.files.release(fh)
    assert kernel.fs.files.failed_hand_overs == 1
    with refused(errno.EBADF):
        await kernel.fs.files.read(fh, 0, 1)


async def test_data_of_a_shared_mapping_may_come_after_the_last_flush(kernel):
    fh, _ = kernel.create("f")
    await kernel.fs.files.flush(fh)
    await kernel.fs.files.write(fh, 0, b"late")
    await kernel.fs.files.release(fh)
    assert await kernel.read("f") == b"late"


async def test_open_with_o_trunc_truncates(kernel):
    st = await kernel.write("f", b"x" * 100)
    opened = await kernel.fs.files.open_truncated(st, os.O_WRONLY | os.O_TRUNC, kernel.caller)
    await kernel.fs.files.write(opened.fh, 0, b"ab")
    await kernel.close(opened.fh)
    assert await kernel.read("f") == b"ab"


@pytest.mark.parametrize(
    ("uid", "before", "after"),
    [(5, 0o6755, 0o755), (5, 0o2745, 0o2745), (5, 0o4644, 0o644), (5, 0o755, 0o755), (0, 0o6755, 0o6755)],
)
async def test_o_trunc_takes_privileges_away_unless_root_does_it(kernel, uid, before, after):
    st = await kernel.write("f", mode=before)
    opened = await kernel.fs.files.open_truncated(st, os.O_WRONLY | os.O_TRUNC, Caller(uid, 1))
    await kernel.close(opened.fh)
    assert stat.S_IMODE(kernel.stat("f").mode) == after


async def test_truncation_cuts_and_what_grows_back_is_zeros(kernel):
    st = await kernel.write("f", b"secret data")
    await kernel.set(st, size=3)
    assert (await kernel.set(st, size=8)).size == 8
    assert await kernel.read("f") == b"sec\0\0\0\0\0"


async def test_a_huge_file_costs_nothing(kernel):
    st = kernel.touch("f")
    grown = await kernel.set(st, size=16 * TIB)
    assert (grown.size, grown.blocks) == (16 * TIB, 0)
    with refused(errno.EFBIG):
        await kernel.set(st, size=16 * TIB + 1)
    fh = kernel.fs.files.open(st, os.O_WRONLY).fh
    with refused(errno.EFBIG):
        await kernel.fs.files.write(fh, 16 * TIB, b"x")
    await kernel.fs.files.write(fh, 16 * TIB - 1, b"x")
    await kernel.close(fh)
    assert 0 < kernel.stat("f").blocks <= 128


async def test_blocks_of_small_and_full_files(kernel):
    assert kernel.fs.getattr(await kernel.write("a", b"x" * 513)).blocks == 2
    assert kernel.fs.getattr(await kernel.write("b", b"x" * 200_000)).blocks == 391
    assert kernel.fs.getattr(kernel.touch("c")).blocks == 0


async def test_attributes_follow_unsaved_writes(kernel):
    fh, st = kernel.create("f")
    before = kernel.fs.getattr(st)
    await kernel.fs.files.write(fh, 0, b"12345")
    after = kernel.fs.getattr(st)
    assert (after.size, after.mtime_ns > before.mtime_ns, after.ctime_ns >= after.mtime_ns) == (5, True, True)
    await kernel.close(fh)
    closed = kernel.fs.getattr(st)
    assert (closed.size, closed.mtime_ns, closed.ctime_ns) == (5, after.mtime_ns, after.ctime_ns)


async def test_every_version_has_a_strictly_newer_mtime_even_if_the_clock_stands(kernel, monkeypatch):
    monkeypatch.setattr("cryptfs.mount.times.time.time_ns", lambda: 10**18)
    fh, st = kernel.create("f")
    seen = []
    for _ in range(5):
        await kernel.fs.files.write(fh, 0, b"x")
        seen.append(kernel.fs.getattr(st).mtime_ns)
    assert seen == sorted(set(seen))


async def test_a_time_set_by_utimens_is_no_floor_but_never_comes_again(kernel, monkeypatch):
    fh, st = kernel.create("f")
    future = 4 * 10**18
    await kernel.set(st, mtime_ns=future)
    assert kernel.fs.getattr(st).mtime_ns == future
    await kernel.fs.files.write(fh, 0, b"x")
    assert kernel.fs.getattr(st).mtime_ns < future
    await kernel.set(st, mtime_ns=2 * 10**18)
    monkeypatch.setattr("cryptfs.mount.times.time.time_ns", lambda: 2 * 10**18)
    await kernel.fs.files.write(fh, 0, b"y")
    assert kernel.fs.getattr(st).mtime_ns > 2 * 10**18


async def test_utimens_on_a_dirty_file_is_the_last_word(kernel):
    fh, st = kernel.create("f")
    await kernel.fs.files.write(fh, 0, b"x")
    await kernel.set(st, mtime_ns=1_000_000_001, atime_ns=-5)
    await kernel.close(fh)
    shown = kernel.fs.getattr(st)
    assert (shown.mtime_ns, shown.atime_ns) == (1_000_000_001, -5)
    assert kinds(kernel.vault) == [Create, Put, SetAttr]


async def test_times_are_kept_to_the_nanosecond_and_outside_of_32_bits(kernel):
    st = kernel.touch("f")
    for ns in (1, -1, 2**33 * 10**9 + 123_456_789, -(10**18)):
        shown = await kernel.set(st, mtime_ns=ns, atime_ns=ns)
        assert (shown.mtime_ns, shown.atime_ns) == (ns, ns)


async def test_setattr_changes_field_by_field_and_moves_ctime(kernel):
    st = kernel.touch("f")
    for fields in ({"mode": 0o100600}, {"uid": 3}, {"gid": 4}, {"mtime_ns": 7}, {"atime_ns": 8}, {}):
        before = kernel.fs.getattr(st)
        assert (await kernel.set(st, **fields)).ctime_ns > before.ctime_ns
    shown = kernel.fs.getattr(st)
    assert (stat.S_IMODE(shown.mode), shown.uid, shown.gid, shown.mtime_ns, shown.atime_ns) == (0o600, 3, 4, 7, 8)


async def test_truncate_sets_times_even_if_the_size_stays(kernel):
    st = await kernel.write("f", b"abc")
    before = kernel.fs.getattr(st)
    after = await kernel.set(st, size=3)
    assert after.mtime_ns > before.mtime_ns
    assert after.ctime_ns > before.ctime_ns


async def test_pages_are_kept_while_the_version_is_the_same(kernel):
    st = await kernel.write("f")
    files = kernel.fs.files
    opened = [files.open(st, os.O_RDONLY) for _ in range(2)]
    assert [one.keep_cache for one in opened] == [True, True]
    writer = files.open(st, os.O_WRONLY)
    await files.write(writer.fh, 0, b"new")
    assert files.open(st, os.O_RDONLY).keep_cache is False
    kernel.fs.inodes.changed_elsewhere(st)
    assert files.open(st, os.O_RDONLY).keep_cache is False


async def test_handle_numbers_are_never_used_twice(kernel):
    st = kernel.touch("f")
    seen = set()
    for _ in range(5):
        fh = kernel.fs.files.open(st, os.O_RDONLY).fh
        await kernel.close(fh)
        seen.add(fh)
    assert len(seen) == 5


async def test_the_last_handle_gives_the_content_back(kernel):
    st = kernel.touch("f")
    first, second = (kernel.fs.files.open(st, os.O_RDONLY).fh for _ in range(2))
    await kernel.close(first)
    assert st in kernel.vault.open_files
    await kernel.close(second)
    assert not kernel.vault.open_files
    assert not kernel.fs.inodes.opened


async def test_fsync_puts_the_bytes_down_and_commits_without_handing_the_file_over(kernel):
    fh, _ = kernel.create("f")
    await kernel.fs.files.write(fh, 0, b"x")
    await kernel.fs.files.fsync(fh)
    assert (kinds(kernel.vault), kernel.vault.commits, kernel.vault.syncs) == ([Create], 1, 0)
    await kernel.fs.files.flush(fh)
    assert kinds(kernel.vault) == [Create, Put]


async def test_fsync_remote_waits_for_the_store(vault, kernel):
    remote = type(kernel)(vault, Rules(fsync_remote=True))
    fh, _ = remote.create("f")
    await remote.fs.files.fsync(fh)
    assert (vault.commits, vault.syncs) == (0, 1)


async def test_a_read_only_vault_takes_no_change(kernel):
    st = await kernel.write("f")
    kernel.vault.read_only = True
    assert await kernel.read("f") == b"data"
    with refused(errno.EROFS):
        kernel.fs.files.open(st, os.O_WRONLY)
    with refused(errno.EROFS):
        await kernel.fs.files.open_truncated(st, os.O_RDONLY | os.O_TRUNC, kernel.caller)
    with refused(errno.EROFS):
        await kernel.set(st, size=0)
    with refused(errno.EROFS):
        kernel.mkdir("d")


async def test_all_dirty_files_are_handed_over_at_the_end(kernel):
    for name in "abc":
        fh, _ = kernel.create(name)
        await kernel.fs.files.write(fh, 0, b"x")
    await kernel.fs.files.hand_over_all()
    assert kinds(kernel.vault).count(Put) == 3
