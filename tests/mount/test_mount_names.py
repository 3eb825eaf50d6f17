import errno
import os
import stat

import pytest
from mount_kernel import Caller, refused

from cryptfs.format.operation import KIND_FIFO, RENAME_EXCHANGE, RENAME_NOREPLACE

LONG = b"n" * 256


def test_names_of_255_bytes_work_and_longer_ones_are_refused_everywhere(kernel):
    names, caller = kernel.fs.names, kernel.caller
    made = names.mkdir(1, LONG[:255], 0o755, caller)
    assert names.lookup(1, LONG[:255]).st == made.st
    file = kernel.touch("f")
    for call in (
        lambda: names.lookup(1, LONG),
        lambda: names.mkdir(1, LONG, 0o755, caller),
        lambda: names.mknod(1, LONG, stat.S_IFREG, 0, caller),
        lambda: names.symlink(1, LONG, b"x", caller),
        lambda: names.link(file, 1, LONG),
        lambda: names.unlink(1, LONG),
        lambda: names.rmdir(1, LONG),
        lambda: kernel.fs.rename((1, b"f"), (1, LONG), 0),
        lambda: kernel.fs.rename((1, LONG), (1, b"f"), 0),
        lambda: kernel.create("n" * 256),
    ):
        with refused(errno.ENAMETOOLONG):
            call()


def test_names_are_bytes_and_stay_as_they_are(kernel):
    for name in ("é".encode(), b"e\xcc\x81", b"\xff\xfe", b"File", b"file"):
        kernel.fs.names.mkdir(1, name, 0o755, kernel.caller)
    assert len(kernel.fs.vault.replica.entries(1)) == 5


@pytest.mark.parametrize("name", [b".", b"..", b"", b"a/b"])
def test_names_that_no_entry_can_have_are_refused(kernel, name):
    with refused(errno.EINVAL):
        kernel.fs.names.mkdir(1, name, 0o755, kernel.caller)


def test_what_exists_is_not_made_again(kernel):
    kernel.mkdir("d")
    kernel.touch("f")
    for make in (kernel.mkdir, kernel.touch, kernel.create, lambda path: kernel.symlink(b"x", path)):
        for path in ("d", "f"):
            with refused(errno.EEXIST):
                make(path)
    with refused(errno.EEXIST):
        kernel.link("f", "d")


def test_nothing_is_made_below_a_file_or_in_a_removed_directory(kernel):
    file, gone = kernel.touch("f"), kernel.mkdir("d")
    kernel.rmdir("d")
    with refused(errno.ENOTDIR):
        kernel.fs.names.mkdir(file, b"x", 0o755, kernel.caller)
    with refused(errno.ENOENT):
        kernel.fs.names.mkdir(gone, b"x", 0o755, kernel.caller)


def test_owner_is_the_caller_and_mode_is_data(kernel):
    kernel.caller = Caller(7, 8)
    for mode in (0o000, 0o200, 0o151, 0o305, 0o4755, 0o2755, 0o1777):
        made = kernel.fs.getattr(kernel.touch(f"f{mode:o}", mode))
        assert (made.mode, made.uid, made.gid) == (stat.S_IFREG | mode, 7, 8)
    assert kernel.fs.getattr(kernel.mkdir("d", 0o151)).mode == stat.S_IFDIR | 0o151


def test_a_setgid_directory_gives_its_group_and_directories_the_bit(kernel):
    kernel.caller = Caller(1, 50)
    kernel.mkdir("d", 0o2775)
    kernel.caller = Caller(2, 60)
    assert kernel.fs.getattr(kernel.touch("d/f", 0o644)).gid == 50
    below = kernel.fs.getattr(kernel.mkdir("d/e", 0o755))
    assert (below.gid, below.mode & 0o7777) == (50, 0o2755)
    assert kernel.fs.getattr(kernel.symlink(b"x", "d/s")).gid == 50


