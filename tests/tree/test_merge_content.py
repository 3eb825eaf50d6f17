"""The merge rules for contents and containers, one test a row of docs/replication.md, "The rules"."""

from cryptfs.format.operation import (
    Adopted,
    Expire,
    Link,
    OpId,
    Put,
    Range,
    Rekey,
    Relocate,
    Rename,
    Restore,
    Retire,
    Rmdir,
    SetXattr,
    Undelete,
    Unlink,
    Unretire,
    Where,
)
from cryptfs.format.segment_body import PackRef
from cryptfs.tree.merge_containers import Moved, moved_ranges
from tests.simulation.tree_device import content_of
from tests.simulation.tree_script import ANNA, BOB, Script, copy, edit, made, make_file, make_folder

COPY = "/a (Bob's conflicted copy 2023-11-14)"


def test_row_7_a_put_on_what_was_seen_replaces_it_and_keeps_the_old_one() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(BOB, edit(made(a), a, b"two"))
    assert s.tree() == {"/a": "B0"}
    assert s.history() == ["A0"]
    assert s.notices() == []


def test_row_8_a_put_on_a_deleted_file_brings_it_back_with_its_parents() -> None:
    s = Script()
    d = s.folder(ANNA, b"d")
    a = s.file(ANNA, b"a", b"one", parent=made(d))
    s.write(ANNA, Unlink(made(a), a, a), Rmdir(made(d), d))
    s.write(BOB, edit(made(a), a, b"two"))
    assert s.tree() == {"/d": "dir", "/d/a": "B0"}
    assert s.notices() == ["kept because edited"]


def test_row_9_identical_concurrent_writes_become_one_version() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, edit(made(a), a, b"two"))
    s.write(BOB, edit(made(a), a, b"two"))
    assert s.tree() == {"/a": "A1 B0"}
    assert s.history() == ["A0", "B0"], "the second content must survive a false digest"


def test_row_9_an_identical_write_to_a_deleted_file_links_it_again() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    two = s.write(ANNA, edit(made(a), a, b"two"))
    s.write(ANNA, Unlink(made(a), a, two))
    s.write(BOB, edit(made(a), a, b"two"))
    assert s.tree() == {"/a": "A1 B0"}


def test_row_10_a_put_that_had_not_seen_becomes_a_conflict_copy_which_later_puts_follow() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, edit(made(a), a, b"two"))
    mine = s.write(BOB, edit(made(a), a, b"three"))
    assert s.tree() == {"/a": "A1", COPY: "B0"}
    s.write(BOB, edit(made(a), mine, b"four"))
    assert s.tree() == {"/a": "A1", COPY: "B1"}
    s.write(BOB, Rename(copy(mine), mine, s.root, b"mine", None, 0))
    assert s.tree() == {"/a": "A1", "/mine": "B1"}
    assert s.notices() == ["conflict"]


def test_row_10_a_deleted_file_with_a_version_unseen_gets_a_copy_at_the_plain_name() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    two = s.write(ANNA, edit(made(a), a, b"two"))
    s.write(ANNA, Unlink(made(a), a, two))
    s.write(BOB, edit(made(a), a, b"three"))
    assert s.tree() == {"/a": "B0"}


def test_row_10_the_copy_lies_beside_the_link_that_comes_first_by_version() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    d = s.folder(ANNA, b"d")
    s.write(ANNA, Link(made(a), made(d), b"b"), edit(made(a), a, b"two"))
    s.write(BOB, edit(made(a), a, b"three"))
    assert COPY in s.tree()


def test_row_11_a_version_of_eight_ids_takes_no_more() -> None:
    s = Script()
    for n in range(9):
        s.file(b"%d" % n * 16, b"a", b"same")
    found = s.tree()
    assert found["/a"] == " ".join(f"{n}0" for n in range(8))
    assert found["/a (Eve's conflicted copy 2023-11-14)"] == "80"

    s = Script()
    a = s.file(ANNA, b"a", b"one")
    for n in range(9):
        s.write(b"%d" % n * 16, edit(made(a), a, b"same"))
    assert s.tree() == {
        "/a": " ".join(f"{n}0" for n in range(8)),
        "/a (Eve's conflicted copy 2023-11-14)": "80",
    }


