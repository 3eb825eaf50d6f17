"""Extended attributes: many, large, on every kind of inode, with the exact errno of each refusal."""

import errno
import os
import struct
from pathlib import Path

import pytest
from rawcalls import as_user, fails_with, getxattr_into, listxattr_into

CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE
SMALL_BLOCK = {"ext4": "one block holds them all", "gocryptfs": "as the file system below"}


@pytest.fixture
def path(target: Path) -> Path:
    (target / "f").write_bytes(b"content")
    return target / "f"


@pytest.mark.parametrize("value", [b"", b"v", b"\0\xff\n", bytes(range(256))])
def test_values_are_raw_bytes(path: Path, value: bytes) -> None:
    os.setxattr(path, "user.k", value)
    assert os.getxattr(path, "user.k") == value
    assert os.listxattr(path) == ["user.k"]
    os.removexattr(path, "user.k")
    assert os.listxattr(path) == []


def test_names_are_raw_bytes_and_long(path: Path) -> None:
    names = [
        b"user.\xff\xfe",
        "user.schlüssel".encode(),
        b"user. ",
        b"user.a.b.c",
        b"user." + b"x" * 250,
        b"user.X",
        b"user.x",
    ]
    for number, name in enumerate(names):
        os.setxattr(path, name, b"%d" % number)
    assert sorted(os.fsencode(name) for name in os.listxattr(path)) == sorted(names)
    assert [os.getxattr(path, name) for name in names] == [b"%d" % number for number in range(len(names))]
    with fails_with(errno.ERANGE):
        os.setxattr(path, b"user." + b"x" * 251, b"")
    with fails_with(errno.EINVAL, errno.EOPNOTSUPP):
        os.setxattr(path, "user.", b"")


@pytest.mark.known(**SMALL_BLOCK)
@pytest.mark.parametrize("size", [5000, 40_000, 65_536])
def test_large_values(path: Path, size: int) -> None:
    value = os.urandom(size)
    os.setxattr(path, "user.big", value)
    assert os.getxattr(path, "user.big") == value


def test_value_above_64_kib_is_e2big(path: Path) -> None:
    with fails_with(errno.E2BIG):
        os.setxattr(path, "user.big", bytes(65_537))
    assert os.listxattr(path) == []


@pytest.mark.known(**SMALL_BLOCK)
def test_many(path: Path) -> None:
    names = [f"user.attribute-number-{number:04}" for number in range(500)]
    for name in names:
        os.setxattr(path, name, name.encode())
    assert sorted(os.listxattr(path)) == names
    assert all(os.getxattr(path, name) == name.encode() for name in names)
    for name in names[::2]:
        os.removexattr(path, name)
    assert sorted(os.listxattr(path)) == names[1::2]


def test_create_and_replace_flags(path: Path) -> None:
    with fails_with(errno.ENODATA):
        os.setxattr(path, "user.a", b"1", REPLACE)
    os.setxattr(path, "user.a", b"1", CREATE)
    with fails_with(errno.EEXIST):
        os.setxattr(path, "user.a", b"2", CREATE)
    os.setxattr(path, "user.a", b"3", REPLACE)
    assert os.getxattr(path, "user.a") == b"3"
    with fails_with(errno.EINVAL):
        os.setxattr(path, "user.a", b"4", 8)


def test_enodata(path: Path) -> None:
    with fails_with(errno.ENODATA):
        os.getxattr(path, "user.none")
    with fails_with(errno.ENODATA):
        os.removexattr(path, "user.none")
    os.setxattr(path, "user.a", b"1")
    os.removexattr(path, "user.a")
    with fails_with(errno.ENODATA):
        os.getxattr(path, "user.a")


def test_erange_and_asking_for_the_size(path: Path) -> None:
    os.setxattr(path, "user.a", b"0123456789")
    os.setxattr(path, "user.b", b"")
    assert len(getxattr_into(path, b"user.a", 0)) == 10
    assert getxattr_into(path, b"user.a", 10) == b"0123456789"
    assert getxattr_into(path, b"user.a", 1000) == b"0123456789"
    with fails_with(errno.ERANGE):
        getxattr_into(path, b"user.a", 9)
    assert getxattr_into(path, b"user.b", 0) == b""
    size = len(listxattr_into(path, 0))
    assert sorted(listxattr_into(path, size).split(b"\0")) == [b"", b"user.a", b"user.b"]
    with fails_with(errno.ERANGE):
        listxattr_into(path, size - 1)


