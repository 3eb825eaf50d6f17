"""The changes feed: one a user, late, out of order, twice or never where that is set."""

from tests.drive_emulator import Emulator, VirtualClock
from tests.drive_emulator.conftest import ANNA, BEN
from tests.drive_emulator.real_client import GoogleClient, refused_with

Entry = tuple[str, bool]


def entries(client: GoogleClient, token: str) -> list[Entry]:
    """File ids with whether they were removed."""
    return [(one["fileId"], one["removed"]) for one in client.changes(token)[0]]


def test_what_happens_after_the_start_token_is_told(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    before = anna.feed_end()
    assert entries(anna, before) == []
    made = anna.create(folder, "a", b"bytes")["id"]
    changes, after = anna.changes(before)
    assert [(one["fileId"], one["file"]["name"], one["file"]["size"]) for one in changes] == [(made, "a", "5")]
    assert entries(anna, after) == []
    anna.delete(made)
    removed, _ = anna.changes(after)
    assert [(one["fileId"], one["removed"], "file" in one) for one in removed] == [(made, True, False)]


def test_members_hear_of_each_other_and_strangers_of_nothing(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, eve: GoogleClient, folder: str
) -> None:
    starts = [client.feed_end() for client in (anna, ben, eve)]
    made = ben.create(folder, "b", b"")["id"]
    heard = [entries(client, start) for client, start in zip((anna, ben, eve), starts, strict=True)]
    assert heard == [[(made, False)], [(made, False)], []]
    emulator.settings.feed.shows_foreign = False
    start = anna.feed_end()
    ben.create(folder, "c", b"")
    assert entries(anna, start) == []


def test_losing_access_reads_as_removed(emulator: Emulator, ben: GoogleClient, folder: str) -> None:
    made = emulator.file(ANNA, "a", b"", folder)
    start = ben.feed_end()
    emulator.share(folder, BEN, "")
    assert set(entries(ben, start)) == {(folder, True), (made, True)}


def test_removed_entries_may_be_left_out(anna: GoogleClient, folder: str) -> None:
    made = anna.create(folder, "a", b"")["id"]
    start = anna.feed_end()
    anna.delete(made)
    assert anna.changes(start, includeRemoved=False)[0] == []


def test_only_my_drive_leaves_out_what_is_shared(ben: GoogleClient, anna: GoogleClient, folder: str) -> None:
    start = ben.feed_end()
    anna.create(folder, "a", b"")
    assert ben.changes(start, restrictToMyDrive=True)[0] == []


def test_pages(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    start = anna.feed_end()
    made = [emulator.file(ANNA, str(number), b"", folder) for number in range(7)]
    changes, _ = anna.changes(start, pageSize=3)
    assert [one["fileId"] for one in changes] == made
    assert emulator.count("changes.list") == 3


def test_tokens_that_never_were_are_refused(anna: GoogleClient) -> None:
    for token in ("0", "99", "nonsense"):
        refused_with(400, "pageToken", lambda token=token: anna.changes(token))


def test_the_feed_may_be_late_and_loses_nothing_by_it(
    emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str
) -> None:
    emulator.settings.feed.lag_seconds = 60
    start = anna.feed_end()
    made = anna.create(folder, "a", b"")["id"]
    clock.advance(30)
    changes, start = anna.changes(start)
    assert changes == []
    clock.advance(31)
    assert entries(anna, start) == [(made, False)]


def test_entries_may_overtake_each_other(
    emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str
) -> None:
    emulator.settings.feed.lag_jitter = 60
    token = anna.feed_end()
    made = [anna.create(folder, str(number), b"")["id"] for number in range(20)]
    heard: list[str] = []
    for _ in range(7):
        clock.advance(10)
        changes, token = anna.changes(token)
        heard += [one["fileId"] for one in changes]
    assert heard != made
    assert sorted(heard) == sorted(made)


def test_entries_may_come_twice_or_never(
    emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str
) -> None:
    emulator.settings.feed.repeat = 1
    start = anna.feed_end()
    made = anna.create(folder, "a", b"")["id"]
    clock.advance(5)
    assert entries(anna, start) == [(made, False), (made, False)]
    emulator.settings.feed.lose = 1
    start = anna.feed_end()
    anna.create(folder, "b", b"")
    clock.advance(5)
    assert entries(anna, start) == []
