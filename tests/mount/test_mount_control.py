import contextlib
import errno
import json
import os
import socket
import stat

import pytest
import trio

from cryptfs.errors import CryptfsError, FsError, InUse, LocalDiskFull
from cryptfs.mount.control import ControlServer
from tests.patience import SECONDS


async def echo(request, say):
    return {"got": request}


async def talkative(request, say):
    await say({"progress": {"pending_bytes": 2}})
    await say({"progress": {"pending_bytes": 1}})
    return {}


async def refusing(request, say):
    raise InUse("busy", "wait")


async def refusing_in_a_task(request, say):
    async def fail():
        raise LocalDiskFull("full")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
    return {}


async def posix(request, say):
    raise FsError(errno.ENOENT)


async def buggy(request, say):
    raise KeyError("bug")


async def buggy_in_a_task(request, say):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(buggy, request, say)
    return {}


TABLE = {
    "echo": echo, "talk": talkative, "refuse": refusing, "task": refusing_in_a_task, "posix": posix, "bug": buggy,
    "bug in a task": buggy_in_a_task,
}  # fmt: skip


@pytest.fixture
async def server(tmp_path, nursery):
    server = ControlServer(tmp_path / "run" / "v.sock", TABLE)
    await server.listen()
    nursery.start_soon(server.run)
    yield server
    server.close()


async def ask(server, *lines):
    """Send raw lines, half-close, return the decoded answers; none where we are cut off."""
    answer = b""
    with contextlib.suppress(trio.BrokenResourceError):
        async with await trio.open_unix_socket(server._path) as stream:
            await stream.send_all(b"".join(lines))
            await stream.send_eof()
            answer = b"".join([piece async for piece in stream])
    return [json.loads(line) for line in answer.splitlines()]


def line(command, **arguments):
    return json.dumps({"cmd": command, **arguments}).encode() + b"\n"


async def test_requests_are_answered_in_order_on_one_connection(server):
    first, second = await ask(server, line("echo", a=1), line("echo", b=2))
    assert first == {"ok": True, "got": {"cmd": "echo", "a": 1}}
    assert second["got"]["b"] == 2


async def test_progress_comes_before_the_answer(server):
    answers = await ask(server, line("talk"))
    assert answers == [{"progress": {"pending_bytes": 2}}, {"progress": {"pending_bytes": 1}}, {"ok": True}]


@pytest.mark.parametrize(
    ("command", "text", "code"),
    [
        ("refuse", "busy", 75), ("task", "full", 74), ("posix", "No such file or directory", 66),
        ("bug", "Internal error: KeyError", 70), ("bug in a task", "Internal error: ExceptionGroup", 70),
        ("nonsense", "The mount process does not know this command.", 64),
    ],
)  # fmt: skip
async def test_refusals_say_what_and_what_to_do(server, command, text, code):
    (answer,) = await ask(server, line(command))
    assert (answer["ok"], answer["error"], answer["exit_code"]) == (False, text, code)
    assert answer["advice"]
    (alive,) = await ask(server, line("echo"))
    assert alive["ok"]


@pytest.mark.parametrize("raw", [b"no json\n", b"[1]\n", b'{"cmd": 7}\n', b"\xff\xfe\n", b"[" * 60_000 + b"\n"])
async def test_what_is_no_request_is_refused(server, raw):
    (answer,) = await ask(server, raw)
    assert answer["ok"] is False


async def test_an_endless_line_ends_the_connection(server):
    assert await ask(server, b"x" * 100_000) == []


async def test_a_client_that_goes_away_harms_nobody(server):
    stream = await trio.open_unix_socket(server._path)
    await stream.send_all(line("talk") * 50)
    await stream.aclose()
    assert (await ask(server, line("echo")))[0]["ok"]


async def test_the_socket_is_for_its_owner_alone(server):
    assert stat.S_IMODE(os.stat(server._path).st_mode) == 0o600


async def test_other_users_are_not_answered(server, monkeypatch):
    monkeypatch.setattr("cryptfs.mount.control.os.geteuid", lambda: 54321)
    monkeypatch.setattr("cryptfs.mount.control._PEER", FakePeer(os.getuid() + 7))
    assert await ask(server, line("echo")) == []


class FakePeer:
    size = 12

    def __init__(self, uid):
        self._uid = uid

    def unpack(self, data):
        assert len(data) == 12
        return 1, self._uid, 1


async def test_a_file_left_by_a_killed_process_is_replaced_and_removed_at_the_end(tmp_path):
    path = tmp_path / "v.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    server = ControlServer(path, TABLE)
    await server.listen()
    server.close()
    assert not path.exists()


async def test_drain_waits_for_answers_under_way(tmp_path, nursery):
    begun, go = trio.Event(), trio.Event()

    async def slow(request, say):
        begun.set()
        await go.wait()
        return {"late": True}

    server = ControlServer(tmp_path / "v.sock", {"slow": slow})
    await server.listen()
    nursery.start_soon(server.run)
    answers = []

    async def client():
        answers.extend(await ask(server, line("slow")))

    async with trio.open_nursery() as inner:
        inner.start_soon(client)
        await begun.wait()
        inner.start_soon(server.drain, SECONDS)
        go.set()
    assert answers == [{"ok": True, "late": True}]
    server.close()


def test_errors_have_advice():
    assert CryptfsError("x").advice
