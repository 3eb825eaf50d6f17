import pytest
import trio

from cryptfs.mount.deadline import within


async def test_work_that_never_waits_opens_no_scope():
    async def work():
        return trio.current_effective_deadline()

    assert await within(5, work()) == float("inf")


async def test_work_that_waits_has_the_deadline(autojump_clock):
    async def work():
        await trio.sleep(1)
        await trio.lowlevel.checkpoint()
        return trio.current_effective_deadline()

    assert await within(5, work()) <= 6
    with pytest.raises(trio.TooSlowError):
        await within(5, trio.Event().wait())


async def test_a_scope_opened_before_the_first_wait_keeps_its_own_deadline(autojump_clock):
    async def work():
        with trio.move_on_after(1):
            await trio.sleep_forever()
        await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError):
        await within(5, work())
    assert trio.current_time() == pytest.approx(6, abs=0.5)


async def test_a_scope_without_deadline_is_reported(autojump_clock, caplog):
    async def work():
        with trio.CancelScope():
            await trio.lowlevel.checkpoint()
        return 7

    assert await within(5, work()) == 7
    assert "without a deadline" in caplog.text


async def test_results_errors_and_cancellation_go_through(autojump_clock):
    async def failing():
        await trio.sleep(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await within(5, failing())
    assert await within(5, trio.to_thread.run_sync(lambda: 3)) == 3
    cleaned = []

    async def cancelled():
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(True)

    with trio.move_on_after(1):
        await within(5, cancelled())
    assert cleaned == [True]


async def test_a_foreign_awaitable_ends_the_work_and_not_the_loop():
    ended = []

    class Foreign:
        def __await__(self):
            yield "not for trio"

    async def work():
        try:
            await Foreign()
        finally:
            ended.append(True)

    with pytest.raises(TypeError):
        await within(5, work())
    assert ended == [True]


def test_the_private_name_it_watches_is_there():
    async def main():
        task = trio.lowlevel.current_task()
        before = task._cancel_status
        with trio.CancelScope():  # noqa: ASYNC100
            assert task._cancel_status is not before
        assert task._cancel_status is before

    trio.run(main)
