"""The merge rules for names and attributes, one test a row of docs/replication.md, "The rules"."""

import pytest

from cryptfs.format.operation import (
    RENAME_EXCHANGE,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    Create,
    DelXattr,
    Link,
    Op,
    OpId,
    Rename,
    Replaced,
    Rmdir,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    Ver,
)
from tests.simulation.tree_script import (
    ANNA,
    BOB,
    Script,
    edit,
    made,
    make_file,
    make_folder,
    make_symlink,
)

NOWHERE = b"?" * 16
NEVER = (OpId(b"?" * 16, 0),)


def move(ver: Ver, parent: bytes, name: bytes, *, lver: Ver | None = None, over: Replaced | None = None) -> Rename:
    return Rename(made(ver), lver or ver, parent, name, over, 0)


def test_row_1_create_at_a_free_name() -> None:
    s = Script()
    s.file(ANNA, b"a", b"text")
    assert s.tree() == {"/a": "A0"}


def test_row_2_two_directories_of_one_name_become_one() -> None:
    s = Script()
    s.folder(ANNA, b"d")
    other = s.folder(BOB, b"d")
    s.file(BOB, b"f", b"inside", parent=made(other))
    assert s.tree() == {"/d": "dir", "/d/f": "B1"}


def test_row_3_identical_files_become_one_and_no_content_is_dropped() -> None:
    s = Script()
    s.file(ANNA, b"a", b"same")
    s.file(BOB, b"a", b"same")
    assert s.tree() == {"/a": "A0 B0"}
    assert s.history() == ["B0"], "the second content must survive a false digest"


def test_row_3_two_empty_files_and_two_equal_symlinks_become_one() -> None:
    s = Script()
    s.write(ANNA, make_file(s.root, b"a"), make_symlink(s.root, b"l", b"there"))
    s.write(BOB, make_file(s.root, b"a"), make_symlink(s.root, b"l", b"there"))
    assert s.tree() == {"/a": "A0 B0", "/l": "link to there"}


def test_row_4_anything_else_at_the_name_gives_a_conflict_name() -> None:
    s = Script()
    s.file(ANNA, b"a.txt", b"one")
    s.file(BOB, b"a.txt", b"two")
    s.write(BOB, make_folder(s.root, b"a.txt"))
    s.write(BOB, make_symlink(s.root, b"a.txt", b"there"))
    assert s.tree() == {
        "/a.txt": "A0",
        "/a (Bob's conflicted copy 2023-11-14).txt": "B0",
        "/a (Bob's conflicted copy 2023-11-14) 2.txt": "dir",
        "/a (Bob's conflicted copy 2023-11-14) 3.txt": "link to there",
    }
    assert s.notices() == ["conflict"] * 3


def removed_folders(s: Script) -> tuple[Ver, Ver]:
    outer = s.folder(ANNA, b"outer")
    inner = s.folder(ANNA, b"inner", parent=made(outer))
    s.write(ANNA, Rmdir(made(inner), inner), Rmdir(made(outer), outer))
    return outer, inner


def test_row_5_create_in_a_removed_directory_brings_it_back() -> None:
    s = Script()
    _, inner = removed_folders(s)
    s.file(BOB, b"f", b"text", parent=made(inner))
    assert s.tree() == {"/outer": "dir", "/outer/inner": "dir", "/outer/inner/f": "B0"}
    assert s.notices() == ["folder restored"]


def test_row_5_a_directory_of_that_name_takes_the_place_of_the_removed_one() -> None:
    s = Script()
    _, inner = removed_folders(s)
    s.folder(ANNA, b"outer")
    s.file(BOB, b"f", b"text", parent=made(inner))
    assert s.tree() == {"/outer": "dir", "/outer/inner": "dir", "/outer/inner/f": "B0"}


def test_row_5_a_file_of_that_name_leaves_the_removed_directory_a_conflict_name() -> None:
    s = Script()
    outer, _ = removed_folders(s)
    s.file(ANNA, b"outer", b"a file")
    other = s.file(BOB, b"g", b"text")
    s.write(BOB, move(other, made(outer), b"f"))
    restored = "/outer (Bob's conflicted copy 2023-11-14)"
    assert s.tree() == {"/outer": "A4", restored: "dir", restored + "/f": "B0"}


