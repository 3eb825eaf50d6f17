"""What Google does not document, asked; the answers are printed at the end, beside what cryptfs assumes."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cryptfs.errors import NotFound, Retry, StoreError
from cryptfs.store import Call
from cryptfs.store.drive.client import File
from cryptfs.store.drive.source import BytesSource
from tests.live.conftest import Account, Live

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]
Answer = Callable[[str, str, object], None]
PATIENCE, ROUNDS = 120.0, 8


def call() -> Call:
    return Call.within(60)


def outcome(act: Callable[[], object]) -> str:
    """What came of it, in a word."""
    try:
        act()
    except StoreError as error:
        return f"{type(error).__name__}: {error}"
    return "works"


def make(who: Account, folder: str, data: bytes = b"x", file_id: str = "") -> File:
    chosen = file_id or who.client.new_ids(1, call())[0]
    made: File = who.client.create(chosen, os.urandom(4).hex(), folder, BytesSource(data), call())
    return made


def seconds_until(what: Callable[[], bool]) -> float:
    """How long it took, infinite after two minutes."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        if what():
            return time.monotonic() - began
        time.sleep(0.5)
    return float("inf")


def spread(times: list[float]) -> str:
    ordered = sorted(times)
    return f"p50 {ordered[len(ordered) // 2]:.1f} s, worst {ordered[-1]:.1f} s of {len(ordered)}"


def test_ids_of_another_account(live: Live, answer: Answer) -> None:
    folder = live.new_folder()
    unused, used = live.a.client.new_ids(2, call())
    answer("B creates with an id minted by A", "no", outcome(lambda: make(live.b, folder, file_id=unused)))
    make(live.a, folder, file_id=used)
    answer("the same after A has used it", "no", outcome(lambda: make(live.b, folder, file_id=used)))


def test_ids_after_trash_and_after_delete(live: Live, answer: Answer) -> None:
    folder = live.new_folder()
    file = make(live.a, folder)
    answer("an id a second time", "409", outcome(lambda: make(live.a, folder, file_id=file.id)))
    live.a.run(live.a.api.files().update(fileId=file.id, body={"trashed": True}))
    answer("an id whose file is in the trash", "409", outcome(lambda: make(live.a, folder, file_id=file.id)))
    live.a.client.delete(file.id, call())
    answer("an id whose file was deleted", "409", outcome(lambda: make(live.a, folder, file_id=file.id)))


def test_how_late_others_learn_of_an_object(live: Live, answer: Answer) -> None:
    folder = live.new_folder()
    listed, fed, read = [], [], []
    token = live.b.client.start_token("", call())
    for _ in range(ROUNDS):
        file = make(live.a, folder)
        read.append(outcome(lambda file=file: live.b.client.read(file.id, call())))

        def in_listing(file: File = file) -> bool:
            return any(one.id == file.id for one in live.b.client.listing(folder, "", call()))

        seen: set[str] = set()

        def in_feed(file: File = file, seen: set[str] = seen) -> bool:
            nonlocal token
            told, token, _ = live.b.client.changes(token, "", call())
            seen.update(one.id for one in told)
            return file.id in seen

        with ThreadPoolExecutor(2) as pool:
            listing, feed = pool.submit(seconds_until, in_listing), pool.submit(seconds_until, in_feed)
            listed.append(listing.result())
            fed.append(feed.result())
    answer("read by id right after another account's create", "works", ", ".join(sorted(set(read))))
    answer("listing by parent shows another account's file after", "minutes possible", spread(listed))
    answer("B's feed shows A's file in a folder B never added, after", "yes, minutes possible", spread(fed))


