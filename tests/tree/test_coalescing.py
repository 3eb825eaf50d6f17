"""Coalescing: what need not travel does not, and what others could depend on stays."""

from cryptfs.format.operation import (
    RENAME_EXCHANGE,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    Create,
    Link,
    Op,
    OpId,
    Put,
    Rename,
    Replaced,
    Rmdir,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    Ver,
    provisional_ino,
    provisional_op_id,
)
from cryptfs.tree import Coalesced, Pending, coalesce
from tests.simulation.tree_device import content_of
from tests.simulation.tree_script import make_file, make_folder

ROOT = b"r" * 16
OLD = b"o" * 16
SEALED = (OpId(b"A" * 16, 5),)


def v(k: int) -> Ver:
    return (provisional_op_id(k),)


def i(k: int) -> bytes:
    return provisional_ino(k)


def run(*ops: Op) -> Coalesced:
    return coalesce([Pending(k, op) for k, op in enumerate(ops)])


def groups(found: Coalesced) -> list[tuple[str, list[int]]]:
    return [(type(group.op).__name__, group.ks) for group in found.groups]


def put(ino: bytes, base: Ver, text: bytes, mtime: int = 9) -> Put:
    return Put(ino, base, content_of(text), mtime)


def move(ino: bytes, lver: Ver, name: bytes, *, parent: bytes = ROOT) -> Op:
    return Rename(ino, lver, parent, name, None, 0)


def test_create_takes_over_the_last_content_size_and_mtime() -> None:
    found = run(make_file(ROOT, b"a"), put(i(0), v(0), b"one"), put(i(0), v(1), b"three", 77))
    assert groups(found) == [("Create", [0, 1, 2])]
    op = found.groups[0].op
    assert isinstance(op, Create)
    assert op.content == content_of(b"three")
    assert op.mtime_ns == 77


def test_puts_collapse_into_the_first_place_with_the_first_base() -> None:
    found = run(put(OLD, SEALED, b"one"), SetXattr(OLD, b"user.x", b"1"), put(OLD, v(0), b"two"))
    assert groups(found) == [("Put", [0, 2]), ("SetXattr", [1])]
    op = found.groups[0].op
    assert isinstance(op, Put)
    assert (op.base, op.content) == (SEALED, content_of(b"two"))


def test_a_put_from_another_base_stays_for_itself() -> None:
    assert len(run(put(OLD, SEALED, b"one"), put(OLD, (OpId(b"B" * 16, 1),), b"two")).groups) == 2


def test_a_put_that_moves_up_keeps_the_last_word_on_mtime() -> None:
    found = run(
        make_file(ROOT, b"a"),
        SetAttr(i(0), SET_MTIME, 0, 0, 0, 50),
        SetAttr(i(0), SET_MODE, 0o600, 0, 0, 0),
        put(i(0), v(0), b"one", 99),
    )
    assert groups(found) == [("Create", [0, 3]), ("SetAttr", [1, 2])]
    op = found.groups[1].op
    assert isinstance(op, SetAttr)
    assert (op.mask, op.mode, op.mtime_ns) == (SET_MODE, 0o600, 0)


def test_settings_become_one_and_later_fields_win() -> None:
    found = run(SetAttr(OLD, SET_MODE | SET_GID, 0o600, 0, 5, 0), SetAttr(OLD, SET_GID | SET_MTIME, 0, 0, 6, 7))
    assert [group.op for group in found.groups] == [SetAttr(OLD, SET_MODE | SET_GID | SET_MTIME, 0o600, 0, 6, 7)]


def test_an_mtime_does_not_move_before_what_would_set_it() -> None:
    touch = SetAttr(OLD, SET_MTIME, 0, 0, 0, 7)
    first = SetAttr(OLD, SET_MODE, 0o700, 0, 0, 0)
    for between in (make_file(OLD, b"in it"), put(OLD, SEALED, b"text"), Unlink(b"x" * 16, SEALED, SEALED)):
        assert len(run(first, between, touch).groups) == 3


