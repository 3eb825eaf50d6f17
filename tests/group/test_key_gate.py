"""The key gate: histories in which resolution alone would let a removed member compute the key."""

from membership_world import ADMIN, OWNER, WRITER, World

from cryptfs.crypto.keys import eid
from cryptfs.format.statement import RECOVERY_AUTHOR


def leak(world):
    """Entries outside the roster that each alone may know every current epoch."""
    knowing = world.group.gate._knowing(world.graph, world.now(), ())
    every = -1
    for start in world.now().epochs:
        every &= knowing[start.statement]
    return {one.entry for one in world.graph.entries() if world.graph.node(one.entry).bit & every} - world.roster()


def handover(world, author, epoch, *to):
    return world.group.gate.Handover(author, eid(epoch.epoch.commit), frozenset((one, bytes(32)) for one in to))


def test_without_any_epoch_the_gate_is_closed(group):
    assert not World(group).gate().open


def test_one_removal_leaves_the_gate_open(group):
    world = World(group)
    bob = world.add(world.anna, "bob", WRITER)
    world.rotate(world.anna)
    world.remove(world.anna, bob)
    assert world.gate().open


def test_collude_removed_two_removals_at_once_close_the_gate_until_one_rotation(group):
    """T-collude-removed: each of the removed was given the key that shuts the other one out."""
    world = World(group)
    carl, dora = world.add(world.anna, "carl", ADMIN), world.add(world.anna, "dora", ADMIN)
    bob, eve = world.add(world.anna, "bob", WRITER), world.add(world.anna, "eve", WRITER)
    world.rotate(world.anna)
    seen = world.heads()
    world.remove(carl, bob, prev=seen)
    world.remove(dora, eve, prev=seen)
    assert len(world.now().epochs) == 2
    assert not leak(world)  # neither alone
    gate = world.gate()
    assert not gate.open
    assert set(gate.outsiders) == {bob, eve}
    world.rotate(dora)
    assert world.gate().open


def nested_removals(world):
    """F added B, B added C, all owners; C removes D, B removes C, F removes B, none having seen the one before.

    In between, when the removal of D is void, somebody who applied a segment that carries it rotates and includes D.
    """
    f = world.anna
    b = world.add(f, "b", OWNER)
    c = world.add(b, "c", OWNER)
    d = world.add(f, "d", WRITER)
    x = world.add(f, "x", ADMIN)
    world.rotate(f)
    seen = world.heads()
    first = world.remove(c, d, prev=seen)
    second = world.remove(b, c, prev=seen)
    assert first in world.now().void
    assert d in world.roster()
    world.rotate(x, prev=(first, second))
    third = world.remove(f, b, prev=seen)
    assert {first, third} <= world.now().valid
    assert second in world.now().void
    return d


def test_revalidate_three_nested_removals_give_one_removed_member_the_key_and_close_the_gate(group):
    """T-revalidate."""
    world = World(group)
    d = nested_removals(world)
    assert d not in world.roster()
    assert d in leak(world)
    assert d in world.gate().outsiders
    assert not world.gate().open
    world.rotate(world.anna)
    assert world.gate().open


def test_forced_gate_nothing_an_outsider_signs_closes_it(group):
    """T-forced-gate: void epochs, also with the commit of the present one, and wraps by outsiders to outsiders."""
    world = World(group)
    carl, bob = world.add(world.anna, "carl", ADMIN), world.add(world.anna, "bob", WRITER)
    world.rotate(world.anna)
    before = world.heads()
    world.remove(world.anna, carl)
    assert world.gate().open
    current = world.now().epochs[0]
    for prev in (before, world.heads()):
        world.rotate(carl, prev=prev, to=[carl, bob])
        world.rotate(carl, prev=prev, to=[carl], commit=current.epoch.commit)
        world.remove(carl, bob, prev=prev)
    assert world.gate([handover(world, carl, current, carl), handover(world, bob, current, carl)]).open


def test_a_wrap_by_an_administrator_counts_as_taken(group):
    world = World(group)
    carl, bob = world.add(world.anna, "carl", ADMIN), world.add(world.anna, "bob", WRITER)
    world.rotate(world.anna)
    world.remove(world.anna, bob)
    current = world.now().epochs[0]
    for author, closes in ((carl, True), (world.anna, True), (RECOVERY_AUTHOR, True), (bob, False)):
        assert world.gate([handover(world, author, current, bob)]).open != closes


def test_recipients_who_are_no_entries_do_not_close_the_gate(group):
    world = World(group)
    world.rotate(world.anna, to=[world.anna, bytes([7]) * 32])
    assert world.gate().open


def test_history_boxes_count_as_opened(group):
    """An outsider who got a later epoch knows those its author boxed; a void one in between is no barrier."""
    world = World(group)
    carl, eve = world.add(world.anna, "carl", ADMIN), world.add(world.anna, "eve", WRITER)
    first = world.rotate(world.anna)
    world.remove(world.anna, eve)
    later = world.rotate(carl, to=[world.anna, carl, eve])  # hands the key to somebody who is out
    knowing = group.gate._knowing(world.graph, world.now(), ())
    bit = world.graph.node(eve).bit
    assert all(knowing[one] & bit for one in (first, later))
    removal = next(one.id for one in world.statements if one.id not in (first, later) and one.id in knowing)
    assert knowing[removal] & bit
    assert not world.gate().open


def test_winner_picking_one_of_two_epochs_would_leak(group):
    """T-winner: whichever of the two is picked, one of the removed was given it."""
    world = World(group)
    carl, dora = world.add(world.anna, "carl", ADMIN), world.add(world.anna, "dora", ADMIN)
    bob, eve = world.add(world.anna, "bob", WRITER), world.add(world.anna, "eve", WRITER)
    seen = world.heads()
    world.remove(carl, bob, prev=seen)
    world.remove(dora, eve, prev=seen)
    epochs = world.now().epochs
    assert {len({bob, eve} & set(one.epoch.to)) for one in epochs} == {1}
    assert len(epochs) == 2
    assert not leak(world)