def test_row_12_a_put_on_a_file_nobody_knows_goes_to_lost_and_found() -> None:
    s = Script()
    mine = s.write(BOB, edit(b"\x12" * 16, (OpId(b"?" * 16, 0),), b"text"))
    s.write(BOB, edit(b"\x12" * 16, mine, b"more"))
    assert s.tree() == {"/lost+found": "dir", "/lost+found/1212121212121212": "B1"}
    assert s.notices() == ["lost+found"]


def test_row_30_restore_from_history() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    two = s.write(ANNA, edit(made(a), a, b"three and more"))
    s.write(BOB, Restore(made(a), two, a))
    st = s.replica.st_of(made(a))
    assert st is not None
    node = s.replica.node(st)
    assert node is not None
    assert node.size == len(b"one")
    assert s.replica.content_of(st) == s.replica.facts.encoded(ANNA + bytes(8))
    assert s.unchanged_by(BOB, Restore(made(a), (OpId(BOB, 0),), (OpId(BOB, 77),)))
    assert s.notices() == ["no longer kept"]


def test_row_30_restore_without_having_seen_the_present_content_is_a_conflict_copy() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    two = s.write(ANNA, edit(made(a), a, b"two"))
    s.write(ANNA, edit(made(a), two, b"three"))
    s.write(BOB, Restore(made(a), two, a))
    assert s.tree() == {"/a": "A2", COPY: "B0"}


def carrier(s: Script, ino: bytes) -> bytes | None:
    st = s.replica.st_of(ino)
    assert st is not None
    return s.replica.rows.node(st).content  # type: ignore[union-attr]


def test_row_31_rekey_changes_the_content_but_not_the_version() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    st = s.replica.st_of(made(a))
    assert st is not None
    before = s.replica.node(st)
    assert before is not None
    s.write(BOB, Rekey(made(a), a, content_of(b"one")), role=2)
    assert s.tree() == {"/a": "A0"}
    assert s.history() == []
    assert carrier(s, made(a)) == BOB + bytes(8)
    after = s.replica.node(st)
    assert before is not None
    assert after == before._replace(content=after.content), "nobody sees it: neither times nor sizes changed"
    assert s.unchanged_by(BOB, Rekey(made(a), a, content_of(b"two")), role=2), "other content"
    assert s.unchanged_by(BOB, Rekey(made(a), (OpId(BOB, 9),), content_of(b"one")), role=2), "not seen"


def test_row_31_rekey_is_for_administrators_since_nothing_goes_to_the_history() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    assert s.unchanged_by(BOB, Rekey(made(a), a, content_of(b"one")), role=1)


def test_row_31_rekey_of_an_old_version_replaces_its_records_in_the_history() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    two = s.write(ANNA, edit(made(a), a, b"two"))
    s.write(BOB, Rekey(made(a), a, content_of(b"one")), role=2)
    assert carrier(s, made(a)) == ANNA + (1).to_bytes(8, "big"), "the present content is another"
    assert [row.content for row in s.replica.rows.history(s.replica.st_of(made(a)))] == [BOB + bytes(8)]  # type: ignore[arg-type]
    assert s.unchanged_by(BOB, Rekey(made(a), a, content_of(b"two")), role=2)
    s.write(ANNA, Restore(made(a), two, a))
    assert carrier(s, made(a)) == BOB + bytes(8), "what comes back has the new records"


def test_row_31_a_version_that_is_overwritten_meanwhile_keeps_its_new_records_in_the_history() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    put = s.segment(ANNA, edit(made(a), a, b"two"))
    rekey = s.segment(BOB, Rekey(made(a), a, content_of(b"one")), role=2)
    s.replica.integrate([put])
    s.replica.integrate([rekey])
    assert carrier(s, made(a)) == ANNA + (1).to_bytes(8, "big")
    assert [row.content for row in s.replica.rows.history(s.replica.st_of(made(a)))] == [BOB + bytes(8)]  # type: ignore[arg-type]


def test_row_31_rekey_of_a_file_in_the_trash_leaves_it_there() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, Unlink(made(a), a, a))
    s.write(BOB, Rekey(made(a), a, content_of(b"one")), role=2)
    assert s.tree() == {}
    assert carrier(s, made(a)) == BOB + bytes(8)


