"""Whose packs a device may take over, by what its segment has seen."""

from membership_world import ADMIN, WRITER, World, cut

from cryptfs.group.heirs import heritage


def inherits(world, log_id, *heads):
    return set(heritage(world.graph, log_id, heads))


def test_other_logs_of_the_same_member_are_inherited_and_those_of_others_are_not(group):
    world = World(group)
    bob = world.add(world.anna, "bob", WRITER)
    laptop = world.add(world.anna, world.person("bob's laptop", world.graph.admission(bob).member), WRITER, (bob,))
    carl = world.add(world.anna, "carl", WRITER, (laptop,))
    assert inherits(world, laptop[:16], carl) == {bob[:16]}
    later = world.new_log(bob, [cut(bob[:16], 1)], (carl,))
    assert inherits(world, later[:16], later) == {bob[:16], laptop[:16]}


def test_a_log_is_inherited_by_all_once_its_end_was_seen(group):
    world = World(group)
    bob = world.add(world.anna, "bob", WRITER)
    carl = world.add(world.anna, "carl", WRITER, (bob,))
    removal = world.remove(world.anna, bob, prev=(carl,))
    assert inherits(world, carl[:16], carl) == set(), "not seen by that segment"
    assert inherits(world, carl[:16], removal) == {bob[:16]}
    closing = world.close(world.anna, cut(carl[:16], 3), prev=(removal,))
    assert carl[:16] in inherits(world, bob[:16], closing)


def test_writer_cannot_make_himself_an_heir(group):
    """T-owner: who takes over has to be entitled by an administrator's word; a writer's own says nothing."""
    world = World(group)
    bob = world.add(world.anna, "bob", WRITER)
    carl = world.add(world.anna, "carl", WRITER, (bob,))
    removal = world.remove(carl, bob, prev=(carl,))
    closing = world.close(carl, cut(bob[:16], 0), prev=(removal,))
    mine = world.new_log(carl, [cut(bob[:16], 0)], (closing,))
    assert inherits(world, carl[:16], closing) == set()
    assert bob[:16] not in inherits(world, mine[:16], mine)


def test_what_a_segment_is_entitled_to_does_not_change_when_its_statement_turns_void(group):
    """An administrator removes Bob, and is removed at the same time: the segment says what it had seen."""
    world = World(group)
    adam = world.add(world.anna, "adam", ADMIN)
    bob = world.add(adam, "bob", WRITER, (adam,))
    carl = world.add(adam, "carl", WRITER, (bob,))
    removal = world.remove(adam, bob, prev=(carl,))
    before = inherits(world, carl[:16], removal)
    world.remove(world.anna, adam, prev=(carl,))
    assert inherits(world, carl[:16], removal) == before == {bob[:16]}