@pytest.mark.parametrize("name", ["strange.x", "user", "noprefix", ".x"])
def test_unknown_namespaces_are_eopnotsupp(path: Path, name: str) -> None:
    with fails_with(errno.EOPNOTSUPP):
        os.setxattr(path, name, b"1")
    with fails_with(errno.EOPNOTSUPP, errno.ENODATA):
        os.getxattr(path, name)
    assert os.listxattr(path) == []


def test_on_directories(target: Path) -> None:
    (target / "d").mkdir()
    os.setxattr(target / "d", "user.a", b"1")
    (target / "d/f").write_bytes(b"")
    assert os.listxattr(target / "d") == ["user.a"]
    assert os.listxattr(target / "d/f") == []


@pytest.mark.needs_root
def test_on_symlinks(target: Path) -> None:
    (target / "aim").write_bytes(b"")
    (target / "s").symlink_to("aim")
    os.setxattr(target / "s", "trusted.a", b"link", follow_symlinks=False)
    os.setxattr(target / "s", "trusted.a", b"aim")
    assert os.getxattr(target / "s", "trusted.a", follow_symlinks=False) == b"link"
    assert os.getxattr(target / "aim", "trusted.a") == b"aim"
    assert os.listxattr(target / "s", follow_symlinks=False) == ["trusted.a"]
    with fails_with(errno.EPERM):
        os.setxattr(target / "s", "user.a", b"", follow_symlinks=False)
    os.removexattr(target / "s", "trusted.a", follow_symlinks=False)
    assert os.listxattr(target / "s", follow_symlinks=False) == []
    assert os.listxattr(target / "aim") == ["trusted.a"]


@pytest.mark.needs_root
def test_trusted_is_for_root_only(path: Path) -> None:
    os.setxattr(path, "trusted.secret", b"1")
    os.setxattr(path, "user.open", b"2")
    assert sorted(os.listxattr(path)) == ["trusted.secret", "user.open"]
    with as_user(4242):
        assert os.listxattr(path) == ["user.open"]
        with fails_with(errno.ENODATA, errno.EPERM):
            os.getxattr(path, "trusted.secret")
        with fails_with(errno.EPERM):
            os.setxattr(path, "trusted.secret", b"3")


@pytest.mark.needs_root
def test_security_namespace(path: Path) -> None:
    capability = struct.pack("<IIIII", 0x02000000 | 1, 1 << 10, 0, 0, 0)
    os.setxattr(path, "security.capability", capability)
    assert os.getxattr(path, "security.capability") == capability
    assert os.listxattr(path) == ["security.capability"]
    os.removexattr(path, "security.capability")
    os.setxattr(path, "security.test", b"x")
    assert os.getxattr(path, "security.test") == b"x"


@pytest.mark.needs_root
def test_writing_removes_file_capabilities(path: Path) -> None:
    os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000000 | 1, 1 << 10, 0, 0, 0))
    path.write_bytes(b"other program")
    assert os.listxattr(path) == []


@pytest.mark.needs_root
def test_rights_for_user_attributes(path: Path) -> None:
    os.setxattr(path, "user.a", b"1")
    path.chmod(0o644)
    with as_user(4242):
        assert os.getxattr(path, "user.a") == b"1"
        with fails_with(errno.EACCES):
            os.setxattr(path, "user.a", b"2")
        with fails_with(errno.EACCES):
            os.removexattr(path, "user.a")
    path.chmod(0o600)
    with as_user(4242), fails_with(errno.EACCES):
        os.getxattr(path, "user.a")


def test_acl_is_enforced_or_refused(path: Path) -> None:
    """An ACL that is stored and not obeyed would promise what nobody keeps."""
    entries = [(1, 6, 2**32 - 1), (2, 4, 4242), (4, 0, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError as err:
        if err.errno != errno.EOPNOTSUPP:
            raise
        assert os.listxattr(path) == []
        return
    assert path.stat().st_mode & 0o777 == 0o640
    if os.geteuid() == 0:
        with as_user(4242):
            assert path.read_bytes() == b"content"
        with as_user(4343), fails_with(errno.EACCES):
            path.read_bytes()


def test_attributes_follow_the_inode_through_rename_link_and_rewrite(path: Path, target: Path) -> None:
    os.setxattr(path, "user.a", b"1")
    os.link(path, target / "g")
    path.rename(target / "h")
    (target / "h").write_bytes(b"rewritten")
    assert os.getxattr(target / "g", "user.a") == b"1"
    (target / "new").write_bytes(b"")
    (target / "new").rename(target / "h")
    assert os.listxattr(target / "h") == []


def test_by_descriptor(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.setxattr(fd, "user.fd", b"1")
    assert os.getxattr(path, "user.fd") == b"1"
    os.removexattr(fd, "user.fd")
    assert os.listxattr(fd) == []
    os.close(fd)
