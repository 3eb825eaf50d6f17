"""Reading conflict names back: whatever `conflict_name` makes is recognised, and leads to the original."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptfs.tree.conflict_name import conflict_name, copied_from, label_of

LABELS = st.sampled_from(["Bob", "Bob (laptop)", "Anna's (old (blue)) box", "B", "Zoë (büro)"])
NAMES = st.one_of(
    st.sampled_from([b"plan.txt", b"a (final).txt", b".profile", b"x.tar.gz", b"no ext", b"a (b", b"a) b.c"]),
    st.binary(min_size=1, max_size=120).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")),
)


@given(NAMES, LABELS, st.integers(0, 1001))
def test_a_conflict_name_is_read_back(name: bytes, label: str, taken: int) -> None:
    left = [taken]

    def is_taken(_: bytes) -> bool:
        left[0] -= 1
        return left[0] >= 0

    shown = conflict_name(name, label_of(label), b"2026-11-25", bytes(24), is_taken)
    found = copied_from(shown)
    assert found is not None
    assert (found.name, found.label, found.date) == (name, label_of(label), b"2026-11-25")


@pytest.mark.parametrize(
    "name",
    [b"plan.txt", b"'s conflicted copy ", b"a (Bob's conflicted copy).txt", b"(Bob's conflicted copy 2026-01-01)",
     b"a (Bob's conflicted copy 2026-01-01) final"],
)  # fmt: skip
def test_other_names_are_none(name: bytes) -> None:
    assert copied_from(name) is None