def test_a_new_folder_never_travels_under_its_first_name() -> None:
    found = run(make_folder(ROOT, b"New Folder"), move(i(0), v(0), b"Photos"), make_file(i(0), b"p"))
    assert groups(found) == [("Create", [0, 1]), ("Create", [2])]
    op = found.groups[0].op
    assert isinstance(op, Create)
    assert op.name == b"Photos"


def test_a_create_is_not_moved_to_a_name_that_was_in_use() -> None:
    by_name = run(make_file(ROOT, b"b"), make_file(ROOT, b"a"), move(i(0), v(0), b"c"), move(i(1), v(1), b"b"))
    assert groups(by_name) == [("Create", [0, 2]), ("Create", [1]), ("Rename", [3])]
    by_unknown_name = run(make_file(ROOT, b"a"), Unlink(OLD, SEALED, SEALED), move(i(0), v(0), b"b"))
    assert len(by_unknown_name.groups) == 3


def test_a_create_is_not_moved_into_a_directory_made_later() -> None:
    found = run(make_file(ROOT, b"a"), make_folder(ROOT, b"d"), move(i(0), v(0), b"a", parent=i(1)))
    assert len(found.groups) == 3


def test_a_directory_into_which_something_moved_keeps_its_place() -> None:
    """Made at once in `d`, `x` would stand below what is to move into it."""
    found = run(
        make_folder(ROOT, b"d"),
        make_folder(ROOT, b"x"),
        move(i(0), v(0), b"d", parent=i(1)),
        move(i(0), v(2), b"d"),
        move(i(1), v(1), b"x", parent=i(0)),
    )
    assert len(found.groups) == 5


def test_temporary_files_vanish_with_everything_about_them() -> None:
    found = run(
        make_file(ROOT, b"tmp"),
        put(i(0), v(0), b"one"),
        SetAttr(i(0), SET_MODE, 0o600, 0, 0, 0),
        SetXattr(i(0), b"user.x", b"1"),
        Link(i(0), ROOT, b"tmp2"),
        Unlink(i(0), v(0), v(1)),
        move(i(0), v(4), b"tmp3"),
        Unlink(i(0), v(6), v(1)),
    )
    assert groups(found) == []
    assert found.vanished == [0]


def test_a_temporary_tree_vanishes() -> None:
    found = run(make_folder(ROOT, b"d"), make_file(i(0), b"f"), Unlink(i(1), v(1), v(1)), Rmdir(i(0), v(0)))
    assert groups(found) == []
    assert found.vanished == [1, 0]


def test_a_directory_through_which_something_old_passed_does_not_vanish() -> None:
    found = run(
        make_folder(ROOT, b"d"),
        move(OLD, SEALED, b"f", parent=i(0)),
        Unlink(OLD, v(1), SEALED),
        Rmdir(i(0), v(0)),
    )
    assert len(found.groups) == 4


def test_what_replaced_or_was_exchanged_does_not_vanish() -> None:
    replaced = Replaced(OLD, SEALED, SEALED)
    for flags in (0, RENAME_EXCHANGE):
        save = Rename(i(0), v(0), ROOT, b"doc", replaced, flags)
        found = run(make_file(ROOT, b"tmp"), save, Unlink(i(0), v(1), v(0)))
        assert found.vanished == []
        assert len(found.groups) == 3


def test_what_comes_back_from_the_trash_does_not_vanish() -> None:
    found = run(make_file(ROOT, b"a"), Unlink(i(0), v(0), v(0)), Undelete(i(0), ROOT, b"b"))
    assert found.vanished == []


def test_what_a_later_operation_brings_back_does_not_vanish() -> None:
    batch = [Pending(0, make_file(ROOT, b"a")), Pending(1, Unlink(i(0), v(0), v(0)))]
    assert coalesce(batch).vanished == [0]
    assert coalesce(batch, [Pending(2, Undelete(i(0), ROOT, b"b"))]).vanished == []


def test_what_another_file_took_over_does_not_vanish() -> None:
    """After a pull the create may have been merged into a file of others, whose version then names it."""
    merged = tuple(sorted((*SEALED, *v(0))))
    found = run(make_file(ROOT, b"a"), Unlink(i(0), v(0), v(0)), put(OLD, merged, b"two"))
    assert found.vanished == []
