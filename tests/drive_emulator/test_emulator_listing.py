"""Listings: the search language, pages, and everything they do not show."""

import pytest

from tests.drive_emulator import Emulator, VirtualClock
from tests.drive_emulator.conftest import ANNA
from tests.drive_emulator.query import name_matches
from tests.drive_emulator.real_client import GoogleClient, refused_with


def files(emulator: Emulator, folder: str, *names: str) -> list[str]:
    return [emulator.file(ANNA, name, name.encode(), folder) for name in names]


def test_names_may_repeat_and_are_compared_without_case(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    files(emulator, folder, "a", "A", "b", "it's", "back\\slash")
    assert anna.names(f"'{folder}' in parents and name = 'a'") == ["A", "a"]
    assert anna.names(f"'{folder}' in parents and name != 'a' and trashed = false") == ["b", "back\\slash", "it's"]
    assert anna.names(r"name = 'it\'s'") == ["it's"]
    assert anna.names(r"name = 'back\\slash'") == ["back\\slash"]


def test_contains_looks_at_beginnings_of_words() -> None:
    assert name_matches("contains", "HELLO", "hello world")
    assert name_matches("contains", "wor", "hello world")
    assert not name_matches("contains", "ello", "hello world")


def test_and_binds_tighter_than_or_and_not_tightest(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    files(emulator, folder, "a", "b", "c")
    asked = f"name = 'a' or name = 'b' and not '{folder}' in parents"
    assert anna.names(asked) == ["a"]
    assert anna.names(f"(name = 'a' or name = 'b') and '{folder}' in parents") == ["a", "b"]


def test_types_trash_times_and_the_top_folder(
    emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str
) -> None:
    one, _ = files(emulator, folder, "a", "b")
    assert anna.names("mimeType = 'application/vnd.google-apps.folder'") == ["vault"]
    assert anna.names("'root' in parents") == ["vault"]
    anna.update(one, {"trashed": True})
    assert anna.names(f"'{folder}' in parents and trashed = true") == ["a"]
    assert anna.names(f"'{folder}' in parents and trashed != true") == ["b"]
    clock.advance(3600)
    files(emulator, folder, "late")
    assert anna.names("modifiedTime > '2027-01-15T08:30:00'") == ["late"]


@pytest.mark.parametrize(
    "query", ["name = a", "name ~ 'a'", "colour = 'red'", "name = 'a' and", "(name = 'a'", "trashed", "'x' in names"]
)
def test_a_query_that_makes_no_sense_is_refused(anna: GoogleClient, query: str) -> None:
    assert '"q"' in refused_with(400, "Invalid Value", lambda: anna.names(query)).content.decode()


def test_a_long_query_goes_as_a_form(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    files(emulator, folder, "a")
    query = " or ".join(["name = 'a'"] + [f"name = 'no such name {number}'" for number in range(120)])
    assert anna.names(query) == ["a"]
    assert emulator.requests("files.list")[0].received > 2048


def test_pages_go_on_from_their_token(emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str) -> None:
    files(emulator, folder, *(f"{number:02}" for number in range(25)))
    query, found, token = f"'{folder}' in parents", [], None
    while True:
        page = anna.run(anna.api.files().list(q=query, pageSize=10, pageToken=token))
        found += [one["name"] for one in page["files"]]
        token = page.get("nextPageToken")
        if token is None:
            break
        kept = token
    assert sorted(found) == [f"{number:02}" for number in range(25)]
    assert anna.names(query, pageSize=10, pageToken=kept)
    refused_with(400, "pageToken", lambda: anna.names("name = 'a'", pageSize=10, pageToken=kept))
    clock.advance(5 * 3600)
    refused_with(400, "pageToken", lambda: anna.names(query, pageSize=10, pageToken=kept))
    refused_with(400, "pageSize", lambda: anna.names(query, pageSize=1001))


def test_page_tokens_may_be_refused(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    files(emulator, folder, "a", "b")
    token = anna.run(anna.api.files().list(pageSize=1))["nextPageToken"]
    emulator.settings.listing.page_tokens_refused = True
    refused_with(400, "pageToken", lambda: anna.names("", pageSize=1, pageToken=token))


def test_order_is_as_asked_for(emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str) -> None:
    for name in ("b", "c", "a"):
        files(emulator, folder, name)
        clock.advance(1)

    def listed(order: str) -> list[str]:
        found = anna.run(anna.api.files().list(q=f"'{folder}' in parents", orderBy=order))
        return [one["name"] for one in found["files"]]

    assert listed("name") == ["a", "b", "c"]
    assert listed("createdTime desc") == ["a", "c", "b"]
    refused_with(400, "orderBy", lambda: listed("colour"))


def test_listings_lag_behind_by_time_while_a_get_does_not(
    emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str
) -> None:
    clock.advance(100)
    emulator.settings.listing.lag_seconds = 30
    made = anna.create(folder, "a", b"")["id"]
    query = f"'{folder}' in parents"
    assert (anna.names(query), anna.get(made, "name")) == ([], {"name": "a"})
    clock.advance(31)
    assert anna.names(query) == ["a"]
    anna.delete(made)
    assert anna.names(query) == ["a"]  # a listing shows what is gone
    clock.advance(31)
    assert anna.names(query) == []


def test_listings_lag_behind_by_requests(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    emulator.settings.listing.lag_requests = 3
    anna.create(folder, "a", b"")
    shown = [anna.names(f"'{folder}' in parents") for _ in range(4)]
    assert shown == [[], [], ["a"], ["a"]]


def test_a_listing_may_show_a_size_that_is_past(
    emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str
) -> None:
    made = files(emulator, folder, "four")[0]
    clock.advance(100)
    emulator.settings.listing.lag_seconds = 30
    emulator.replace(made, b"longer")
    page = anna.run(anna.api.files().list(q=f"'{folder}' in parents", fields="files(size)"))
    assert (page["files"], anna.get(made, "size")) == ([{"size": "4"}], {"size": "6"})


def test_a_listing_may_miss_entries(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    made = files(emulator, folder, *(str(number) for number in range(40)))
    emulator.settings.listing.hidden.add(made[0])
    assert "0" not in anna.names(f"'{folder}' in parents")
    emulator.settings.listing.miss = 0.2
    seen = [set(anna.names(f"'{folder}' in parents")) for _ in range(10)]
    assert len(set(map(len, seen))) > 1
    assert len(set.union(*seen)) == 39  # several listings together show all but what is hidden


def test_several_parents_in_one_query_lose_results(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    other = emulator.folder(ANNA, "other")
    files(emulator, folder, "a")
    files(emulator, other, "b")
    query = f"'{folder}' in parents or '{other}' in parents"
    assert anna.names(query) == ["a"]
    emulator.settings.listing.or_parents_drop = False
    assert anna.names(query) == ["a", "b"]


def test_nobody_lists_a_folder_he_cannot_see(eve: GoogleClient, emulator: Emulator, folder: str) -> None:
    files(emulator, folder, "a")
    assert eve.names(f"'{folder}' in parents") == []
    assert eve.names("name = 'a'") == []