def test_row_6_create_in_a_directory_never_known_goes_to_lost_and_found() -> None:
    s = Script()
    s.file(BOB, b"f", b"text", parent=NOWHERE)
    assert s.tree() == {"/lost+found": "dir", "/lost+found/f": "B0"}
    assert s.notices() == ["lost+found"]


def test_row_13_unlink_by_who_saw_everything() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(BOB, Unlink(made(a), a, a))
    assert s.tree() == {}


def test_row_13_unlink_of_one_of_two_links_needs_no_version() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, Link(made(a), s.root, b"b"), edit(made(a), a, b"two"))
    s.write(BOB, Unlink(made(a), a, a))
    assert s.tree() == {"/b": "A2"}


def test_row_14_a_delete_never_removes_a_version_its_author_had_not_seen() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, edit(made(a), a, b"two"))
    assert s.unchanged_by(BOB, Unlink(made(a), a, a))
    assert s.tree() == {"/a": "A1"}
    assert s.notices() == ["kept because edited"]


def test_row_14_who_saw_one_of_two_merged_writers_may_not_remove() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"same")
    b = s.file(BOB, b"a", b"same")
    both = tuple(sorted(a + b))
    assert s.unchanged_by(BOB, Unlink(made(b), both, b))
    s.write(BOB, Unlink(made(b), both, both))
    assert s.tree() == {}


def test_row_15_unseen_attributes_do_not_keep_a_file() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, SetAttr(made(a), SET_MODE, 0o600, 0, 0, 0), SetXattr(made(a), b"user.x", b"1"))
    s.write(BOB, Unlink(made(a), a, a))
    assert s.tree() == {}


def test_row_16_moved_wins_over_deleted_and_deleted_twice_is_once() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    d = s.folder(ANNA, b"d")
    s.write(ANNA, move(a, s.root, b"b"), move(d, s.root, b"e"))
    assert s.unchanged_by(BOB, Unlink(made(a), a, a))
    assert s.unchanged_by(BOB, Rmdir(made(d), d))
    assert s.notices() == ["kept because moved"] * 2
    s.write(ANNA, Unlink(made(a), (OpId(ANNA, 2),), a))
    assert s.unchanged_by(BOB, Unlink(made(a), (OpId(ANNA, 2),), a))
    assert s.tree() == {"/e": "dir"}


def test_row_17_a_directory_with_entries_stays() -> None:
    s = Script()
    d = s.folder(ANNA, b"d")
    s.file(ANNA, b"f", b"one", parent=made(d))
    assert s.unchanged_by(BOB, Rmdir(made(d), d))
    assert s.notices() == ["folder kept"]


def test_row_18_an_empty_directory_goes() -> None:
    s = Script()
    d = s.folder(ANNA, b"d")
    s.write(BOB, Rmdir(made(d), d))
    assert s.tree() == {}


def test_row_19_rename_to_a_free_name() -> None:
    s = Script()
    a, d = s.file(ANNA, b"a", b"one"), s.folder(ANNA, b"d")
    s.write(BOB, move(a, made(d), b"b"))
    assert s.tree() == {"/d": "dir", "/d/b": "A0"}


def test_row_20_of_two_renames_the_first_in_order_wins() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, move(a, s.root, b"first"))
    assert s.unchanged_by(BOB, move(a, s.root, b"second"))
    assert s.tree() == {"/first": "A0"}


def over(ver: Ver, cver: Ver | None = None) -> Replaced:
    return Replaced(made(ver), ver, cver or ver)


def test_row_21_rename_over_exactly_what_was_seen_replaces_it() -> None:
    s = Script()
    a, tmp = s.file(ANNA, b"a", b"one"), s.file(BOB, b"tmp", b"two")
    d, e = s.folder(ANNA, b"d"), s.folder(BOB, b"e")
    s.write(BOB, move(tmp, s.root, b"a", over=over(a)), move(e, s.root, b"d", over=over(d)))
    assert s.tree() == {"/a": "B0", "/d": "dir"}


