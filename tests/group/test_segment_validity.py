"""S3 to S8: segments that do not follow from what their author had seen."""

import pytest
from membership_world import ADMIN, OWNER, READER, WRITER, World, cut, digest

from cryptfs.errors import Invalid
from cryptfs.format.codec import FMT
from cryptfs.format.operation import Expire, Rules, Unlink
from cryptfs.format.segment_body import LogHead, SegmentBody
from cryptfs.group.validity import Claim, Missing, Placed, counts, given_up, judge_segment, next_stamp


class Scene:
    """A founder and a writer, one epoch, and the segments judged so far."""

    def __init__(self, group):
        self.world = World(group)
        self.ends = group.ends.log_ends
        self.anna, self.anna_log = self.world.anna, self.world.anna[:16]
        self.world.rotate(self.anna)
        self.bob = self.world.add(self.anna, "bob", WRITER)
        self.log = self.bob[:16]
        self.placed = {}
        self.lost = lambda _head: False
        self.intro = self.place(self.anna_log, 0)

    def claim(self, log, seq, **changes):
        """A segment that follows every rule, but for `changes`."""
        before = self.placed.get(LogHead(log, seq - 1, digest(log, seq - 1))) if seq else None
        others = {head.log: head for head in sorted(self.placed, key=lambda head: head.seq) if head.log != log}
        vec = changes.pop("vec", tuple(sorted(others.values(), key=lambda head: head.log)))
        known = [self.placed[head] for head in vec if head in self.placed]
        mheads = changes.pop("mheads", self.world.heads())
        stamp = changes.pop("stamp", next_stamp(before, known))
        ks = changes.pop("ks", b"".join(self.world.resolver.at(mheads).eids if self.knows(mheads) else ()))
        seen = changes.pop("seen", {})
        ops = changes.pop("ops", ())
        body = SegmentBody(FMT, bytes(32), stamp, mheads, vec, 0, 1, "test", 0, (), (), ops, ())
        return Claim(log, seq, ks, body, changes.pop("before", before), seen)

    def knows(self, ids):
        return all(one in self.world.graph for one in ids)

    def judge(self, claim):
        return judge_segment(claim, self.world.resolver, self.placed.get, self.lost)

    def place(self, log, seq, **changes):
        head = LogHead(log, seq, digest(log, seq))
        self.placed[head] = self.judge(self.claim(log, seq, **changes))
        assert isinstance(self.placed[head], Placed)
        return head


@pytest.fixture
def scene(group):
    return Scene(group)


def refused(scene, words, *args, **changes):
    with pytest.raises(Invalid, match=words):
        scene.judge(scene.claim(*args, **changes))


def test_an_honest_segment_is_placed_above_all_it_has_seen(scene):
    placed = scene.judge(scene.claim(scene.log, 0))
    assert isinstance(placed, Placed)
    assert placed.stamp == 2
    assert placed.view == scene.world.graph.view(scene.world.heads())


def test_logclaim_a_log_no_statement_opens_waits(scene):
    """T-logclaim."""
    stranger = b"\x07" * 16
    missing = scene.judge(scene.claim(stranger, 0))
    assert missing == Missing(statements=frozenset({stranger}))
    assert missing


@pytest.mark.parametrize("wrong", [-1, 1, 10, 1 << 61])
def test_lamport_stamp_must_follow_exactly(scene, wrong):
    """T-lamport, T-fastforward (S3)."""
    right = scene.claim(scene.log, 0).body.stamp
    refused(scene, "stamp", scene.log, 0, stamp=right + wrong)


def test_fastforward_stamp_beyond_the_limit(scene):
    scene.lost = lambda _head: True
    refused(scene, "stamp", scene.log, 1, stamp=(1 << 62) + 1)


def test_lamport_vector_must_not_go_back(scene):
    refused(scene, "seen less", scene.log, 0, seen={scene.anna_log: 1})


def test_a_head_or_statement_not_here_is_waited_for(scene):
    absent = LogHead(scene.anna_log, 5, digest(scene.anna_log, 5))
    assert scene.judge(scene.claim(scene.log, 0, vec=(absent,))).heads == {absent}
    unknown = b"\x09" * 32
    assert scene.judge(scene.claim(scene.log, 0, mheads=(unknown,))).statements == {unknown}


def test_a_head_given_up_as_lost_is_waived_and_stamps_may_then_be_higher(scene):
    absent = LogHead(scene.anna_log, 5, digest(scene.anna_log, 5))
    scene.place(scene.log, 0)
    scene.world.close(scene.anna, cut(scene.anna_log, 5), reason=2)
    scene.lost = given_up(scene.world.graph, scene.world.now())
    assert scene.lost(absent)
    assert not scene.lost(scene.intro)
    claim = scene.claim(scene.log, 1, vec=(absent,), stamp=40)
    assert scene.judge(claim).stamp == 40
    refused(scene, "stamp", scene.log, 1, vec=(absent,), stamp=2)


def test_a_suspended_log_is_not_given_up(scene):
    scene.world.close(scene.anna, cut(scene.log, 0), reason=1)
    assert not given_up(scene.world.graph, scene.world.now())(LogHead(scene.log, 3, bytes(32)))


def test_citations_contain_the_own_admission(scene):
    """S4."""
    rotation = next(one.id for one in scene.world.statements if one.id not in (scene.anna, scene.bob))
    refused(scene, "does not cite the statement that opens", scene.log, 0, mheads=(rotation,))


def test_citations_contain_the_statement_that_opens_a_later_log(scene):
    seen = scene.world.heads()
    later = scene.world.new_log(scene.bob)
    refused(scene, "does not cite the statement that opens", later[:16], 0, mheads=seen)
    assert isinstance(scene.judge(scene.claim(later[:16], 0)), Placed)


