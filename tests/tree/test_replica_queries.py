"""What mount and vault ask the replica, and what they are told after an integration."""

import random

import pytest
from msgspec.structs import replace

from cryptfs.errors import NeedsUpdate
from cryptfs.format.content import Content, Hole, Inline, Loc, MRef, Paged, Patch, Run
from cryptfs.format.operation import (
    Create,
    Link,
    OpId,
    Put,
    Rename,
    Rules,
    SetAttr,
    SetXattr,
    Unlink,
    provisional_ino,
    provisional_op_id,
)
from cryptfs.tree import ROOT_ST, NeedsRebuild, Replica
from cryptfs.tree.facts import anchored
from cryptfs.tree.ids import st_of_k
from tests.simulation.tree_device import LocalUser, content_of, open_replica, state_of
from tests.simulation.tree_script import ANNA, BOB, Script, edit, made, make_file, make_folder

NOW = 10**18


def started() -> tuple[Replica, bytes]:
    replica = open_replica()
    return replica, replica.ino_of(ROOT_ST)


def test_an_empty_tree_has_a_root() -> None:
    replica, _ = started()
    root = replica.node(ROOT_ST)
    assert root is not None
    assert (root.kind, root.nlink) == (1, 2)
    assert replica.parent_of(ROOT_ST) == ROOT_ST
    assert replica.is_empty(ROOT_ST)
    assert replica.count_nodes() == 1
    assert replica.lookup(ROOT_ST, b"a") is None
    assert replica.node(77) is None
    assert replica.next_k() == 0


def test_a_local_create_is_seen_at_once() -> None:
    replica, root = started()
    replica.apply_local(make_folder(root, b"d"), 0, NOW)
    replica.apply_local(make_file(provisional_ino(0), b"f"), 1, NOW + 1)
    d, f = st_of_k(0), st_of_k(1)
    assert replica.entries(ROOT_ST) == [(b"d", d, 1)]
    entry = replica.lookup(d, b"f")
    assert entry is not None
    assert (entry.parent, entry.st, replica.extern_ver(entry.lver)) == (d, f, (provisional_op_id(1),))
    assert (replica.parent_of(d), replica.parent_of(f)) == (ROOT_ST, d)
    assert replica.is_ancestor(ROOT_ST, d)
    assert not replica.is_ancestor(d, ROOT_ST)
    assert (replica.ino_of(f), replica.st_of(provisional_ino(1))) == (provisional_ino(1), f)
    assert replica.next_k() == 2
    assert [path for path, _ in replica.walk()] == [b"/d", b"/d/f"]
    assert [replica.find(path) for path in (b"", b"/", b"d", b"/d/./f", b"d//f/")] == [ROOT_ST, ROOT_ST, d, f, f]
    assert [replica.find(path) for path in (b"f", b"d/x/f", b"d/f/x", b"d/..")] == [None] * 4
    assert (replica.node(ROOT_ST).nlink, replica.node(d).nlink, replica.node(f).nlink) == (3, 2, 1)  # type: ignore[union-attr]


def test_local_times_are_those_of_this_machine() -> None:
    replica, root = started()
    replica.apply_local(make_folder(root, b"d"), 0, NOW)
    replica.apply_local(make_file(provisional_ino(0), b"f"), 1, NOW + 5)
    replica.apply_local(SetAttr(provisional_ino(1), 1, 0o600, 0, 0, 0), 2, NOW + 9)
    d, f = replica.node(st_of_k(0)), replica.node(st_of_k(1))
    assert d is not None
    assert f is not None
    assert (d.mtime_ns, d.ctime_ns) == (NOW + 5, NOW + 5)
    assert (f.mtime_ns, f.ctime_ns) == (7, NOW + 9)
    replica.apply_local(SetAttr(provisional_ino(0), 8, 0, 0, 0, 123), 3, NOW + 10)
    replica.set_atime(f.st, 11)
    replica.touch_ctime(f.st, NOW + 20)
    replica.commit()
    assert replica.node(d.st).mtime_ns == 123  # type: ignore[union-attr]
    assert replica.node(f.st)[8:10] == (NOW + 20, 11)  # type: ignore[index]


