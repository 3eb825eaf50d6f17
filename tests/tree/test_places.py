"""Where records lie after moves, also those of holders who mean harm."""

from cryptfs.tree.merge_containers import Moved
from cryptfs.tree.places import Place, Used, present_place


def container(number: int) -> Place:
    return Place(1, number.to_bytes(32, "big"))


def test_a_range_of_which_a_part_was_moved_lies_in_several_places() -> None:
    here, there, last = container(0), container(1), container(2)
    moves = {here: [Moved(10, 110, 20, *there), Moved(40, 0, 10, *last)], there: [Moved(120, 5, 10, *last)]}
    assert sorted(present_place(Used(*here, 0, 45), moves)) == [
        Used(*here, 0, 10), Used(*here, 30, 10), Used(*there, 110, 10), Used(*last, 0, 5), Used(*last, 5, 10),
    ]  # fmt: skip
    assert present_place(Used(*here, 12, 1), moves) == [Used(*there, 112, 1)]
    assert sorted(present_place(Used(*here, 15, 10), moves, 1)) == [Used(*there, 115, 10)]


def test_moves_in_a_circle_end() -> None:
    here, there = container(0), container(1)
    moves = {here: [Moved(0, 0, 10, *there)], there: [Moved(0, 0, 10, *here)]}
    (one,) = present_place(Used(*here, 0, 10), moves)
    assert (one.off, one.len) == (0, 10)


def test_writer_whose_moves_fold_a_range_over_and_over_stops_nobody() -> None:
    """Each container has both halves in one place of the next: followed one by one they would be 2 to the 40th."""
    levels = 40
    moves = {
        container(n): [Moved(0, 0, half, *container(n + 1)), Moved(half, 0, half, *container(n + 1))]
        for n in range(levels)
        if (half := 1 << (levels - 1 - n))
    }
    assert present_place(Used(*container(0), 0, 1 << levels), moves) == [Used(*container(levels), 0, 1)]
