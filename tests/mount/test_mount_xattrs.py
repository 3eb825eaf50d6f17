import errno

import pytest
from mount_kernel import Caller, refused

from cryptfs.format.operation import Create, DelXattr, SetXattr
from cryptfs.mount.filesystem import FileSystem, Rules
from cryptfs.mount.localxattrs import MetaXattrs

ROOT_USER = Caller(0, 0)


def test_user_attributes_travel(kernel):
    st, xattrs = kernel.touch("f"), kernel.fs.xattrs
    xattrs.set(st, b"user.b", b"")
    xattrs.set(st, b"user.a", b"\0" * 65536)
    assert xattrs.list(st, kernel.caller) == [b"user.a", b"user.b"]
    assert (xattrs.get(st, b"user.b"), len(xattrs.get(st, b"user.a"))) == (b"", 65536)
    xattrs.remove(st, b"user.a")
    with refused(errno.ENODATA):
        xattrs.get(st, b"user.a")
    with refused(errno.ENODATA):
        xattrs.remove(st, b"user.a")
    assert [type(op) for op in kernel.vault.ops] == [Create, SetXattr, SetXattr, DelXattr]


@pytest.mark.parametrize("name", [b"security.capability", b"trusted.overlay.origin"])
def test_security_and_trusted_attributes_stay_on_this_device(kernel, name):
    st, xattrs = kernel.touch("f"), kernel.fs.xattrs
    xattrs.set(st, name, b"\1")
    assert xattrs.get(st, name) == b"\1"
    assert [type(op) for op in kernel.vault.ops] == [Create]
    xattrs.remove(st, name)
    with refused(errno.ENODATA):
        xattrs.get(st, name)
    with refused(errno.ENODATA):
        xattrs.remove(st, name)


def test_trusted_attributes_are_listed_to_root_alone(kernel):
    st, xattrs = kernel.touch("f"), kernel.fs.xattrs
    xattrs.set(st, b"trusted.t", b"1")
    xattrs.set(st, b"security.s", b"1")
    assert xattrs.list(st, kernel.caller) == [b"security.s"]
    assert set(xattrs.list(st, ROOT_USER)) == {b"trusted.t", b"security.s"}


def test_local_attributes_survive_a_remount(kernel, vault):
    st = kernel.touch("f")
    first = FileSystem(vault, Rules(), MetaXattrs(vault.replica))
    first.xattrs.set(st, b"security.s", b"label")
    second = FileSystem(vault, Rules(), MetaXattrs(vault.replica))
    assert second.xattrs.get(st, b"security.s") == b"label"
    second.xattrs.remove(st, b"security.s")
    assert FileSystem(vault, Rules(), MetaXattrs(vault.replica)).xattrs.list(st, ROOT_USER) == []


def test_local_attributes_end_with_their_inode(kernel):
    st = kernel.touch("f")
    kernel.fs.xattrs.set(st, b"security.s", b"1")
    kernel.unlink("f")
    assert kernel.fs.xattrs.get(st, b"security.s") == b"1"
    kernel.forget_all()
    with refused(errno.ENODATA):
        kernel.fs.xattrs.get(st, b"security.s")


@pytest.mark.parametrize("name", [b"system.posix_acl_access", b"system.posix_acl_default", b"system.x", b"other.y"])
def test_what_nobody_would_enforce_is_not_supported(kernel, name):
    st, xattrs = kernel.touch("f"), kernel.fs.xattrs
    for call in (lambda: xattrs.get(st, name), lambda: xattrs.set(st, name, b""), lambda: xattrs.remove(st, name)):
        with refused(errno.ENOTSUP):
            call()


def test_limits_are_exact(kernel):
    st, xattrs = kernel.touch("f"), kernel.fs.xattrs
    xattrs.set(st, b"user." + b"n" * 250, b"")
    with refused(errno.ERANGE):
        xattrs.set(st, b"user." + b"n" * 251, b"")
    with refused(errno.E2BIG):
        xattrs.set(st, b"user.v", b"x" * 65537)
    with refused(errno.EINVAL):
        xattrs.set(st, b"user.", b"x")
    xattrs.set(st, b"user..", b"x")


def test_status_attributes_are_read_only_and_not_listed(kernel):
    st, xattrs = kernel.touch("f"), kernel.fs.xattrs
    assert xattrs.get(st, b"user.cryptfs.vault") == b"work"
    assert xattrs.get(st, b"user.cryptfs.state") == b"pending"
    assert len(xattrs.get(st, b"user.cryptfs.inode")) == 32
    assert xattrs.list(st, ROOT_USER) == []
    for call in (lambda: xattrs.set(st, b"user.cryptfs.state", b"x"), lambda: xattrs.remove(st, b"user.cryptfs.state")):
        with refused(errno.EPERM):
            call()
    with refused(errno.ENODATA):
        xattrs.get(st, b"user.cryptfs.nonsense")


def test_a_conflicted_copy_says_whose_copy_it_is(kernel):
    xattrs = kernel.fs.xattrs
    copy = kernel.touch("plan (Bob's conflicted copy 2026-11-25).txt")
    assert xattrs.get(copy, b"user.cryptfs.conflict") == b"plan.txt"
    with refused(errno.ENODATA):
        xattrs.get(kernel.touch("plan.txt"), b"user.cryptfs.conflict")


def test_setting_any_attribute_moves_ctime(kernel):
    st, xattrs = kernel.touch("f"), kernel.fs.xattrs
    for name in (b"user.u", b"security.s"):
        for act in (lambda name=name: xattrs.set(st, name, b"1"), lambda name=name: xattrs.remove(st, name)):
            before = kernel.fs.getattr(st).ctime_ns
            act()
            assert kernel.fs.getattr(st).ctime_ns > before


def test_labels_of_selinux_are_not_supported_until_a_file_has_one(kernel, vault):
    """What `ls -l` asks every file for, but after EOPNOTSUPP no further one."""
    st, other = kernel.touch("f"), kernel.touch("other")
    xattrs = FileSystem(vault, Rules(), MetaXattrs(vault.replica)).xattrs
    with refused(errno.ENOTSUP):
        xattrs.get(st, b"security.selinux")
    xattrs.set(st, b"security.selinux", b"label")
    assert xattrs.get(st, b"security.selinux") == b"label"
    for again in (xattrs, FileSystem(vault, Rules(), MetaXattrs(vault.replica)).xattrs):
        with refused(errno.ENODATA):
            again.get(other, b"security.selinux")
