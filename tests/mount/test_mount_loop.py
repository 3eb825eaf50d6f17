import os

import pyfuse3
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from cryptfs.mount import loop


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


async def test_what_is_there_is_found_without_sleeping(pipe):
    reader = loop.SpinningReader()
    os.write(pipe[1], b"x")
    await reader.wait_readable(pipe[0])
    assert (reader.sleeps, reader.spins) == (0, 0)


async def test_nothing_spins_while_nothing_came(pipe):
    reader = loop.SpinningReader()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.wait_readable, pipe[0])
        await wait_all_tasks_blocked()
        os.write(pipe[1], b"x")
    assert (reader.sleeps, reader.spins) == (1, 0)


async def test_it_spins_while_requests_keep_coming_and_gives_up_soon(pipe):
    reader = loop.SpinningReader()
    reader._keep_coming = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.wait_readable, pipe[0])
        await wait_all_tasks_blocked()
        assert (reader.spins, reader.sleeps) == (1, 1)
        os.write(pipe[1], b"x")


async def test_spins_that_find_nothing_become_rare(pipe):
    reader = loop.SpinningReader()
    for _ in range(200):
        reader._keep_coming = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.wait_readable, pipe[0])
            await wait_all_tasks_blocked()
            os.write(pipe[1], b"x")
        os.read(pipe[0], 1)
    assert reader.sleeps == 200
    assert reader.spins < 20


async def test_other_tasks_run_while_it_spins_and_while_requests_never_end(pipe):
    reader = loop.SpinningReader()
    os.write(pipe[1], b"x")
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        while turns < 5:
            await reader.wait_readable(pipe[0])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("spinning", [False, True])
async def test_closing_wakes_whoever_waits(pipe, spinning):
    reader = loop.SpinningReader()
    reader._keep_coming = spinning

    async def wait():
        with pytest.raises(trio.ClosedResourceError):
            await reader.wait_readable(pipe[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        if spinning:
            await trio.lowlevel.checkpoint()
        else:
            await wait_all_tasks_blocked()
        reader.notify_closing(pipe[0])
    with pytest.raises(trio.ClosedResourceError):
        await reader.wait_readable(pipe[0])


async def test_a_wait_can_be_cancelled(pipe):
    reader = loop.SpinningReader()
    with trio.CancelScope() as scope:
        scope.cancel()
        await reader.wait_readable(pipe[0])
    assert scope.cancelled_caught


async def test_the_lock_lets_one_in_and_rouses_the_next_when_it_is_free():
    lock = loop.ReadLock()
    inside = 0
    order = []

    async def worker(number):
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            order.append(number)
            await trio.lowlevel.checkpoint()
            inside -= 1

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(worker, number)
    assert sorted(order) == [0, 1, 2, 3, 4]


async def test_who_comes_back_first_takes_the_lock_without_waiting():
    lock = loop.ReadLock()
    taken = []

    async def waiter():
        async with lock:
            taken.append("waiter")

    async with trio.open_nursery() as nursery:
        async with lock:
            nursery.start_soon(waiter)
            await wait_all_tasks_blocked()
        async with lock:
            taken.append("first")
    assert taken == ["first", "waiter"]


async def test_a_cancelled_waiter_leaves_no_gap():
    lock = loop.ReadLock()

    async def waiter(scope):
        with scope:
            async with lock:
                pass

    async with trio.open_nursery() as nursery, lock:
        scope = trio.CancelScope()
        nursery.start_soon(waiter, scope)
        nursery.start_soon(waiter, trio.CancelScope())
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()


def test_the_stand_in_replaces_one_name_and_can_be_taken_back():
    before = vars(pyfuse3)["trio"]
    assert before is trio
    loop.install()
    assert vars(pyfuse3)["trio"].Lock is loop.ReadLock
    loop.uninstall()
    assert vars(pyfuse3)["trio"] is trio


@pytest.mark.parametrize(("value", "wanted"), [("", False), ("0", False), ("1", True)])
def test_the_environment_can_ask_for_plain_trio(monkeypatch, value, wanted):
    monkeypatch.setenv("CRYPTFS_STOCK_LOOP", value)
    assert loop.wants_stock_loop() is wanted
