"""The floor: which state everybody has vouched for, as a function of what the logs say."""

import itertools
import random

from cryptfs.group.floor import NO_FLOOR, Attestation, Floor, LogWord, floors, said_of, unsaid
from cryptfs.group.graph import View

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
ROOT, OTHER = b"r" * 32, b"o" * 32


def word(log: bytes, said: dict[int, bytes], *, begun: int | None = 1, ended: bool = False, exempt: bool = False,
         carried: int = 0) -> LogWord:  # fmt: skip
    attested = {stamp: Attestation(root, View(carried)) for stamp, root in said.items()}
    return LogWord(log, begun, ended, 1 << log[0], exempt, attested)


def test_the_floor_is_the_newest_state_that_every_log_attests() -> None:
    words = [word(A, {5: ROOT, 9: ROOT, 12: ROOT}), word(B, {5: ROOT, 9: ROOT})]
    assert floors(words) == [Floor(9, ROOT), Floor(5, ROOT)]
    assert floors([]) == []
    assert NO_FLOOR.stamp < 0


def test_two_roots_for_one_stamp_are_no_floor_but_a_dispute() -> None:
    words = [word(A, {5: ROOT, 9: ROOT}), word(B, {5: ROOT, 9: OTHER})]
    assert floors(words) == [Floor(5, ROOT)]
    assert said_of(words, 9) == {ROOT: [A], OTHER: [B]}
    assert said_of(words, 5) == {ROOT: [A, B]}


def test_a_log_that_has_ended_or_began_later_is_not_asked() -> None:
    asked = word(A, {9: ROOT})
    assert floors([asked, word(B, {}, ended=True)]) == [Floor(9, ROOT)]
    assert floors([asked, word(B, {}, begun=10)]) == [Floor(9, ROOT)]
    assert floors([asked, word(B, {}, begun=None)]) == [Floor(9, ROOT)]
    assert floors([asked, word(B, {}, begun=9)]) == []


def test_who_has_to_speak_before_the_floor_rises_is_known() -> None:
    words = [word(A, {9: ROOT}), word(B, {5: ROOT}), word(C, {}, ended=True)]
    assert unsaid(words, 9) == [B]
    assert unsaid(words, 5) == [A]
    assert unsaid([*words[:1], word(B, {9: OTHER})], 9) == []


def test_an_exempt_log_is_asked_once_somebody_who_attests_has_heard_of_it() -> None:
    low = word(B, {}, begun=3, exempt=True)
    assert floors([word(A, {9: ROOT}), low]) == [Floor(9, ROOT)]
    assert floors([word(A, {9: ROOT}, carried=low.opener), low]) == []
    assert floors([word(A, {9: ROOT}, carried=low.opener), word(B, {9: ROOT}, exempt=True)]) == [Floor(9, ROOT)]


def test_the_floor_does_not_depend_on_the_order_and_does_not_fall_when_more_is_said() -> None:
    rng = random.Random(25)
    for _ in range(200):
        words = [
            word(one, dict.fromkeys(rng.sample(range(1, 9), 4), ROOT), begun=rng.randrange(1, 9)) for one in (A, B, C)
        ]
        found = floors(words)
        assert all(floors(list(some)) == found for some in itertools.permutations(words))
        more = [LogWord(one.log, one.begun, one.ended, one.opener, one.exempt,
                        {**one.attested, 20: Attestation(ROOT, View(0))}) for one in words]  # fmt: skip
        assert floors(more) == [Floor(20, ROOT), *found]
