"""Opening and writing: flags, races, appends by many processes, O_DIRECT, modes that forbid what the handle may do."""

import errno
import mmap
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rawcalls import as_user, fails_with

APPENDER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(int(sys.argv[3])):
    os.write(fd, b"%s %06d %s\\n" % (sys.argv[2].encode(), number, b"." * (number % 97)))
"""
CREATOR = """
import os, sys
won = 0
for number in range(200):
    try:
        os.close(os.open(f"{sys.argv[1]}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        won += 1
    except FileExistsError:
        pass
print(won)
"""


def python(code: str, *args: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-S", "-c", code, *map(str, args)], stdout=subprocess.PIPE)


def test_appends_of_many_processes_are_neither_lost_nor_mixed(target: Path) -> None:
    path = target / "log"
    path.write_bytes(b"")
    writers = [python(APPENDER, path, chr(ord("a") + number), 300) for number in range(4)]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    lines = path.read_bytes().splitlines()
    assert len(lines) == 1200
    for number in range(4):
        who = b"%c" % (ord("a") + number)
        mine = [line.split(b" ") for line in lines if line.startswith(who)]
        assert [int(line[1]) for line in mine] == list(range(300))
        assert all(line[2] == b"." * (int(line[1]) % 97) for line in mine)


def test_appends_of_threads_with_own_handles(target: Path) -> None:
    path = target / "log"
    path.write_bytes(b"")

    def work(who: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        for _ in range(200):
            os.write(fd, bytes([who]) * 37)
        os.close(fd)

    threads = [threading.Thread(target=work, args=(65 + number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = path.read_bytes()
    assert len(data) == 4 * 200 * 37
    assert all(len(set(data[at : at + 37])) == 1 for at in range(0, len(data), 37))


def test_append_ignores_the_position_and_sees_a_truncate(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"a")
    os.truncate(path, 3)
    os.write(fd, b"b")
    assert os.lseek(fd, 0, os.SEEK_CUR) == 4
    os.close(fd)
    assert path.read_bytes() == b"012b"


def test_exclusive_create_has_one_winner(target: Path) -> None:
    racers = [python(CREATOR, target) for _ in range(3)]
    wins = [int(racer.communicate()[0]) for racer in racers]
    assert sum(wins) == 200
    assert len(os.listdir(target)) == 200


def test_create_flags(target: Path) -> None:
    path = target / "f"
    with fails_with(errno.ENOENT):
        os.open(path, os.O_RDWR)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with fails_with(errno.EEXIST):
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    (target / "s").symlink_to("nowhere")
    with fails_with(errno.EEXIST):
        os.open(target / "s", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    with fails_with(errno.ELOOP):
        os.open(target / "s", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    with fails_with(errno.ENOTDIR):
        os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    with fails_with(errno.ENOTDIR):
        os.open(f"{path}/x", os.O_RDONLY)
    with fails_with(errno.EISDIR, errno.ENOTDIR):
        os.open(f"{target}/new/", os.O_RDWR | os.O_CREAT)
    with fails_with(errno.EISDIR):
        os.open(target, os.O_RDWR | os.O_CREAT)
    assert sorted(os.listdir(target)) == ["f", "s"]


@pytest.mark.parametrize("how", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_APPEND])
def test_o_trunc_empties_in_one_step(target: Path, how: int) -> None:
    path = target / "f"
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(5, 5))
    fd = os.open(path, how | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    assert os.fstat(fd).st_mtime_ns > 10**18
    os.write(fd, b"ab")
    os.close(fd)
    assert path.read_bytes() == b"ab"


def test_o_trunc_is_seen_by_a_reader_that_is_open(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"x" * 200_000)
    with path.open("rb", buffering=0) as reader:
        assert len(reader.read(1000)) == 1000
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        assert reader.read(1000) == b""
        path.write_bytes(b"y" * 1500)
        assert reader.read(1000) == b"y" * 500


def test_writer_is_seen_by_a_reader_at_once(target: Path) -> None:
    path = target / "f"
    with path.open("wb", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        for number in range(500):
            writer.write(b"%06d" % number)
            assert reader.read(100) == b"%06d" % number
            assert os.fstat(reader.fileno()).st_size == 6 * number + 6


def test_access_modes_of_descriptors(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"abc")
    reader, writer = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    with fails_with(errno.EBADF):
        os.write(reader, b"x")
    with fails_with(errno.EBADF):
        os.read(writer, 1)
    with fails_with(errno.EBADF, errno.EINVAL):
        os.ftruncate(reader, 0)
    os.close(reader)
    os.close(writer)
    where = os.open(path, os.O_PATH)
    with fails_with(errno.EBADF):
        os.read(where, 1)
    assert os.fstat(where).st_size == 3
    assert Path(f"/proc/self/fd/{where}").read_bytes() == b"abc"
    os.close(where)


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o400, 0o111, 0o444, 0o2755, 0o4755, 0o1644])
def test_created_mode_does_not_bind_the_creating_handle(target: Path, mode: int) -> None:
    os.umask(0)
    fd = os.open(target / "f", os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == mode
    os.write(fd, b"data")
    os.fsync(fd)
    assert os.pread(fd, 10, 0) == b"data"
    os.close(fd)
    os.chmod(target / "f", 0o600)
    assert (target / "f").read_bytes() == b"data"


@pytest.mark.needs_root
@pytest.mark.parametrize("mode", [0o000, 0o200, 0o400])
def test_created_mode_as_an_ordinary_user(target: Path, mode: int) -> None:
    target.chmod(0o777)
    path = target / "f"
    with as_user(4242):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        os.write(fd, b"data")
        assert os.pread(fd, 10, 0) == b"data"
        os.close(fd)
        for flags, bit in ((os.O_RDONLY, 0o400), (os.O_WRONLY, 0o200)):
            if mode & bit:
                os.close(os.open(path, flags))
            else:
                with fails_with(errno.EACCES):
                    os.open(path, flags)
        path.unlink()


@pytest.mark.parametrize("size", [512, 4096, 65_536, 1 << 20])
def test_o_direct_any_offset_and_size(target: Path, size: int) -> None:
    path = target / "f"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise
        pytest.skip("no O_DIRECT here")
    buffer = mmap.mmap(-1, size)
    buffer.write(os.urandom(size))
    for number in range(3):
        assert os.pwritev(fd, [buffer], number * size) == size
    back = mmap.mmap(-1, size)
    for number in range(3):
        assert os.preadv(fd, [back], number * size) == size
        assert back[:] == buffer[:]
    os.close(fd)
    assert path.read_bytes() == buffer[:] * 3


@pytest.mark.known(ext4="O_DIRECT must be aligned")
@pytest.mark.parametrize(("offset", "size"), [(1, 3), (511, 513), (65_535, 2), (100, 200_000)])
def test_o_direct_unaligned(target: Path, offset: int, size: int) -> None:
    path = target / "f"
    path.write_bytes(b"\xee" * 300_000)
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    assert os.pwrite(fd, b"d" * size, offset) == size
    assert os.pread(fd, size + 2, offset - 1) == b"\xee" + b"d" * size + b"\xee"
    os.close(fd)
    assert path.read_bytes() == b"\xee" * offset + b"d" * size + b"\xee" * (300_000 - offset - size)


def test_o_direct_and_cached_handles_agree(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"a" * 8192)
    try:
        direct = os.open(path, os.O_RDWR | os.O_DIRECT)
    except OSError:
        pytest.skip("no O_DIRECT here")
    cached = os.open(path, os.O_RDWR)
    block = mmap.mmap(-1, 4096)
    assert os.pread(cached, 8192, 0) == b"a" * 8192
    block.write(b"b" * 4096)
    os.pwritev(direct, [block], 4096)
    assert os.pread(cached, 8192, 0) == b"a" * 4096 + b"b" * 4096
    os.pwrite(cached, b"c" * 4096, 0)
    os.preadv(direct, [block], 0)
    assert block[:] == b"c" * 4096
    os.close(direct)
    os.close(cached)


def test_o_sync_o_dsync_o_noatime_o_nonblock(target: Path) -> None:
    for flag in (os.O_SYNC, os.O_DSYNC, os.O_NOATIME, os.O_NONBLOCK, os.O_CLOEXEC, os.O_NOCTTY):
        fd = os.open(target / "f", os.O_RDWR | os.O_CREAT | flag)
        os.pwrite(fd, b"x" * 5000, 0)
        assert os.pread(fd, 6000, 0) == b"x" * 5000
        os.close(fd)


def test_overlapping_writes_from_two_handles(target: Path) -> None:
    path = target / "f"
    one, two = os.open(path, os.O_RDWR | os.O_CREAT), os.open(path, os.O_RDWR)
    for number in range(100):
        os.pwrite(one, b"1" * 1000, number * 1500)
        os.pwrite(two, b"2" * 1000, number * 1500 + 500)
    os.close(one)
    os.close(two)
    data = path.read_bytes()
    for number in range(100):
        assert data[number * 1500 :][:1500] == b"1" * 500 + b"2" * 1000


def test_vectored_io(target: Path) -> None:
    fd = os.open(target / "f", os.O_RDWR | os.O_CREAT)
    assert os.writev(fd, [b"ab", b"", b"cdef", b"g" * 70_000]) == 70_006
    parts = [bytearray(1), bytearray(3), bytearray(100_000)]
    assert os.preadv(fd, parts, 0) == 70_006
    assert bytes(parts[0]) + bytes(parts[1]) + bytes(parts[2][:70_002]) == b"abcdef" + b"g" * 70_000
    os.close(fd)


def test_many_open_files(target: Path) -> None:
    fds = []
    for number in range(3000):
        fd = os.open(target / f"{number}", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"%d" % number)
        fds.append(fd)
    for number, fd in enumerate(fds):
        assert os.pread(fd, 10, 0) == b"%d" % number
    for fd in fds:
        os.close(fd)


def test_write_of_nothing_and_read_past_the_end(target: Path) -> None:
    fd = os.open(target / "f", os.O_RDWR | os.O_CREAT)
    os.utime(fd, ns=(5, 5))
    assert os.write(fd, b"") == 0
    assert os.fstat(fd).st_size == 0
    assert os.read(fd, 10) == b""
    assert os.pread(fd, 10, 1 << 40) == b""
    os.close(fd)


def test_big_single_write_and_read(target: Path) -> None:
    data = os.urandom(20 << 20)
    fd = os.open(target / "f", os.O_RDWR | os.O_CREAT)
    assert os.write(fd, data) == len(data)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.read(fd, len(data)) == data
    os.close(fd)
    assert (target / "f").read_bytes() == data