def test_what_others_can_do_with_what_is_trashed_or_taken_out(live: Live, answer: Answer) -> None:
    folder = live.new_folder()
    file = make(live.a, folder)
    answer("B deletes A's file", "Denied", outcome(lambda: live.b.client.delete(file.id, call())))
    live.a.run(live.a.api.files().update(fileId=file.id, body={"trashed": True}))
    answer("B reads what A trashed", "NotFound", outcome(lambda: live.b.client.read(file.id, call())))
    other = make(live.a, folder)
    token = live.b.client.start_token("", call())
    try:
        live.b.run(live.b.api.files().update(fileId=other.id, removeParents=folder, fields="id"))
        taken = "works"
    except Exception as error:
        taken = f"refused: {getattr(getattr(error, 'resp', None), 'status', error)}"
    answer("B takes A's file out of the folder", "works", taken)
    answer("B reads it afterwards", "NotFound", outcome(lambda: live.b.client.read(other.id, call())))
    time.sleep(10)
    told, _, _ = live.b.client.changes(token, "", call())
    about = ["removed" if one.file is None else "parents change" for one in told if one.id == other.id]
    answer("B's feed about it", "parents change", ", ".join(about) or "nothing within 10 s")
    live.made.append(other.id)


def test_how_fast_files_can_be_made(live: Live, answer: Answer) -> None:
    folder, count = live.new_folder(), 40
    ids = live.a.client.new_ids(count, call())
    client = type(live.a.client)(live.a.access)
    client._wait_for_turn = lambda *_: None  # as fast as it goes
    began = time.monotonic()

    def create(file_id: str) -> bool:
        try:
            client.create(file_id, file_id[-8:], folder, BytesSource(b"x"), call())
        except Retry:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        took = list(pool.map(create, ids))
    lasted = time.monotonic() - began
    client.close()
    answer(f"{count} creates at once", "3/s", f"{sum(took)} taken in {lasted:.1f} s, {count - sum(took)} refused")


def test_a_copy_of_a_foreign_file(live: Live, answer: Answer) -> None:
    folder = live.new_folder()
    file = make(live.a, folder, os.urandom(100_000))
    (chosen,) = live.b.client.new_ids(1, call())
    try:
        copied = live.b.client.copy(file.id, chosen, "copy", folder, call())
    except StoreError as error:
        answer("copy of a foreign file under a chosen id", "works, copier owns", f"{type(error).__name__}: {error}")
        return
    live.made.append(copied.id)
    seen = f"works; sums {'equal' if copied.sums.agree(file.sums) else 'differ'}; mine {copied.mine}"
    answer("copy of a foreign file under a chosen id", "works, copier owns", seen)


def test_ranges_compression_and_etags(live: Live, answer: Answer) -> None:
    file = make(live.a, live.new_folder(), b"a" * 100_000)
    request = live.a.api.files().get_media(fileId=file.id)
    request.headers["range"], request.headers["accept-encoding"] = "bytes=10-19", "gzip"
    heads: list[dict[str, str]] = []
    request.add_response_callback(heads.append)
    data = live.a.run(request)
    seen = f"{len(data)} bytes, encoding {heads[0].get('content-encoding', 'none')}"
    answer("a range with Accept-Encoding: gzip", "identity is asked for", seen)
    request = live.a.api.files().get(fileId=file.id, fields="id")
    request.add_response_callback(heads.append)
    live.a.run(request)
    answer("v3 shows an etag header", "not relied on", "etag" in heads[-1])


def test_a_finished_session_asked_again(live: Live, answer: Answer) -> None:
    folder, source = live.new_folder(), BytesSource(os.urandom(600_000))
    (chosen,) = live.a.client.new_ids(1, call())
    session = live.a.client.session(chosen, "whole", folder, source)
    while session.step(call()) is None:
        pass
    again = live.a.client.session(chosen, "whole", folder, source, session.address)
    answer("a finished session asked for its state", "200, 404 or 410", outcome(lambda: again.step(call())))


def test_a_folder_that_is_not_there(live: Live, answer: Answer) -> None:
    folder = live.new_folder()
    live.a.client.delete(folder, call())
    answer("listing a deleted folder", "empty or 404", outcome(lambda: list(live.a.client.listing(folder, "", call()))))
    with pytest.raises(NotFound):
        live.a.client.file(folder, call())


def test_what_only_time_or_the_console_tells(answer: Answer) -> None:
    answer("unused ids live for weeks", "no: minted anew on 400", "not tried")
    answer("quota units of create, copy, changes.list", "50, 50, 100", "see the console's quota page")
    answer("reason and body at the 750 GB cap", "userRateLimitExceeded", "not tried")
    answer("v2 etag the same for two accounts, If-Match", "not relied on", "not tried")
    answer("consent pages, today's console steps", "as in docs/google-drive.md", "look at them while logging in")