def test_special_files_keep_kind_and_device_number(kernel):
    names = kernel.fs.names
    assert names.mknod(1, b"fifo", stat.S_IFIFO | 0o600, 0, kernel.caller).mode == stat.S_IFIFO | 0o600
    assert names.mknod(1, b"sock", stat.S_IFSOCK | 0o600, 0, kernel.caller).mode == stat.S_IFSOCK | 0o600
    device = names.mknod(1, b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3), kernel.caller)
    assert (device.mode, device.rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert names.mknod(1, b"sda", stat.S_IFBLK | 0o660, os.makedev(8, 0), kernel.caller).rdev == os.makedev(8, 0)
    assert kernel.vault.ops[0].kind == KIND_FIFO
    with refused(errno.EINVAL):
        names.mknod(1, b"x", stat.S_IFDIR, 0, kernel.caller)


def test_symlink_targets_are_kept_byte_for_byte_up_to_4095(kernel):
    target = b"\xff/" + b"t" * 4093
    made = kernel.symlink(target, "s")
    assert kernel.fs.readlink(made) == target
    assert kernel.fs.getattr(made).size == 4095
    with refused(errno.ENAMETOOLONG):
        kernel.symlink(target + b"t", "long")
    with refused(errno.EINVAL):
        kernel.fs.readlink(kernel.touch("f"))


def test_hard_links_share_one_inode_and_are_counted_exactly(kernel):
    kernel.touch("a")
    linked = kernel.link("a", "b")
    assert (linked.nlink, linked.st) == (2, kernel.st("a"))
    kernel.mkdir("d")
    kernel.link("b", "d/c")
    assert kernel.stat("a").nlink == 3
    kernel.unlink("a")
    assert kernel.stat("b").nlink == 2
    with refused(errno.EPERM):
        kernel.link("d", "e")


def test_directories_count_their_subdirectories(kernel):
    kernel.mkdir("d")
    kernel.mkdir("d/x")
    kernel.mkdir("d/y")
    kernel.touch("d/f")
    assert kernel.stat("d").nlink == 4
    kernel.rmdir("d/x")
    kernel.rename("d/y", "y")
    assert (kernel.stat("d").nlink, kernel.stat("/").nlink) == (2, 4)


def test_unlink_and_rmdir_mind_the_kind(kernel):
    kernel.mkdir("d")
    kernel.touch("d/f")
    with refused(errno.EISDIR):
        kernel.unlink("d")
    with refused(errno.ENOTDIR):
        kernel.rmdir("d/f")
    with refused(errno.ENOTEMPTY):
        kernel.rmdir("d")
    with refused(errno.ENOENT):
        kernel.unlink("x")
    kernel.unlink("d/f")
    kernel.rmdir("d")
    assert kernel.list() == []


def test_dot_and_dotdot_answer_handles_that_outlived_every_cache(kernel):
    kernel.mkdir("d")
    below = kernel.mkdir("d/e")
    names = kernel.fs.names
    assert names.lookup(below, b".").st == below
    assert names.lookup(below, b"..").st == kernel.st("d")
    assert names.lookup(1, b"..").st == 1
    file = kernel.touch("f")
    assert names.lookup(file, b".").st == file
    with refused(errno.ESTALE):
        names.lookup(12345, b".")


def test_a_trashed_inode_is_stale_once_the_kernel_forgot_it(kernel):
    file, directory = kernel.touch("f"), kernel.mkdir("d")
    kernel.unlink("f")
    kernel.rmdir("d")
    kernel.forget_all()
    for st in (file, directory):
        with refused(errno.ESTALE):
            kernel.fs.names.lookup(st, b".")


def test_rename_moves_files_and_directories(kernel):
    file, directory = kernel.touch("f"), kernel.mkdir("d")
    kernel.rename("f", "d/g")
    kernel.rename("d", "e")
    assert (kernel.st("e/g"), kernel.st("e"), kernel.list()) == (file, directory, ["e"])


def test_rename_replaces_only_what_it_may(kernel):
    for path in ("d", "full", "empty"):
        kernel.mkdir(path)
    kernel.touch("full/x")
    file, other = kernel.touch("f"), kernel.touch("g")
    for old, new, code in (
        ("f", "d", errno.EISDIR), ("d", "f", errno.ENOTDIR), ("d", "full", errno.ENOTEMPTY), ("no", "f", errno.ENOENT),
    ):  # fmt: skip
        with refused(code):
            kernel.rename(old, new)
    kernel.rename("d", "empty")
    kernel.rename("f", "g")
    assert kernel.st("g") == file
    assert kernel.fs.getattr(other).nlink == 0
    assert kernel.list() == ["empty", "full", "g"]


def test_no_directory_moves_into_itself_or_below(kernel):
    kernel.mkdir("a")
    kernel.mkdir("a/b")
    kernel.mkdir("a/b/c")
    for new in ("a/x", "a/b/x", "a/b/c/x"):
        with refused(errno.EINVAL):
            kernel.rename("a", new)
    for pair in (("a", "a/b/c"), ("a/b/c", "a")):
        with refused(errno.EINVAL):
            kernel.rename(*pair, RENAME_EXCHANGE)


def test_rename_between_two_names_of_one_inode_keeps_both(kernel):
    kernel.touch("a")
    kernel.link("a", "b")
    before = len(kernel.vault.ops)
    kernel.rename("a", "b")
    assert (kernel.list(), len(kernel.vault.ops)) == (["a", "b"], before)


def test_rename_noreplace_and_exchange(kernel):
    file, directory = kernel.touch("f"), kernel.mkdir("d")
    with refused(errno.EEXIST):
        kernel.rename("f", "d", RENAME_NOREPLACE)
    kernel.rename("f", "g", RENAME_NOREPLACE)
    with refused(errno.ENOENT):
        kernel.rename("g", "x", RENAME_EXCHANGE)
    kernel.mkdir("d/sub")
    kernel.rename("g", "d", RENAME_EXCHANGE)
    assert (kernel.st("g"), kernel.st("d"), kernel.stat("/").nlink) == (directory, file, 3)
    for flags in (3, 4, 8):
        with refused(errno.EINVAL):
            kernel.rename("g", "x", flags)


def test_lookups_are_counted_and_forgotten(kernel):
    lookups = kernel.fs.inodes.lookups
    st = kernel.touch("f")
    kernel.st("f")
    kernel.link("f", "g")
    assert lookups[st] == 4  # mknod, lookup, lookup and reply of link
    kernel.fs.inodes.forget([(st, 3)])
    assert lookups[st] == 1
    kernel.fs.inodes.forget([(st, 1), (999, 1)])
    assert st not in lookups


def test_every_change_of_names_moves_the_times_of_both_directories(kernel):
    kernel.mkdir("a")
    kernel.mkdir("b")
    for act in (
        lambda: kernel.touch("a/f"), lambda: kernel.rename("a/f", "b/f"), lambda: kernel.rename("b/f", "a/f"),
        lambda: kernel.link("a/f", "a/g"), lambda: kernel.unlink("a/f"), lambda: kernel.mkdir("a/d"),
        lambda: kernel.rmdir("a/d"),
    ):  # fmt: skip
        before = kernel.stat("a")
        act()
        after = kernel.stat("a")
        assert after.mtime_ns > before.mtime_ns
        assert after.ctime_ns > before.ctime_ns