@pytest.mark.parametrize("case", ["unseen", "edited", "entries", "own link", "other kind"])
def test_row_22_nothing_that_is_not_exactly_what_was_seen_is_overwritten(case: str) -> None:
    s = Script()
    tmp = s.file(BOB, b"tmp", b"two")
    seen = None
    if case == "unseen":
        s.file(ANNA, b"a", b"one")
    elif case == "edited":  # atomic save against an edit
        a = s.file(ANNA, b"a", b"one")
        s.write(ANNA, edit(made(a), a, b"new"))
        seen = over(a)
    elif case == "entries":
        tmp, a = s.folder(BOB, b"tmpdir"), s.folder(ANNA, b"a")
        s.file(ANNA, b"f", b"one", parent=made(a))
        seen = over(a)
    elif case == "own link":
        link = s.write(ANNA, Link(made(tmp), s.root, b"a"))
        seen = Replaced(made(tmp), link, tmp)
    else:
        seen = over(s.folder(ANNA, b"a"))
    kept = s.tree()["/a"]
    s.write(BOB, move(tmp, s.root, b"a", over=seen))
    assert s.tree()["/a"] == kept
    assert "/a (Bob's conflicted copy 2023-11-14)" in s.tree()
    assert "conflict" in s.notices()


def test_row_23_a_directory_never_gets_into_itself() -> None:
    s = Script()
    a, b = s.folder(ANNA, b"a"), s.folder(ANNA, b"b")
    s.write(ANNA, move(a, made(b), b"a"))
    assert s.unchanged_by(BOB, move(b, made(a), b"b"))
    assert s.unchanged_by(BOB, move(b, made(b), b"b"))
    assert s.tree() == {"/b": "dir", "/b/a": "dir"}


def test_row_23_nor_through_an_alias_made_while_a_parent_comes_back() -> None:
    """The removed directory would come back as an alias of a directory below the one that moves."""
    s = Script()
    top = s.folder(ANNA, b"top")
    gone = s.folder(ANNA, b"x", parent=made(top))
    below = s.folder(ANNA, b"y", parent=made(gone))
    s.write(ANNA, Rmdir(made(below), below), Rmdir(made(gone), gone))
    there = s.folder(ANNA, b"x", parent=made(top))
    assert s.unchanged_by(BOB, move(there, made(below), b"z"))
    assert s.unchanged_by(BOB, move(top, made(below), b"z"))
    assert s.tree() == {"/top": "dir", "/top/x": "dir"}


def test_row_24_rename_onto_its_own_entry_is_nothing() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    assert s.unchanged_by(BOB, move(a, s.root, b"a"))


def test_row_25_exchange_swaps_places_or_does_nothing() -> None:
    s = Script()
    a, d = s.file(ANNA, b"a", b"one"), s.folder(ANNA, b"d")
    inner = s.file(ANNA, b"f", b"two", parent=made(d))
    swap = Rename(made(a), a, made(d), b"f", over(inner), RENAME_EXCHANGE)
    s.write(BOB, swap)
    assert s.tree() == {"/a": "A2", "/d": "dir", "/d/f": "A0"}
    assert s.unchanged_by(ANNA, swap), "a link is gone"
    into_itself = Rename(made(d), d, made(d), b"f", Replaced(made(a), (OpId(BOB, 0),), a), RENAME_EXCHANGE)
    assert s.unchanged_by(ANNA, into_itself)


def test_row_26_link_revives_an_inode_without_links() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, Unlink(made(a), a, a))
    s.write(BOB, Link(made(a), s.root, b"b"))
    assert s.tree() == {"/b": "A0"}


def test_row_27_link_to_a_taken_name_gets_a_conflict_name() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.file(ANNA, b"b", b"two")
    s.write(BOB, Link(made(a), s.root, b"c"), Link(made(a), s.root, b"b"))
    assert s.tree() == {"/a": "A0", "/b": "A1", "/c": "A0", "/b (Bob's conflicted copy 2023-11-14)": "A0"}
    st = s.replica.st_of(made(a))
    assert st is not None
    node = s.replica.node(st)
    assert node is not None
    assert node.nlink == 3