def test_content_is_pending_until_it_is_sealed() -> None:
    user = LocalUser(open_replica(), random.Random(0))
    root = user.replica.ino_of(ROOT_ST)
    k = user.submit(make_file(root, b"f"))
    st = st_of_k(k)
    assert not user.replica.has_pending_content(st), "created empty"
    put = user.submit(Put(provisional_ino(k), (provisional_op_id(k),), content_of(b"one"), 9))
    assert user.replica.pending_content(st) == put
    assert user.replica.content_of(st) is None
    seg, vanished, last = user.seal(1)
    assert user.replica.mark_sealed(seg, last, vanished)
    assert not user.replica.has_pending_content(st)
    assert user.replica.content_of(st) is not None
    assert user.replica.heads()[user.log].seq == 0
    assert user.replica.ino_of(st) == seg_inode(user, 0)
    assert user.replica.st_of(provisional_ino(k)) == user.replica.st_of(seg_inode(user, 0)) == st


def seg_inode(user: LocalUser, n: int) -> bytes:
    return user.replica.ids.made_by(user.log + n.to_bytes(8, "big"))


def test_places_in_the_own_segment_are_anchored_to_its_digest() -> None:
    digest, pack = b"D" * 32, b"P" * 32
    here, there = Loc(0, b"", 5), Loc(1, pack, 5)
    run, other = Run(1, 0, 0, here, b"h" * 32), Run(1, 0, 0, there, b"h" * 32)
    inline = Content(b"f" * 16, 1, 16, b"", (), Inline((run, other, Hole(1))))
    found = anchored(inline, digest)
    assert found.body == Inline((replace(run, loc=Loc(2, digest, 5)), other, Hole(1)))
    paged = replace(inline, body=Paged(MRef(b"k" * 16, here, 9, b"h" * 32), (Patch(0, run), Patch(9, other))))
    body = anchored(paged, digest).body
    assert isinstance(body, Paged)
    assert body.root.loc == Loc(2, digest, 5)
    assert [patch.span.loc.where for patch in body.patches if isinstance(patch.span, Run)] == [2, 1]
    unchanged = replace(inline, body=Inline((other,)))
    assert anchored(unchanged, digest) is unchanged


def test_the_kernel_hears_what_differs_and_nothing_else() -> None:
    s = Script()
    a, b = s.file(ANNA, b"a", b"one"), s.file(ANNA, b"b", b"two")
    st_a, st_b = s.replica.st_of(made(a)), s.replica.st_of(made(b))
    pending = [(0, make_file(s.root, b"mine"))]
    s.replica.reapply(pending)
    rename = Rename(made(b), b, s.root, b"c", None, 0)
    diff = s.replica.integrate([s.segment(BOB, edit(made(a), a, b"new"), rename)], pending)
    assert sorted(diff.entries) == [(ROOT_ST, b"b"), (ROOT_ST, b"c")]
    assert diff.contents == {st_a}
    assert diff.attributes == {st_a, st_b, ROOT_ST}
    nothing = s.replica.integrate([], pending)
    assert (nothing.entries, nothing.attributes, nothing.contents) == ([], set(), set())
    xattr = s.replica.integrate([s.segment(BOB, SetXattr(made(a), b"user.x", b"1"))], pending)
    assert st_a in xattr.attributes


def test_a_foreign_change_ends_the_local_times_of_a_node() -> None:
    s = Script()
    d = s.folder(ANNA, b"d")
    st = s.replica.st_of(made(d))
    assert st is not None
    s.replica.apply_local(make_file(made(d), b"f"), 0, NOW)
    s.replica.integrate([s.segment(BOB, make_file(made(d), b"g"))], [(0, make_file(made(d), b"f"))])
    node = s.replica.node(st)
    assert node is not None
    assert node.mtime_ns == node.ctime_ns == (1_700_000_000_000 + 2000) * 10**6


def test_below_the_floor_nothing_is_inserted() -> None:
    s = Script()
    late = s.segment(BOB, make_file(s.root, b"late"))
    s.file(ANNA, b"a")
    s.replica.advance(s.stamp)
    before = state_of(s.replica)
    with pytest.raises(NeedsRebuild):
        s.replica.integrate([late])
    with pytest.raises(NeedsRebuild):
        s.replica.integrate([], void=[(ANNA, 0)])
    assert state_of(s.replica) == before


