"""The client of the control socket, against a mount process that says what a test wants."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cryptfs.cli.control import Daemon, RemoteError
from cryptfs.errors import Retry
from cryptfs.vault.home import VaultHome
from tests.cli.transcripts import Run, two_lines

Reply = Callable[[dict[str, object]], bytes]


def line(**answer: object) -> bytes:
    return json.dumps(answer).encode() + b"\n"


@contextmanager
def daemon_answering(vault: str, reply: Reply) -> Iterator[list[dict[str, object]]]:
    """A process that has `vault` mounted; yields the requests it got. Each `reply` goes out as it is."""
    home = VaultHome.of(vault)
    home.create_dirs()
    got: list[dict[str, object]] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home.control_socket))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as lines:
                    for text in lines:
                        got.append(json.loads(text))
                        answer = reply(got[-1])
                        if not answer:
                            break
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield got
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            home.control_socket.unlink()


@pytest.fixture
def known(home: Path) -> str:
    """The name of a vault whose keys this device has (of no use, but there)."""
    of = VaultHome.of("team")
    of.create_dirs()
    of.keys_file.write_bytes(b"keys")
    of.write_settings("file:///nowhere")
    return "team"


def ask(vault: str, command: str, **arguments: object) -> dict[str, object]:
    daemon = Daemon.find(VaultHome.of(vault))
    assert daemon is not None
    with daemon:
        return daemon.ask(command, **arguments)


def test_nobody_answers_where_nothing_is_mounted(known: str) -> None:
    assert Daemon.find(VaultHome.of(known)) is None


def test_the_socket_of_a_killed_process_is_no_mount(known: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(VaultHome.of(known).control_socket))
    assert Daemon.find(VaultHome.of(known)) is None


def test_a_refusal_comes_with_its_own_advice_and_code(known: str) -> None:
    refusal = line(ok=False, error="Busy.", advice="Close files.", exit_code=75)
    with daemon_answering(known, lambda _: refusal), pytest.raises(RemoteError, match="Busy") as caught:
        ask(known, "umount")
    assert (caught.value.advice, caught.value.exit_code) == ("Close files.", 75)


def test_progress_comes_before_the_answer(known: str) -> None:
    seen: list[object] = []
    answers = line(progress={"pending_bytes": 5}) + line(progress={"pending_bytes": 0}) + line(ok=True)
    with daemon_answering(known, lambda _: answers) as got:
        ask(known, "sync", on_progress=lambda answer: seen.append(answer["progress"]), path="a")
    assert seen == [{"pending_bytes": 5}, {"pending_bytes": 0}]
    assert got == [{"cmd": "sync", "path": "a"}]


@pytest.mark.parametrize("answer", [b"", b"nonsense\n"])
def test_a_process_that_ends_or_babbles_is_no_answer(known: str, answer: bytes) -> None:
    with daemon_answering(known, lambda _: answer), pytest.raises(Retry):
        ask(known, "status")


STATUS = {"mountpoint": "/m", "pending_bytes": 2048, "pending_ops": 3, "cache": {"bytes": 7}}


def test_status_shows_what_the_mount_process_says(run: Run, known: str) -> None:
    with daemon_answering(known, lambda _: line(ok=True, **STATUS)):
        overview = run("status")
        one = json.loads(run("status", "team", "--json").out)
        several = json.loads(run("status", "--json").out)
        flat = run("status", "team").out
    assert overview.out.splitlines() == ["Name  State    Mounted at  To be sent", "team  mounted  /m          2 KiB"]
    assert one["mounted"] is True
    assert one["pending_ops"] == 3
    assert several == [one]
    assert "cache.bytes    7" in flat


def test_status_of_an_unmounted_vault_says_so(run: Run, known: str) -> None:
    state = json.loads(run("status", known, "--json").out)
    assert state == {
        "name": "team",
        "mounted": False,
        "mountpoint": None,
        "state": "not mounted",
        "store": "file:///nowhere",
    }


def test_list_shows_stores_and_mount_points(run: Run, known: str) -> None:
    with daemon_answering(known, lambda _: line(ok=True, **STATUS)):
        assert run("list").out == "Name  Store            Mounted at\nteam  file:///nowhere  /m\n"


def test_a_second_mount_is_refused_and_names_the_first(run: Run, known: str) -> None:
    with daemon_answering(known, lambda _: line(ok=True, mountpoint="/m")):
        result = run("mount", known)
    assert result.code == 75
    assert two_lines(result)[0].startswith("cryptfs: 'team' is mounted at /m already (pid ")


def test_a_lazy_umount_does_not_wait_for_the_process(run: Run, known: str) -> None:
    with daemon_answering(known, lambda _: line(ok=True, pending_bytes=0)) as got:
        result = run("umount", "--lazy", known)
    assert result == (0, "'team' is unmounted.\n", "")
    assert got == [{"cmd": "umount", "lazy": True}]


def test_umount_says_what_is_still_to_be_sent(run: Run, known: str) -> None:
    with daemon_answering(known, lambda _: line(ok=True, pending_bytes=2048)):
        result = run("umount", "--lazy", known)
    assert result.err == "2 KiB are still to be sent; `cryptfs sync team` does it.\n"


def test_umount_of_what_is_not_mounted(run: Run, known: str) -> None:
    assert (run("umount", known).code, run("umount", "/some/where").code) == (64, 64)
    assert two_lines(run("umount", "nobody"))[0] == "cryptfs: There is no vault called 'nobody' on this device."


def test_sync_waits_for_the_mount_process(run: Run, known: str) -> None:
    with daemon_answering(known, lambda asked: line(ok=True, pending_bytes=0)) as got:
        assert run("sync", known) == (0, "", "")
    assert [request["cmd"] for request in got] == ["status", "sync"]


def test_watch_goes_on_until_it_is_interrupted(run: Run, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = iter((None, None, KeyboardInterrupt()))

    def pause(_seconds: float) -> None:
        if (interruption := next(pauses)) is not None:
            raise interruption

    monkeypatch.setattr("cryptfs.cli.status.time.sleep", pause)
    result = run("status", known, "--watch", "--json")
    assert result.code == 130
    assert [json.loads(text)["state"] for text in result.out.splitlines()] == ["not mounted"] * 3