def test_citations_never_shrink(scene):
    old = scene.world.heads()
    scene.place(scene.log, 0)
    scene.world.add(scene.anna, "carl", ADMIN)
    scene.place(scene.log, 1)
    refused(scene, "cites less", scene.log, 2, mheads=old)


def test_citations_contain_those_of_every_head_seen(scene):
    old = scene.world.heads()
    scene.world.add(scene.anna, "carl", ADMIN)
    scene.place(scene.anna_log, 1)
    refused(scene, "cites less", scene.log, 0, mheads=old)


def test_keyset_is_exactly_the_epochs_the_author_had_seen(scene):
    """T-keyset (S5): an old key after a rotation was seen, a part of a merged one, one too many."""
    old = scene.claim(scene.log, 0).ks
    seen = scene.world.heads()
    scene.world.rotate(scene.anna, prev=seen)
    one = b"".join(scene.world.now().eids)
    carl = scene.world.add(scene.anna, "carl", ADMIN, seen)
    scene.world.rotate(carl, prev=(carl,))
    both = b"".join(scene.world.now().eids)
    assert len(both) == 32
    for wrong in (old, one, both[:16], both[16:] + both[:16], both + old, b""):
        refused(scene, "other epochs", scene.log, 0, ks=wrong)
    assert isinstance(scene.judge(scene.claim(scene.log, 0)), Placed)


def test_keyset_of_somebody_who_has_not_seen_the_rotation_stays_valid(scene):
    claim = scene.claim(scene.log, 0)
    scene.world.remove(scene.anna, scene.world.add(scene.anna, "carl", ADMIN))
    assert isinstance(scene.judge(claim), Placed)


def test_a_first_segment_has_seen_the_one_that_introduces_its_author(scene):
    """S6."""
    refused(scene, "introduces its author", scene.log, 0, vec=())
    carl = scene.world.add(scene.anna, "carl", ADMIN)
    refused(scene, "introduces its author", carl[:16], 0)  # Anna's last segment is older
    scene.place(scene.anna_log, 1)
    assert isinstance(scene.judge(scene.claim(carl[:16], 0)), Placed)


def test_founder_and_whom_the_recovery_key_adds_need_no_introduction(scene):
    carl = scene.world.add(bytes(32), "carl", OWNER)
    assert isinstance(scene.judge(scene.claim(carl[:16], 0, vec=())), Placed)


def test_a_later_log_starts_after_the_ones_it_closes(scene):
    scene.place(scene.log, 0)
    scene.place(scene.log, 1)
    later = scene.world.new_log(scene.bob, [cut(scene.log, 2)])
    short = (LogHead(scene.log, 0, digest(scene.log, 0)),)
    refused(scene, "after the logs it closes", later[:16], 0, vec=short)
    refused(scene, "after the logs it closes", later[:16], 0, vec=())
    assert isinstance(scene.judge(scene.claim(later[:16], 0)), Placed)


def test_a_log_opened_after_an_administrator_closed_one_is_exempt(scene):
    scene.place(scene.log, 0)
    scene.world.close(scene.anna, cut(scene.log, 1))
    later = scene.world.new_log(scene.bob, [cut(scene.log, 1)])
    assert isinstance(scene.judge(scene.claim(later[:16], 0, vec=())), Placed)


def test_an_own_close_exempts_from_nothing(scene):
    scene.place(scene.log, 0)
    scene.world.close(scene.bob, cut(scene.log, 1))
    later = scene.world.new_log(scene.bob, [cut(scene.log, 1)])
    refused(scene, "after the logs it closes", later[:16], 0, vec=())


def test_reader_forge_a_reader_has_no_log(scene):
    """T-reader-forge, the part that membership settles: no log, however well the segment is made."""
    rita = scene.world.add(scene.anna, "rita", READER)
    assert scene.judge(scene.claim(rita[:16], 0)) == Missing(statements=frozenset({rita[:16]}))
    log = scene.world.new_log(rita)
    assert scene.judge(scene.claim(log[:16], 0)) == Missing(statements=frozenset({log[:16]}))


@pytest.mark.parametrize(("op", "least"), [(Expire(1), ADMIN), (Rules(2), OWNER), (Unlink(bytes(16), (), ()), WRITER)])
@pytest.mark.parametrize("role", [WRITER, ADMIN, OWNER])
def test_operations_of_administrators_and_owners(scene, op, least, role):
    """S8, the half that depends on the role."""
    carl = scene.world.add(bytes(32), "carl", role)
    claim = scene.claim(carl[:16], 0, ops=(op,))
    if role >= least:
        assert isinstance(scene.judge(claim), Placed)
    else:
        with pytest.raises(Invalid, match="only"):
            scene.judge(claim)


def test_s7_segments_count_below_the_end_and_with_a_valid_admission(scene):
    graph = scene.world.graph
    scene.world.remove(scene.anna, scene.bob, cuts=[cut(scene.log, 2)])
    void = scene.world.add(scene.bob, "puppet", WRITER)
    now = scene.world.now()
    ends = scene.ends(graph, now, {})
    assert [counts(scene.log, seq, ends) for seq in range(4)] == [True, True, False, False]
    assert counts(scene.anna_log, 1 << 40, ends)
    assert not counts(void[:16], 0, ends)
    assert not counts(b"\x07" * 16, 0, ends)


def test_s7_a_void_log_statement_gives_no_log_that_counts(scene):
    seen = scene.world.heads()
    later = scene.world.new_log(scene.bob)
    scene.world.remove(scene.anna, scene.bob, prev=seen)
    ends = scene.ends(scene.world.graph, scene.world.now(), {})
    assert not counts(later[:16], 0, ends)