def test_a_segment_that_turns_void_leaves_no_trace_but_its_successors_do() -> None:
    s = Script()
    a = s.file(ANNA, b"a", b"one")
    d = s.folder(BOB, b"d")
    s.write(ANNA, Rename(made(a), a, made(d), b"a", None, 0), Link(made(a), s.root, b"b"))
    s.replica.integrate([], void=[(BOB, 0)])
    assert s.tree() == {"/lost+found": "dir", "/lost+found/a": "A0", "/b": "A0"}


def test_rules_of_a_later_number_stop_before_anything_changes() -> None:
    s = Script()
    before = state_of(s.replica)
    with pytest.raises(NeedsUpdate):
        s.replica.integrate([s.segment(ANNA, make_file(s.root, b"a"), Rules(2), role=3)])
    assert state_of(s.replica) == before


def test_notices_of_what_is_undone_are_withdrawn_unless_seen() -> None:
    s = Script()
    s.file(ANNA, b"a", b"one")
    s.file(BOB, b"a", b"two")
    s.replica.integrate([], void=[(BOB, 0)])
    assert s.notices() == []
    s.file(b"C" * 16, b"a", b"three")
    assert s.notices() == ["conflict"]
    s.replica.see_notices()
    assert s.notices() == []


def test_owners_may_keep_values_with_the_tree() -> None:
    replica, _ = started()
    assert replica.meta_get("feed") is None
    replica.meta_set("feed", b"token")
    assert replica.meta_get("feed") == b"token"


def test_a_tentative_conflict_is_not_relabelled() -> None:
    s = Script()
    s.file(ANNA, b"a", b"one")
    user = LocalUser(s.replica, random.Random(0), log=BOB)
    user.submit(Create(s.root, b"a", 0, 0o644, 0, 0, 0, 7, b"", None))
    seg, vanished, last = user.seal(2)
    assert not s.replica.mark_sealed(seg, last, vanished)
    s.replica.integrate([seg])
    paths = [path for path, _ in s.replica.walk()]
    assert any(path.startswith(b"/a (Anna's laptop's conflicted copy ") for path in paths)
    assert s.replica.st_of(made((OpId(BOB, 0),))) == st_of_k(0), "its number stays"


def test_an_own_segment_that_is_integrated_moves_no_time() -> None:
    s = Script()
    s.file(ANNA, b"a", b"one")
    user = LocalUser(s.replica, random.Random(0), log=BOB)
    k = user.submit(make_folder(s.root, b"d"))
    user.submit(make_file(provisional_ino(k), b"f"))
    before = s.replica.node(st_of_k(k))
    assert before is not None
    seg, _, _ = user.seal(2)
    s.replica.integrate([seg])
    after = s.replica.node(st_of_k(k))
    assert after is not None
    assert (after.mtime_ns, after.ctime_ns) == (before.mtime_ns, before.ctime_ns) == (user.now, user.now)


def test_what_does_not_come_last_is_not_relabelled() -> None:
    s = Script()
    user = LocalUser(s.replica, random.Random(0), log=BOB)
    user.submit(make_file(s.root, b"mine"))
    seg, vanished, last = user.seal(1)
    s.file(b"C" * 16, b"other")  # stamp 1 too, and a log that comes later
    s.replica.reapply([(0, make_file(s.root, b"mine"))])
    before = state_of(s.replica)
    assert not s.replica.mark_sealed(seg, last, vanished)
    assert state_of(s.replica) == before
    s.replica.advance(1)
    assert not s.replica.mark_sealed(seg, last, vanished), "nor at the floor"


def test_unlinking_open_files_keeps_their_node_until_the_seal() -> None:
    replica, root = started()
    replica.apply_local(make_file(root, b"f"), 0, NOW)
    replica.apply_local(Unlink(provisional_ino(0), (provisional_op_id(0),), (provisional_op_id(0),)), 1, NOW)
    node = replica.node(st_of_k(0))
    assert node is not None
    assert node.nlink == 0
