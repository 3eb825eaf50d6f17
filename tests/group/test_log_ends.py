"""Where logs end: cuts, closings, forks and accepts."""

from membership_world import ADMIN, OWNER, READER, WRITER, World, cut, digest

ZERO = bytes(32)


def chain(group, log_id, count, branch="", start=0):
    """Segments start..count-1 of a log; those from `start` on lie on `branch` and follow the main one."""
    held = []
    for seq in range(start, count):
        before = digest(log_id, seq - 1, branch if seq > start else "") if seq else ZERO
        held.append(group.ends.HeldSegment(seq, digest(log_id, seq, branch), before))
    return held


def setting(world):
    bob = world.add(world.anna, "bob", WRITER)
    return bob, bob[:16]


def end_of(world, log_id, held=()):
    return world.group.ends.log_ends(world.graph, world.now(), {log_id: held})[log_id]


def alive(world, log_id, held):
    return [one.digest for one in world.group.ends.surviving(end_of(world, log_id, held), held)]


def test_a_log_nobody_cut_has_no_end(group):
    world = World(group)
    _, log = setting(world)
    held = chain(group, log, 3)
    assert end_of(world, log, held) == group.ends.FOREVER
    assert alive(world, log, held) == [one.digest for one in held]


def test_readers_have_no_log_and_void_entries_have_none_that_counts(group):
    world = World(group)
    rita = world.add(world.anna, "rita", READER)
    carl = world.add(world.anna, "carl", ADMIN)
    void = world.add(carl, "puppet", OWNER)
    ends = group.ends.log_ends(world.graph, world.now(), {})
    assert rita[:16] not in ends
    assert ends[void[:16]].count == 0


def test_cut_a_removal_ends_the_log_where_it_says(group):
    """T-cut."""
    world = World(group)
    bob, log = setting(world)
    held = chain(group, log, 5)
    world.remove(world.anna, bob, cuts=[cut(log, 3)])
    assert end_of(world, log, held) == group.ends.LogEnd(3, digest(log, 2))
    assert alive(world, log, held) == [digest(log, seq) for seq in range(3)]


def test_cut_a_backdated_branch_below_the_cut_does_not_count(group):
    """T-cut: the removed device signs segment 1 anew; the cut names the branch that its remover saw."""
    world = World(group)
    bob, log = setting(world)
    world.remove(world.anna, bob, cuts=[cut(log, 3)])
    held = chain(group, log, 3) + chain(group, log, 6, "hostile", 1)
    assert end_of(world, log, held).count == 1  # a fork proof: what both branches share
    world.accept(world.anna, cut(log, 3))
    assert alive(world, log, held) == [digest(log, seq) for seq in range(3)]


def test_cut_a_log_that_a_removal_does_not_list_is_cut_at_nothing(group):
    world = World(group)
    bob, log = setting(world)
    seen = world.heads()
    later = world.new_log(bob, prev=seen)
    world.remove(world.anna, bob, prev=seen, cuts=[cut(log, 2)])
    assert later in world.now().void  # the remover had not seen it
    assert end_of(world, later[:16]).count == 0


def test_cut_a_contested_entry_ends_at_nothing(group):
    world = World(group)
    xaver = world.person("xaver")
    first = world.add(world.anna, xaver, WRITER)
    seen = world.heads()
    world.remove(world.anna, first, members=[xaver.member], prev=seen)
    second = world.add(world.anna, world.person("xaver 2", xaver.member), WRITER, prev=seen)
    assert end_of(world, second[:16]).count == 0


def test_the_lowest_of_several_cuts_counts(group):
    world = World(group)
    bob, log = setting(world)
    seen = world.heads()
    world.remove(world.anna, bob, cuts=[cut(log, 4)], prev=seen)
    world.remove(world.anna, bob, cuts=[cut(log, 2)], prev=seen)
    world.close(world.anna, cut(log, 3))
    assert end_of(world, log) == group.ends.LogEnd(2, digest(log, 1))


def test_own_closing_by_a_new_log_ends_the_old_one(group):
    world = World(group)
    bob, log = setting(world)
    later = world.new_log(bob, [cut(log, 2)])
    assert end_of(world, log).count == 2
    assert end_of(world, later[:16]) == group.ends.FOREVER


def test_void_closings_and_void_accepts_do_nothing(group):
    world = World(group)
    bob, log = setting(world)
    eve = world.add(world.anna, "eve", WRITER)
    world.close(eve, cut(log, 0))
    assert end_of(world, log) == group.ends.FOREVER
    world.close(world.anna, cut(log, 1))
    world.accept(bob, cut(log, 5))
    assert end_of(world, log, chain(group, log, 5)).count == 1


