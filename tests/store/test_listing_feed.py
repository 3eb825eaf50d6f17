"""Changes as the difference between two listings."""

import pytest

from cryptfs.errors import StoreGone
from cryptfs.store import Call, Change, Stat
from cryptfs.store.listing_feed import ListingFeed

CALL = Call()
A, A_GROWN, B = Stat("l/aa", 1, 1, "1"), Stat("l/aa", 2, 1, "1"), Stat("l/bb", 1, 2, "2")


class Shelf:
    """A listing that can be changed and can fail."""

    def __init__(self, *stats: Stat) -> None:
        self.stats = list(stats)
        self.away = False

    def __call__(self, call: Call) -> list[Stat]:
        if self.away:
            raise StoreGone("away")
        return list(self.stats)


def test_new_changed_and_missing_objects_are_told() -> None:
    shelf = Shelf(A)
    feed = ListingFeed(shelf)
    first, cursor = feed.since("", CALL)
    assert first == [Change("l/aa", A)]
    shelf.stats = [A_GROWN, B]
    second, cursor = feed.since(cursor, CALL)
    assert second == [Change("l/aa", A_GROWN), Change("l/bb", B)]
    shelf.stats = [B]
    third, cursor = feed.since(cursor, CALL)
    assert third == [Change("l/aa", None)]
    assert feed.since(cursor, CALL)[0] == []


def test_only_the_last_two_cursors_live() -> None:
    feed = ListingFeed(Shelf(A))
    cursors = [feed.since("", CALL)[1] for _ in range(3)]
    assert feed.since(cursors[1], CALL)[0] == []
    assert feed.since(cursors[2], CALL)[0] == []
    assert feed.since(cursors[0], CALL)[0] == [Change("l/aa", A)]


def test_a_cursor_of_another_run_is_dead() -> None:
    shelf = Shelf(A)
    _, cursor = ListingFeed(shelf).since("", CALL)
    feed = ListingFeed(shelf)
    feed.since("", CALL)
    assert feed.since(cursor, CALL)[0] == [Change("l/aa", A)]


def test_a_failed_listing_leaves_the_cursor_alive() -> None:
    shelf = Shelf(A)
    feed = ListingFeed(shelf)
    _, cursor = feed.since("", CALL)
    shelf.away = True
    for _ in range(3):
        with pytest.raises(StoreGone):
            feed.since(cursor, CALL)
    shelf.away = False
    shelf.stats = [A, B]
    assert feed.since(cursor, CALL)[0] == [Change("l/bb", B)]
