import errno
import logging

import pyfuse3
import pytest
from trio.testing import wait_all_tasks_blocked

from cryptfs.mount.invalidation import Invalidator


@pytest.fixture
def told(monkeypatch):
    calls = []
    monkeypatch.setattr(pyfuse3, "invalidate_entry", lambda parent, name: calls.append((parent, name)))
    monkeypatch.setattr(pyfuse3, "invalidate_inode", calls.append)
    return calls


async def deliver(invalidator, nursery, count):
    nursery.start_soon(invalidator.run)
    while invalidator.told < count:
        await wait_all_tasks_blocked(0.001)


async def test_entries_are_told_before_inodes_and_only_what_the_kernel_knows(kernel, told, nursery):
    directory, known, unknown = kernel.mkdir("d"), kernel.touch("f"), kernel.touch("g")
    kernel.fs.inodes.forget([(unknown, 1)])
    invalidator = Invalidator(kernel.fs.inodes, kernel.fs.names)
    invalidator.pulled([(1, b"f"), (directory, b"x"), (unknown, b"y")], [known, unknown, 1])
    await deliver(invalidator, nursery, 4)
    assert told == [(1, b"f"), (directory, b"x"), known, 1]


async def test_the_same_thing_is_told_once(kernel, told, nursery):
    invalidator = Invalidator(kernel.fs.inodes, kernel.fs.names)
    for _ in range(3):
        invalidator.tell(1, b"f")
        invalidator.tell(1)
    await deliver(invalidator, nursery, 2)
    assert told == [(1, b"f"), 1]


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTCONN])
async def test_what_the_kernel_forgot_needs_no_telling(kernel, monkeypatch, caplog, nursery, code):
    def forgotten(st):
        raise OSError(code, "gone")

    monkeypatch.setattr(pyfuse3, "invalidate_inode", forgotten)
    invalidator = Invalidator(kernel.fs.inodes, kernel.fs.names)
    invalidator.tell(1)
    await deliver(invalidator, nursery, 1)
    assert not caplog.records


async def test_another_refusal_is_logged_and_the_next_is_told(kernel, monkeypatch, caplog, nursery):
    def refusing(st):
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(pyfuse3, "invalidate_inode", refusing)
    invalidator = Invalidator(kernel.fs.inodes, kernel.fs.names)
    invalidator.tell(1)
    invalidator.tell(2)
    await deliver(invalidator, nursery, 2)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


async def test_a_pull_makes_listings_look_again_and_pages_go(kernel, told):
    st = await kernel.write("f")
    await kernel.read(st)
    fh = kernel.fs.listings.opendir(1)
    kernel.fs.inodes.forget([(1, 1)])
    before = kernel.fs.names.changes[1]
    invalidator = Invalidator(kernel.fs.inodes, kernel.fs.names)
    invalidator.pulled([(1, b"f")], [st])
    assert kernel.fs.names.changes[1] > before
    assert st not in kernel.fs.inodes.kept
    kernel.fs.listings.releasedir(fh)
