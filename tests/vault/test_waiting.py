"""Which of the segments that the store has told of are worth a try."""

from cryptfs.format.names import segment_name
from cryptfs.vault.waiting import Waiting

LOG = bytes(15) + b"\1"
OTHER = bytes(15) + b"\2"


def name(seq: int, log: bytes = LOG, tail: int = 0) -> str:
    return segment_name(log, seq, bytes([tail]) * 32)


def waiting(*keys: str, known: set[tuple[bytes, int]] | None = None) -> Waiting:
    there = known if known is not None else set()
    one = Waiting(lambda log, seq, _: (log, seq) in there)
    one.told(keys)
    return one


def test_nothing_is_fetched_twice_before_something_has_come() -> None:
    one = waiting(name(0))
    assert one.candidates(LOG, 0) == [name(0)]
    one.in_vain(name(0), frozenset({OTHER}))
    assert one.candidates(LOG, 0) == []
    assert one.held_up
    assert one.for_what(LOG) == {OTHER}
    one.something_came()
    assert one.candidates(LOG, 0) == [name(0)]
    one.taken(name(0))
    assert not one.held_up
    assert one.for_what(LOG) is None


def test_what_is_told_anew_may_have_other_bytes() -> None:
    one = waiting(name(0))
    one.problems[name(0)] = "half of it"
    one.in_vain(name(0))
    one.told([name(0)])
    assert one.candidates(LOG, 0) == [name(0)]


def test_only_a_few_of_many_refused_are_read_again() -> None:
    many = [name(0, tail=tail) for tail in range(100)]
    one = waiting(*many)
    for key in many:
        one.problems[key] = "junk"
    assert len(one.candidates(LOG, 0)) == 8


def test_what_was_taken_in_on_another_way_is_not_read_again() -> None:
    """This device's own segments come from its journal; read a second time they would look like a fork."""
    known: set[tuple[bytes, int]] = set()
    one = waiting(name(0), name(1), known=known)
    known.add((LOG, 0))
    assert one.candidates(LOG, 0) == []
    assert list(one) == [name(1)]


def test_a_name_told_twice_waits_once() -> None:
    one = waiting(name(0), name(0), name(0, OTHER))
    assert list(one) == [name(0), name(0, OTHER)]
    one.taken(name(0))
    assert list(one) == [name(0, OTHER)]
    assert one.logs() == [OTHER]


def test_the_preferred_branch_is_read_first() -> None:
    one = waiting(name(0, tail=1), name(0, tail=2))
    assert one.candidates(LOG, 0, first=bytes([2]) * 32) == [name(0, tail=2), name(0, tail=1)]


def test_a_listing_of_everything_replaces_what_was_told() -> None:
    one = waiting(name(0), name(1))
    one.in_vain(name(1))
    one.all_told()
    one.told([name(1)])
    assert list(one) == [name(1)]
    assert one.candidates(LOG, 1) == [name(1)]