PACK, OTHER = b"p" * 32, b"q" * 32


def pack_state(s: Script) -> tuple[bytes, int, list[Moved]]:
    container = s.replica.rows.container(1, PACK)
    assert container is not None
    return container.holder, container.state, moved_ranges(container)


def test_row_32_only_the_holder_retires_and_relocates() -> None:
    s = Script()
    s.write(ANNA, make_file(s.root, b"a"), packs=(PackRef(PACK, 100, 1), PackRef(OTHER, 100, 1)))
    s.write(BOB, make_file(s.root, b"b"), packs=(PackRef(PACK, 100, 1),))
    assert s.unchanged_by(BOB, Retire((Where(1, PACK),)))
    assert s.unchanged_by(BOB, Relocate(1, PACK, 1, OTHER, (Range(0, 10, 5),)))
    assert [notice.kind for notice in s.replica.notices()] == ["invalid"] * 2
    s.write(ANNA, Retire((Where(1, PACK),)), Relocate(1, PACK, 1, OTHER, (Range(0, 10, 5),)))
    assert pack_state(s) == (ANNA, 1, [Moved(0, 10, 5, 1, OTHER)])
    s.write(ANNA, Unretire((Where(1, PACK),)))
    assert pack_state(s)[1] == 0


def test_row_33_who_is_entitled_adopts() -> None:
    s = Script()
    s.write(ANNA, make_file(s.root, b"a"), packs=(PackRef(PACK, 100, 1),))
    take = Adopted((Where(1, PACK),))
    assert s.unchanged_by(BOB, take), "neither an administrator nor an heir"
    s.write(BOB, take, inherits=(ANNA,))
    assert pack_state(s)[0] == BOB
    assert s.unchanged_by(ANNA, take), "it is Bob's now"
    s.write(ANNA, take, role=2)
    assert pack_state(s)[0] == ANNA
    s.write(ANNA, Retire((Where(1, PACK),)))
    s.write(BOB, take, Unretire((Where(1, PACK),)), inherits=(ANNA,))
    assert pack_state(s)[:2] == (BOB, 0)


def test_row_34_expire_by_an_administrator_drops_what_was_superseded_or_deleted() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(ANNA, edit(made(a), a, b"two"))
    b = s.file(ANNA, b"b", b"gone")
    put = s.write(ANNA, SetXattr(made(b), b"user.x", b"1"), edit(made(b), b, b"more"))
    s.write(ANNA, Unlink(made(b), b, put))
    later = s.write(ANNA, edit(made(a), (OpId(ANNA, 1),), b"three"))
    assert s.unchanged_by(BOB, Expire(5), role=1), "a writer may not"
    assert s.unchanged_by(BOB, Expire(1000), role=2), "not above its own stamp"
    s.write(BOB, Expire(5), role=2)
    assert s.history() == ["A1"]
    assert [row[0] for row in s.replica.state_rows("landing")] == [OpId(ANNA, 1), later[0]]
    assert s.tree() == {"/a": f"A{later[0].n}"}
    assert s.replica.st_of(made(b)) is not None
    assert s.replica.node(s.replica.st_of(made(b)) or 0) is None
    assert s.replica.state_rows("xattr") == []
    assert s.unchanged_by(BOB, Undelete(made(b), s.root, b"b"))


def test_row_34_an_alias_of_what_expired_leads_nowhere() -> None:
    s = Script()
    one = s.folder(ANNA, b"d")
    two = s.folder(BOB, b"d")
    s.write(ANNA, Rmdir(made(one), one))
    s.write(ANNA, Expire(s.stamp), role=2)
    s.write(BOB, make_file(made(two), b"f", b"text"))
    assert s.tree() == {"/lost+found": "dir", "/lost+found/f": "B1"}


def test_a_reused_id_of_a_put_is_void() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    s.write(BOB, edit(made(a), a, b"two"))
    s.counts[BOB] = (1, 0)
    again = Put(made(a), (OpId(BOB, 0),), content_of(b"two"), 9)
    assert s.unchanged_by(BOB, again)
    s.counts[ANNA] = (1, 0)
    assert s.unchanged_by(ANNA, make_folder(s.root, b"z")), "the id made /a"
