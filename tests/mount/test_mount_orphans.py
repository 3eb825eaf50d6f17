import errno
import os
import stat

import pytest
from mount_kernel import refused

from cryptfs.format.operation import RENAME_EXCHANGE, Put, Unlink


async def open_and_unlinked(kernel, data=b"kept"):
    fh, st = kernel.create("f")
    await kernel.fs.files.write(fh, 0, data)
    kernel.unlink("f")
    return fh, st


async def test_an_unlinked_open_file_lives_to_its_last_release(kernel):
    fh, st = await open_and_unlinked(kernel)
    files = kernel.fs.files
    assert kernel.fs.getattr(st).nlink == 0
    await files.write(fh, 4, b" and written")
    assert bytes(await files.read(fh, 0, 100)) == b"kept and written"
    await files.fsync(fh)
    shown = await kernel.set(st, mode=0o100640, uid=9, gid=8, mtime_ns=5, atime_ns=6)
    assert (stat.S_IMODE(shown.mode), shown.uid, shown.gid, shown.mtime_ns, shown.atime_ns) == (0o640, 9, 8, 5, 6)
    assert (await kernel.set(st, size=2)).size == 2
    kernel.fs.xattrs.set(st, b"user.a", b"1")
    assert kernel.fs.xattrs.list(st, kernel.caller) == [b"user.a"]
    assert kernel.fs.xattrs.get(st, b"user.a") == b"1"
    kernel.fs.xattrs.remove(st, b"user.a")
    await kernel.close(fh)


async def test_nothing_written_after_the_last_unlink_is_logged(kernel):
    fh, st = await open_and_unlinked(kernel)
    await kernel.fs.files.write(fh, 0, b"x")
    await kernel.set(st, mode=0o600, size=0)
    kernel.fs.xattrs.set(st, b"user.a", b"1")
    count = len(kernel.vault.ops)
    await kernel.close(fh)
    assert len(kernel.vault.ops) == count
    assert not any(isinstance(op, Put) for op in kernel.vault.ops)


async def test_an_orphan_goes_when_it_is_neither_open_nor_known(kernel):
    inodes = kernel.fs.inodes
    fh, st = await open_and_unlinked(kernel)
    kernel.forget_all()
    assert st in inodes.orphans
    await kernel.close(fh)
    assert st not in inodes.orphans
    fh, st = await open_and_unlinked(kernel)
    await kernel.close(fh)
    assert st in inodes.orphans
    kernel.forget_all()
    assert st not in inodes.orphans
    with refused(errno.ESTALE):
        kernel.fs.getattr(st)


async def test_a_file_replaced_by_rename_while_open_is_an_orphan(kernel):
    fh, old = kernel.create("f")
    await kernel.fs.files.write(fh, 0, b"old")
    await kernel.write("new", b"new")
    kernel.rename("new", "f")
    assert kernel.fs.getattr(old).nlink == 0
    assert bytes(await kernel.fs.files.read(fh, 0, 9)) == b"old"
    assert await kernel.read("f") == b"new"
    await kernel.close(fh)


async def test_an_exchange_makes_no_orphan(kernel):
    await kernel.write("a")
    await kernel.write("b")
    kernel.rename("a", "b", RENAME_EXCHANGE)
    assert not kernel.fs.inodes.orphans


async def test_with_another_name_left_it_is_no_orphan(kernel):
    fh, st = kernel.create("a")
    kernel.link("a", "b")
    kernel.unlink("a")
    await kernel.fs.files.write(fh, 0, b"logged")
    await kernel.close(fh)
    assert (kernel.fs.getattr(st).nlink, await kernel.read("b")) == (1, b"logged")


async def test_an_orphan_keeps_the_xattrs_it_had(kernel):
    fh, st = kernel.create("f")
    kernel.fs.xattrs.set(st, b"user.old", b"v")
    kernel.unlink("f")
    assert kernel.fs.xattrs.get(st, b"user.old") == b"v"
    await kernel.close(fh)


async def test_an_orphan_gets_no_new_name(kernel):
    fh, st = await open_and_unlinked(kernel)
    with refused(errno.ENOENT):
        kernel.fs.names.link(st, 1, b"back")
    await kernel.close(fh)


async def test_its_bytes_cannot_be_opened_again_after_the_last_close(kernel):
    fh, st = await open_and_unlinked(kernel)
    await kernel.close(fh)
    with refused(errno.ESTALE):
        kernel.fs.files.open(st, os.O_RDONLY)


def test_a_removed_directory_lists_nothing_and_takes_nothing(kernel):
    st = kernel.mkdir("d")
    fh = kernel.fs.listings.opendir(st)
    kernel.rmdir("d")
    assert list(kernel.fs.listings.list_from(fh, 0)) == []
    assert list(kernel.fs.listings.list_from(kernel.fs.listings.opendir(st), 0)) == []
    assert kernel.fs.getattr(st).nlink == 0
    with refused(errno.ENOENT):
        kernel.fs.names.mkdir(st, b"x", 0o755, kernel.caller)


@pytest.mark.parametrize("path", ["s", "p"])
def test_symlinks_and_fifos_are_orphans_too(kernel, path):
    st = kernel.symlink(b"target", "s")
    fifo = kernel.fs.names.mknod(1, b"p", stat.S_IFIFO | 0o644, 0, kernel.caller).st
    kernel.unlink(path)
    assert kernel.fs.getattr({"s": st, "p": fifo}[path]).nlink == 0
    assert kernel.fs.readlink(st) == b"target"


async def test_a_refused_unlink_leaves_everything_as_it_was(kernel):
    fh, st = kernel.create("f")
    kernel.vault.read_only = True
    with refused(errno.EROFS):
        kernel.unlink("f")
    kernel.vault.read_only = False
    assert not kernel.fs.inodes.orphans
    await kernel.fs.files.write(fh, 0, b"x")
    await kernel.close(fh)
    assert await kernel.read(st) == b"x"


async def test_an_open_file_that_another_device_removed_goes_on(kernel):
    st = await kernel.write("f", b"theirs")
    fh = kernel.fs.files.open(st, os.O_RDWR).fh
    replica = kernel.vault.replica
    entry = replica.lookup(1, b"f")
    kernel.vault.submit(
        Unlink(replica.ino_of(st), replica.extern_ver(entry.lver), replica.extern_ver(replica.node(st).cver))
    )
    assert kernel.fs.getattr(st).nlink == 0
    assert (await kernel.set(st, mode=0o600)).nlink == 0
    assert bytes(await kernel.fs.files.read(fh, 0, 9)) == b"theirs"
    await kernel.close(fh)
    with refused(errno.ESTALE):
        kernel.fs.getattr(st)
