"""Names, paths and symlink targets: 255 raw bytes, unchanged, in every call that takes a name."""

import errno
import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from rawcalls import EXCHANGE, as_user, fails_with, renameat2

LONGEST = b"n" * 255
TOO_LONG = b"n" * 256
NFC = unicodedata.normalize("NFC", "Übergröße é").encode()
NFD = unicodedata.normalize("NFD", "Übergröße é").encode()
ODD_NAMES = [
    b"\xff\xfe\x80 not utf-8",
    b"new\nline",
    b"tab\t bell\x07 esc\x1b",
    b"back\\slash",
    b" leading and trailing ",
    b"...",
    b"..a",
    b"-rf",
    b"*?[]{}$`'\"|<>&;#~!",
    b"CON",
    b"aux.txt.",
    "\U0001f512 \u202e rtl".encode(),
    b"\xed\xa0\x80 surrogate",
    b"\x01",
    b"\x7f",
]


def test_name_of_255_bytes_in_every_call(target: Path) -> None:
    top = os.fsencode(target)
    name = top + b"/" + LONGEST
    os.close(os.open(name, os.O_CREAT | os.O_EXCL, 0o644))
    os.rename(name, top + b"/" + b"r" * 255)
    os.link(top + b"/" + b"r" * 255, name)
    os.unlink(name)
    os.mkdir(name)
    os.rmdir(name)
    os.symlink(b"x", name)
    os.unlink(name)
    os.mkfifo(name)
    assert sorted(os.listdir(top)) == sorted([LONGEST, b"r" * 255])


@pytest.mark.parametrize("length", [256, 300, 1024, 4000])
def test_longer_names_are_enametoolong_in_every_call(target: Path, length: int) -> None:
    top = os.fsencode(target)
    name, there = top + b"/" + b"n" * length, top + b"/there"
    if len(name) > 4095:
        pytest.skip("the path itself is too long")
    Path(os.fsdecode(there)).write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: os.stat(name),
        lambda: os.open(name, os.O_RDONLY),
        lambda: os.open(name, os.O_CREAT | os.O_WRONLY, 0o644),
        lambda: os.mkdir(name),
        lambda: os.rmdir(name),
        lambda: os.unlink(name),
        lambda: os.mkfifo(name),
        lambda: os.symlink(b"x", name),
        lambda: os.readlink(name),
        lambda: os.link(there, name),
        lambda: os.link(name, top + b"/new"),
        lambda: os.rename(there, name),
        lambda: os.rename(name, top + b"/new"),
        lambda: renameat2(there, name, EXCHANGE),
        lambda: os.chmod(name, 0o600),
        lambda: os.chown(name, 0, 0),
        lambda: os.truncate(name, 0),
        lambda: os.utime(name),
        lambda: os.listdir(name),
        lambda: os.setxattr(name, "user.a", b"b"),
        lambda: os.statvfs(name),
    ]
    for call in calls:
        with fails_with(errno.ENAMETOOLONG):
            call()
    assert os.listdir(top) == [b"there"]


def test_names_are_raw_bytes_untouched(target: Path) -> None:
    top = os.fsencode(target)
    for name in ODD_NAMES:
        with open(top + b"/" + name, "xb") as file:
            file.write(name)
    assert sorted(os.listdir(top)) == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        with open(top + b"/" + name, "rb") as file:
            assert file.read() == name


@pytest.mark.parametrize("code", [*[*range(1, 47), *range(48, 256)][::9], 1, 46, 92, 127, 128, 255])
def test_every_byte_value_in_a_name(target: Path, code: int) -> None:
    name = os.fsencode(target) + b"/a" + bytes([code]) + b"z"
    os.mkdir(name)
    assert os.listdir(os.fsencode(target)) == [b"a" + bytes([code]) + b"z"]
    os.rmdir(name)


def test_composed_and_decomposed_names_are_two_files(target: Path) -> None:
    top = os.fsencode(target)
    assert NFC != NFD
    for name in (NFC, NFD):
        with open(top + b"/" + name, "xb") as file:
            file.write(name)
    assert sorted(os.listdir(top)) == sorted([NFC, NFD])
    with open(top + b"/" + NFD, "rb") as file:
        assert file.read() == NFD