def test_row_28_attributes_last_in_order_wins_field_by_field() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, SetAttr(made(a), SET_MODE | SET_MTIME, 0o600, 0, 0, 50), SetXattr(made(a), b"user.x", b"1"))
    s.write(BOB, SetAttr(made(a), SET_GID, 0, 0, 9, 0), SetXattr(made(a), b"user.y", b"2"))
    s.write(BOB, SetXattr(made(a), b"user.x", b"3"), DelXattr(made(a), b"user.y"))
    st = s.replica.st_of(made(a))
    assert st is not None
    node = s.replica.node(st)
    assert node is not None
    assert (node.mode, node.gid, node.mtime_ns) == (0o600, 9, 50)
    assert s.replica.xattrs(st) == [b"user.x"]
    assert s.replica.xattr(st, b"user.x") == b"3"


def test_row_29_undelete_from_the_trash() -> None:
    s = Script()
    a, d = s.file(ANNA, b"a", b"one"), s.folder(ANNA, b"d")
    s.write(ANNA, Unlink(made(a), a, a))
    s.write(BOB, Undelete(made(a), made(d), b"back"))
    assert s.tree() == {"/d": "dir", "/d/back": "A0"}
    assert s.unchanged_by(BOB, Undelete(made(a), s.root, b"again")), "it is linked"
    assert s.unchanged_by(BOB, Undelete(NOWHERE, s.root, b"x")), "it is not kept"
    assert s.notices() == ["no longer kept"]


def test_row_29_a_directory_is_not_undeleted_into_itself() -> None:
    s = Script()
    outer, inner = removed_folders(s)
    assert s.unchanged_by(BOB, Undelete(made(outer), made(inner), b"x"))


@pytest.mark.parametrize(
    "op",
    [
        Unlink(NOWHERE, NEVER, NEVER),
        Rmdir(NOWHERE, NEVER),
        Rename(NOWHERE, NEVER, NOWHERE, b"x", None, 0),
        Link(NOWHERE, NOWHERE, b"x"),
        SetAttr(NOWHERE, SET_MODE, 0o600, 0, 0, 0),
        SetXattr(NOWHERE, b"user.x", b"1"),
        DelXattr(NOWHERE, b"user.x"),
    ],
    ids=lambda op: type(op).__name__,
)
def test_row_35_an_inode_never_known_is_nothing_and_not_counted(op: Op) -> None:
    s = Script()
    assert s.unchanged_by(BOB, op)
    assert s.notices() == []


FILE = OpId(ANNA, 0)
FOLDER = OpId(ANNA, 1)


def void_ops(s: Script) -> list[Op]:
    f, d = made((FILE,)), made((FOLDER,))
    return [
        *(make_file(s.root, name) for name in (b"", b".", b"..", b"a/b", b"a\0", b"x" * 256)),
        make_file(f, b"in a file"),
        Create(s.root, b"kind", 7, 0, 0, 0, 0, 0, b"", None),
        Create(s.root, b"mode", 0, 0o10000, 0, 0, 0, 0, b"", None),
        Link(d, s.root, b"hard link to a directory"),
        Unlink(d, (FOLDER,), (FOLDER,)),
        Rmdir(f, (FILE,)),
        edit(d, (FOLDER,), b"text"),
        Rename(f, (FILE,), f, b"into a file", None, 0),
        Rename(f, (FILE,), s.root, b"x", None, RENAME_EXCHANGE),
        SetAttr(f, 16, 0, 0, 0, 0),
    ]


@pytest.mark.parametrize("which", range(16))
def test_row_36_the_impossible_is_void_and_counted(which: int) -> None:
    s = Script()
    s.file(ANNA, b"f", b"text")
    s.folder(ANNA, b"d")
    assert s.unchanged_by(BOB, void_ops(s)[which])
    assert [(notice.kind, notice.text) for notice in s.replica.notices()] == [("invalid", b"1")]