def test_late_work_is_accepted_up_to_the_segment_named(group):
    """T-late."""
    world = World(group)
    bob, log = setting(world)
    world.remove(world.anna, bob, cuts=[cut(log, 2)])
    held = chain(group, log, 6)
    world.accept(world.anna, cut(log, 5))
    assert end_of(world, log, held) == group.ends.LogEnd(5, digest(log, 4))
    assert end_of(world, log, chain(group, log, 3)).count == 2  # until the segment named is here
    world.accept(world.anna, cut(log, 1))
    assert end_of(world, log, held).count == 5  # an accept never shortens


def test_equivocate_a_fork_ends_the_log_at_the_last_common_segment(group):
    """T-equivocate."""
    world = World(group)
    _, log = setting(world)
    held = chain(group, log, 5) + chain(group, log, 7, "other", 2)
    assert end_of(world, log, held) == group.ends.LogEnd(2, digest(log, 1))
    assert alive(world, log, held) == [digest(log, 0), digest(log, 1)]


def test_equivocate_one_accept_chooses_a_branch_and_two_count_up_to_what_they_share(group):
    world = World(group)
    _, log = setting(world)
    held = chain(group, log, 5) + chain(group, log, 7, "other", 2)
    world.accept(world.anna, cut(log, 6, digest(log, 5, "other")))
    assert alive(world, log, held) == [digest(log, 0), digest(log, 1)] + [digest(log, n, "other") for n in range(2, 6)]
    world.accept(world.anna, cut(log, 4))
    assert alive(world, log, held) == [digest(log, 0), digest(log, 1)]


def test_equivocate_two_accepts_on_one_branch_count_up_to_the_further_one(group):
    world = World(group)
    _, log = setting(world)
    held = chain(group, log, 5) + chain(group, log, 7, "other", 2)
    world.accept(world.anna, cut(log, 3))
    world.accept(world.anna, cut(log, 5))
    assert end_of(world, log, held) == group.ends.LogEnd(5, digest(log, 4))


def test_a_fork_at_the_first_segment_leaves_nothing(group):
    world = World(group)
    _, log = setting(world)
    held = chain(group, log, 2) + chain(group, log, 2, "other")
    assert end_of(world, log, held).count == 0
    assert alive(world, log, held) == []


def test_equivocate_accepts_of_branches_that_share_nothing_accept_nothing(group):
    world = World(group)
    _, log = setting(world)
    held = chain(group, log, 2) + chain(group, log, 3, "other")
    for last in (digest(log, 1), digest(log, 2, "other")):
        world.accept(world.anna, cut(log, 2 if last == digest(log, 1) else 3, last))
    assert alive(world, log, held) == []


def test_a_cut_that_names_a_segment_nobody_has_takes_only_its_own_place(group):
    world = World(group)
    bob, log = setting(world)
    held = chain(group, log, 5)
    world.remove(world.anna, bob, cuts=[cut(log, 3, b"\x07" * 32)])
    assert alive(world, log, held) == [digest(log, 0), digest(log, 1)]


def test_of_two_digests_for_one_cut_the_one_that_is_here_counts(group):
    world = World(group)
    bob, log = setting(world)
    held = chain(group, log, 5)
    seen = world.heads()
    world.remove(world.anna, bob, cuts=[cut(log, 3, b"\x00" * 31 + b"\x01")], prev=seen)
    world.remove(world.anna, bob, cuts=[cut(log, 3)], prev=seen)
    assert alive(world, log, held) == [digest(log, seq) for seq in range(3)]


def test_a_gap_ends_what_can_be_applied(group):
    world = World(group)
    _, log = setting(world)
    held = chain(group, log, 5)
    assert alive(world, log, held[:2] + held[3:]) == [digest(log, 0), digest(log, 1)]


def test_ends_do_not_depend_on_the_order_of_segments(group):
    world = World(group)
    _, log = setting(world)
    held = chain(group, log, 5) + chain(group, log, 7, "other", 2) + chain(group, log, 6, "third", 4)
    world.accept(world.anna, cut(log, 5))
    expected = (end_of(world, log, held), alive(world, log, held))
    for _ in range(10):
        world.rng.shuffle(held)
        assert (end_of(world, log, held), alive(world, log, held)) == expected