def test_case_is_kept_and_told_apart(target: Path) -> None:
    for name in ("Readme", "README", "readme"):
        (target / name).write_text(name)
    assert {path.name: path.read_text() for path in target.iterdir()} == {n: n for n in ("Readme", "README", "readme")}


def test_path_of_4095_bytes(target: Path) -> None:
    os.chdir(target)
    # The path as given to one call counts: PATH_MAX, 4,096 with its end.
    path = "/".join(["d" * 204] * 19) + "/" + "f" * 200
    assert len(path) == 19 * 205 + 200 == 4095
    os.makedirs(os.path.dirname(path))
    Path(path).write_bytes(b"deep")
    assert Path(path).read_bytes() == b"deep"
    with fails_with(errno.ENAMETOOLONG):
        os.stat(path + "x")


def test_tree_deeper_than_path_max(target: Path) -> None:
    os.chdir(target)
    for _ in range(300):
        os.mkdir("level-with-some-length")
        os.chdir("level-with-some-length")
    Path("bottom").write_bytes(b"here")
    fd = os.open(".", os.O_RDONLY)
    try:
        assert os.listdir(fd) == ["bottom"]
    finally:
        os.close(fd)
    for _ in range(300):
        for name in os.listdir():
            os.rmdir(name) if name != "bottom" else os.unlink(name)
        os.chdir("..")


@pytest.mark.parametrize("length", [1, 100, 1023, 4094, 4095])
def test_symlink_targets_up_to_4095_bytes(target: Path, length: int) -> None:
    link = target / "link"
    aim = ("/" + "t" * 99) * 41
    aim = aim[:length]
    os.symlink(aim, link)
    assert os.readlink(link) == aim
    assert link.lstat().st_size == length


def test_symlink_target_of_4096_bytes_is_enametoolong(target: Path) -> None:
    with fails_with(errno.ENAMETOOLONG):
        os.symlink("t" * 4096, target / "link")
    with fails_with(errno.ENOENT):
        os.symlink("", target / "link")
    assert list(target.iterdir()) == []


def test_symlink_targets_are_raw_bytes(target: Path) -> None:
    for number, aim in enumerate([*ODD_NAMES, NFC, NFD]):
        link = os.fsencode(target / str(number))
        os.symlink(aim, link)
        assert os.readlink(link) == aim


def test_symlink_loop_is_eloop_and_dangling_is_enoent(target: Path) -> None:
    os.symlink("b", target / "a")
    os.symlink("a", target / "b")
    os.symlink("nowhere", target / "dangling")
    for call in (os.stat, os.listdir, lambda path: os.open(path, os.O_RDONLY)):
        with fails_with(errno.ELOOP):
            call(target / "a")
        with fails_with(errno.ENOENT):
            call(target / "dangling")
    with fails_with(errno.EEXIST):
        os.close(os.open(target / "dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    (target / "dangling").write_bytes(b"made through the link")
    assert (target / "nowhere").read_bytes() == b"made through the link"


def test_symlink_mode_is_0777_and_size_is_target_length(target: Path) -> None:
    os.symlink("aim", target / "link")
    info = (target / "link").lstat()
    assert (info.st_mode, info.st_size, info.st_nlink) == (0o120777, 3, 1)


def test_socket_bound_at_a_name(target: Path) -> None:
    os.chdir(target)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("service")
        server.listen()
        client.connect("service")
        connection, _ = server.accept()
        with connection:
            client.sendall(b"hello")
            assert connection.recv(5) == b"hello"


@pytest.mark.needs_root
def test_new_inodes_belong_to_the_caller_not_the_daemon(target: Path) -> None:
    target.chmod(0o777)
    with as_user(4242, 4343):
        (target / "file").write_bytes(b"x")
        (target / "dir").mkdir()
        (target / "link").symlink_to("file")
        os.mkfifo(target / "fifo")
    for path in target.iterdir():
        assert (path.lstat().st_uid, path.lstat().st_gid) == (4242, 4343), path
