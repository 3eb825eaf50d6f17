import errno
import logging

import pyfuse3
import pytest
import trio

from cryptfs.errors import AuthError, FsError, LocalDiskFull, StoreGone
from cryptfs.mount import fuse


def raising(error):
    def method():
        raise error

    return fuse.answer(method)


def waiting_then_raising(error):
    async def method():
        raise error

    return fuse.handler(5)(method)


@pytest.mark.parametrize("gate", [raising, waiting_then_raising])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FsError(errno.ENOTEMPTY), errno.ENOTEMPTY), (LocalDiskFull("full"), errno.ENOSPC),
        (AuthError("bad"), errno.EIO),
        (StoreGone("away"), errno.ENETUNREACH), (pyfuse3.FUSEError(errno.EPERM), errno.EPERM),
    ],
)  # fmt: skip
async def test_errors_of_ours_reach_the_kernel_as_they_are(gate, error, code):
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await gate(error)()
    assert caught.value.errno == code


@pytest.mark.parametrize("gate", [raising, waiting_then_raising])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOENT, "own file"), errno.EIO), (OSError(errno.EMFILE, "own"), errno.EIO),
        (KeyError("bug"), errno.EIO),
        (OSError(errno.ENOSPC, "own disk"), errno.ENOSPC), (OSError(errno.EDQUOT, "own disk"), errno.EDQUOT),
        (OSError("without number"), errno.EIO),
    ],
)  # fmt: skip
async def test_our_own_faults_never_look_like_the_users(gate, error, code, caplog):
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await gate(error)()
    assert caught.value.errno == code
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_lasting_trouble_is_logged_once(caplog):
    for _ in range(3):
        with pytest.raises(pyfuse3.FUSEError):
            await raising(StoreGone("only in this test"))()
    assert len(caplog.records) == 1


async def test_a_handler_that_waits_too_long_answers_etimedout(autojump_clock):
    @fuse.handler(30)
    async def method():
        await trio.sleep_forever()

    with pytest.raises(pyfuse3.FUSEError) as caught:
        await method()
    assert caught.value.errno == errno.ETIMEDOUT
    assert trio.current_time() == pytest.approx(30, abs=1)


async def test_cancellation_and_interrupts_pass(autojump_clock):
    @fuse.handler(30)
    async def method():
        await trio.sleep_forever()

    with trio.move_on_after(1) as scope:
        await method()
    assert scope.cancelled_caught
    with pytest.raises(KeyboardInterrupt):
        await waiting_then_raising(KeyboardInterrupt())()


def test_every_handler_of_the_adapter_goes_through_a_gate():
    """A missing method would answer ENOSYS, which the kernel remembers as success for fsync and flush."""
    calls = {
        name
        for name, method in vars(pyfuse3.Operations).items()
        if not name.startswith("_") and callable(method) and name not in {"init", "stacktrace", "forget"}
    }
    assert calls <= set(vars(fuse.Adapter))
    for name in calls:
        assert hasattr(vars(fuse.Adapter)[name], "__wrapped__"), name


def test_every_field_the_kernel_gets_is_set():
    from cryptfs.mount.attributes import Attributes

    entry = fuse.entry_attributes(Attributes(2, 0o100644, 3, 4, 5, 6, 7, 8, -1, 2**33 * 10**9, 11))
    state = entry.__getstate__()
    assert (state["attr_timeout"], state["entry_timeout"], state["generation"]) == (60.0, 60.0, 0)
    assert [state[f"st_{name}"] for name in ("ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blocks")] == [
        2, 0o100644, 3, 4, 5, 6, 7, 8,
    ]  # fmt: skip
    assert [state[f"st_{name}_ns"] for name in ("atime", "mtime", "ctime")] == [-1, 2**33 * 10**9, 11]
