"""What pending operations may still refer to is kept exactly as long; on a busy device it does not grow for ever."""

import pytest

from cryptfs.vault.cited import Cited
from cryptfs.vault.journal import Names, PackClosed, PackConfirmed


def closed(num: int, *sources: int) -> PackClosed:
    return PackClosed(num, bytes(32), 1000, tuple((source, 100, 200) for source in sources))


@pytest.fixture
def cited() -> Cited:
    return Cited()


def test_numbers_stay_while_an_operation_from_before_they_were_known_is_pending(cited: Cited) -> None:
    cited.sealed(((0, 7), (1, 8)), next_k=5)  # 2, 3 and 4 were pending then, and may name 0 and 1
    cited.forget(4, 9, set(), ())
    assert cited.names() == Names(((0, 7), (1, 8)))
    cited.forget(5, 9, set(), ())
    assert cited.names() is None


def test_numbers_go_although_something_is_always_pending(cited: Cited) -> None:
    for k in range(0, 1000, 10):
        cited.sealed(tuple((one, one) for one in range(k, k + 10)), next_k=k + 30)
        cited.forget(k + 10, k + 30, set(), ())
    names = cited.names()
    assert names is not None
    assert len(names.ids) <= 30


def test_a_closed_pack_stays_until_no_operation_that_may_name_it_is_pending(cited: Cited) -> None:
    cited.closed(closed(3))
    cited.forget(10, 20, set(), ())
    cited.forget(19, 30, set(), ())
    assert list(cited.packs(())) == [closed(3), PackConfirmed(3)]
    cited.forget(20, 30, set(), ())
    assert list(cited.packs(())) == []


def test_a_pack_that_the_store_lacks_stays_whatever_is_pending(cited: Cited) -> None:
    cited.closed(closed(3))
    for next_k in range(20, 60, 10):
        cited.forget(None, next_k, set(), {3})
    assert list(cited.packs({3})) == [closed(3)]
    cited.forget(None, 60, set(), ())
    assert list(cited.packs(())) == []


@pytest.mark.parametrize("unsubmitted", [{3}, {2}])
def test_records_that_no_operation_names_yet_keep_the_pack_they_went_to(cited: Cited, unsubmitted: set[int]) -> None:
    """Sealed into pack 2, which became pack 3; submitted later, as operation 25, they still name their place in 2."""
    cited.closed(closed(3, 2))
    cited.forget(None, 20, unsubmitted, ())
    cited.forget(25, 26, set(), ())
    assert list(cited.packs(())) == [closed(3, 2), PackConfirmed(3)]
    cited.forget(26, 30, set(), ())
    assert list(cited.packs(())) == []
