"""The rules of resolution, one test a rule; attacks by name."""

import pytest
from membership_world import ADMIN, OWNER, READER, WRITER, Person, World, cut

from cryptfs.crypto.keys import SignLabel, sign
from cryptfs.errors import HostileStore, Invalid
from cryptfs.format.statement import (
    RECOVERY_AUTHOR,
    Add,
    Device,
    Genesis,
    Policy,
    RawStatement,
    Rotate,
    Statement,
    make_statement,
)

RECOVERY = RECOVERY_AUTHOR


def cast_of(world):
    """An owner, two admins, a writer and a reader, all added by the founder."""
    roles = {"olaf": OWNER, "carl": ADMIN, "dora": ADMIN, "bob": WRITER, "rita": READER}
    return {name: world.add(world.anna, name, role) for name, role in roles.items()}


def test_a_new_vault_has_its_founder_as_only_owner(group):
    world = World(group)
    now = world.now()
    assert set(now.roster) == {world.anna}
    assert now.roster[world.anna].role == OWNER
    assert now.epochs == ()
    assert now.policy_by == world.vault


def test_without_the_genesis_nothing_is_resolved(group):
    other = World(group, 2)
    with pytest.raises(HostileStore):
        group.roster.resolve(World(group, 1).vault, other.statements)


@pytest.mark.parametrize("by", ["recovery", "anna", "olaf", "carl", "bob", "rita"])
@pytest.mark.parametrize("role", [READER, WRITER, ADMIN, OWNER])
def test_who_may_add_whom(group, by, role):
    world = World(group)
    who = {**cast_of(world), "anna": world.anna, "recovery": RECOVERY}
    entry = world.add(who[by], "new", role)
    allowed = {"recovery": OWNER, "anna": OWNER, "olaf": OWNER, "carl": WRITER}.get(by, -1)
    assert (entry in world.roster()) == (role <= allowed)


RANKS = ["recovery", "anna", "olaf", "nina", "carl", "dora", "bob", "rita"]
MAY_REMOVE = {
    "recovery": {"anna", "olaf", "nina", "carl", "dora", "bob", "rita"},
    "anna": {"olaf", "nina", "carl", "dora", "bob", "rita"},
    "olaf": {"nina", "carl", "dora", "bob", "rita"},  # nina is an owner whom olaf added
    "nina": {"carl", "dora", "bob", "rita"},
    "carl": {"bob", "rita"},
    "dora": {"bob", "rita"},
}


@pytest.mark.parametrize("by", RANKS)
@pytest.mark.parametrize("target", RANKS[1:])
def test_rank_decides_who_removes_whom(group, by, target):
    world = World(group)
    who = {**cast_of(world), "anna": world.anna, "recovery": RECOVERY}
    who["nina"] = world.add(who["olaf"], "nina", OWNER)
    said = world.remove(who[by], who[target])
    allowed = target in MAY_REMOVE.get(by, set())
    assert (who[target] not in world.roster()) == allowed
    assert (said in world.now().valid) == allowed


def test_rank_one_peer_among_the_targets_makes_a_removal_void(group):
    world = World(group)
    who = cast_of(world)
    assert world.remove(who["carl"], who["bob"], who["dora"]) in world.now().void
    assert who["bob"] in world.roster()


def test_rank_peers_removing_each_other_at_once_both_stay(group):
    world = World(group)
    who = cast_of(world)
    seen = world.heads()
    world.remove(who["carl"], who["dora"], prev=seen)
    world.remove(who["dora"], who["carl"], prev=seen)
    assert {who["carl"], who["dora"]} <= world.roster()


def test_rank_an_owner_never_removes_the_owner_that_added_it(group):
    world = World(group)
    who = cast_of(world)
    nina = world.add(who["olaf"], "nina", OWNER)
    seen = world.heads()
    world.remove(nina, who["olaf"], prev=seen)
    world.remove(who["olaf"], nina, prev=seen)
    assert who["olaf"] in world.roster()
    assert nina not in world.roster()


def test_rank_of_somebody_added_by_an_admin_beyond_its_rights_is_none(group):
    world = World(group)
    who = cast_of(world)
    accomplice = world.add(who["carl"], "accomplice", ADMIN)
    puppet = world.add(accomplice, "puppet", WRITER, (accomplice,))
    rotation = world.rotate(accomplice, prev=(accomplice,))
    assert not {accomplice, puppet} & world.roster()
    assert rotation in world.now().void
    assert world.graph.node(puppet).flaw  # for ever, whatever becomes of anybody
    assert world.graph.node(rotation).flaw


EVERY_OP = ["add", "remove", "rotate", "policy", "log", "close", "accept", "renew"]
MAY_SAY = {
    "recovery": {"add", "remove", "rotate", "policy", "close", "accept"},
    "olaf": set(EVERY_OP),
    "carl": {"add", "remove", "rotate", "log", "close", "accept", "renew"},
    "bob": {"log", "renew"},
    "rita": {"renew"},
}


@pytest.mark.parametrize("op", EVERY_OP)
@pytest.mark.parametrize("by", MAY_SAY)
def test_writer_roster_every_op_by_every_role(group, by, op):
    """T-writer-roster: `victim` is a writer added by the founder."""
    world = World(group)
    who = {**cast_of(world), "recovery": RECOVERY}
    victim = world.add(world.anna, "victim", WRITER)
    author = who[by]
    if by == "recovery" and op == "renew":
        pytest.skip("the recovery key has no certificate")
    said = {
        "add": lambda: world.add(author, "new", READER),
        "remove": lambda: world.remove(author, victim),
        "rotate": lambda: world.rotate(author),
        "policy": lambda: world.policy(author),
        "log": lambda: world.new_log(author),
        "close": lambda: world.close(author, cut(victim[:16], 0)),
        "accept": lambda: world.accept(author, cut(victim[:16], 1)),
        "renew": lambda: world.renew(author, b"new certificate"),
    }[op]()
    now = world.now()
    assert (said in now.valid) == (op in MAY_SAY[by])
    assert (said in now.void) == (op not in MAY_SAY[by])


def test_own_logs_may_be_closed_by_their_writer_and_foreign_ones_not(group):
    world = World(group)
    who = cast_of(world)
    assert world.close(who["bob"], cut(who["bob"][:16], 3)) in world.now().valid
    assert world.close(who["bob"], cut(who["carl"][:16], 3)) in world.now().void
    assert world.new_log(who["bob"], [cut(who["bob"][:16], 3)]) in world.now().valid
    assert world.new_log(who["bob"], [cut(who["carl"][:16], 3)]) in world.now().void
    assert world.accept(who["bob"], cut(who["bob"][:16], 3)) in world.now().void
    assert world.close(world.anna, cut(b"\x07" * 16, 3)) in world.now().void


# ---- strong removal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", EVERY_OP)
def test_backdate_whatever_a_removed_admin_signs_unseen_by_its_remover_is_void(group, op):
    """T-backdate: the statement cites only what was there before the removal."""
    world = World(group)
    who = cast_of(world)
    before = world.heads()
    world.remove(world.anna, who["carl"])
    roster, epochs = world.roster(), world.now().epochs
    said = {
        "add": lambda: world.add(who["carl"], "new", WRITER, before),
        "remove": lambda: world.remove(who["carl"], who["bob"], prev=before),
        "rotate": lambda: world.rotate(who["carl"], before),
        "policy": lambda: world.policy(who["olaf"], prev=before),  # see below
        "log": lambda: world.new_log(who["carl"], prev=before),
        "close": lambda: world.close(who["carl"], cut(who["bob"][:16], 0), prev=before),
        "accept": lambda: world.accept(who["carl"], cut(who["bob"][:16], 9), prev=before),
        "renew": lambda: world.renew(who["carl"], b"new certificate", prev=before),
    }[op]()
    if op == "policy":
        assert said in world.now().valid  # the same past in the hand of somebody who stays
        return
    assert said in world.now().void
    assert (world.roster(), world.now().epochs) == (roster, epochs)


def test_backdate_whom_a_removed_owner_adds_unseen_has_no_authority(group):
    world = World(group)
    who = cast_of(world)
    before = world.heads()
    world.remove(world.anna, who["olaf"])
    accomplice = world.add(who["olaf"], "accomplice", ADMIN, before)
    assert world.rotate(accomplice, prev=(accomplice,)) in world.now().void
    assert world.remove(accomplice, who["bob"], prev=(accomplice,)) in world.now().void
    assert world.add(accomplice, "second", WRITER, (accomplice,)) in world.now().void


def test_what_the_remover_had_seen_stays(group):
    world = World(group)
    who = cast_of(world)
    erik = world.add(who["carl"], "erik", WRITER)
    world.remove(world.anna, who["carl"])
    assert erik in world.roster()


def test_what_is_signed_after_the_own_removal_is_void(group):
    world = World(group)
    who = cast_of(world)
    world.remove(world.anna, who["carl"])
    assert world.add(who["carl"], "late", READER) in world.now().void


def test_a_removal_by_somebody_removed_at_the_same_time_by_its_superior_is_void(group):
    world = World(group)
    who = cast_of(world)
    seen = world.heads()
    world.remove(who["carl"], who["bob"], prev=seen)
    assert who["bob"] not in world.roster()
    world.remove(world.anna, who["carl"], prev=seen)
    assert who["bob"] in world.roster()


def test_a_void_removal_turns_valid_again_when_the_removal_of_its_author_turns_void(group):
    world = World(group)
    who = cast_of(world)
    seen = world.heads()
    world.remove(who["carl"], who["bob"], prev=seen)
    world.remove(who["olaf"], who["carl"], prev=seen)
    world.remove(world.anna, who["olaf"], prev=seen)
    assert not {who["bob"], who["olaf"]} & world.roster()
    assert who["carl"] in world.roster()


def test_removed_and_added_again_by_somebody_who_saw_both_is_in(group):
    world = World(group)
    who = cast_of(world)
    bob = world.people[who["bob"]]
    world.remove(world.anna, who["bob"], members=[bob.member])
    again = world.add(world.anna, bob, ADMIN)
    assert again in world.roster()
    assert who["bob"] not in world.roster()
    assert world.rotate(again) in world.now().valid


# ---- concurrent admins ---------------------------------------------------------------------------------------------


def test_concurrent_admin_same_target_is_removed_once(group):
    """T-concurrent-admin."""
    world = World(group)
    who = cast_of(world)
    seen = world.heads()
    removals = {world.remove(who[by], who["bob"], prev=seen) for by in ("carl", "dora")}
    assert who["bob"] not in world.roster()
    assert set(world.now().removals[who["bob"]]) == removals
    assert len(world.now().epochs) == 2


def test_concurrent_admin_each_removes_what_the_other_added(group):
    world = World(group)
    who = cast_of(world)
    of_carl, of_dora = world.add(who["carl"], "x", WRITER), world.add(who["dora"], "y", WRITER)
    seen = world.heads()
    world.remove(who["carl"], of_dora, prev=seen)
    world.remove(who["dora"], of_carl, prev=seen)
    assert not {of_carl, of_dora} & world.roster()


@pytest.mark.parametrize("same", ["member", "device"])
def test_contested_removed_here_and_added_there_stays_out_without_authority(group, same):
    """T-contested: as a member if the removal names the member, as a device in any case."""
    world = World(group)
    who = cast_of(world)
    xaver = world.person("xaver")
    first = world.add(world.anna, xaver, WRITER)
    seen = world.heads()
    other = world.person("xaver 2", xaver.member) if same == "member" else xaver
    members = [xaver.member] if same == "member" else []
    world.remove(world.anna, first, members=members, prev=seen)
    second = world.add(who["olaf"], other, ADMIN, prev=seen)
    assert not {first, second} & world.roster()
    assert world.now().contested == {second}
    rotation = world.rotate(second, prev=(second,))
    assert rotation in world.now().void
    assert world.add(second, "friend", READER, prev=(second,)) not in world.roster()
    again = world.add(world.anna, other, ADMIN)
    assert again in world.roster()
    assert world.now().contested == {second}


def test_contested_another_device_of_a_member_not_named_is_untouched(group):
    world = World(group)
    xaver = world.person("xaver")
    first = world.add(world.anna, xaver, WRITER)
    seen = world.heads()
    world.remove(world.anna, first, prev=seen)
    second = world.add(world.anna, world.person("xaver 2", xaver.member), WRITER, prev=seen)
    assert second in world.roster()


def test_contested_needs_a_removal_by_a_superior(group):
    world = World(group)
    who = cast_of(world)
    xaver = world.person("xaver")
    first = world.add(world.anna, xaver, WRITER)
    seen = world.heads()
    world.remove(who["carl"], first, members=[xaver.member], prev=seen)
    second = world.add(world.anna, world.person("xaver 2", xaver.member), ADMIN, prev=seen)
    assert second in world.roster()  # an admin has no say over an admin


# ---- removals that are none ----------------------------------------------------------------------------------------


def test_sloppy_remove_that_hands_the_new_key_to_its_target_is_void(group):
    """T-sloppy-remove, and the four below."""
    world = World(group)
    who = cast_of(world)
    assert world.remove(world.anna, who["bob"], to=[world.anna, who["bob"]]) in world.now().void
    assert who["bob"] in world.roster()


def test_sloppy_remove_without_cuts_or_with_foreign_ones_is_void(group):
    world = World(group)
    who = cast_of(world)
    assert world.remove(world.anna, who["bob"], cuts=[]) in world.now().void
    assert world.remove(world.anna, who["bob"], cuts=[cut(who["carl"][:16], 0)]) in world.now().void
    both = [cut(who["bob"][:16], 0), cut(who["carl"][:16], 0)]
    assert world.remove(world.anna, who["bob"], cuts=both) in world.now().void
    assert world.remove(world.anna, who["rita"], cuts=[]) in world.now().valid  # readers have no log


def test_sloppy_remove_must_list_later_logs_it_has_seen_and_only_those(group):
    world = World(group)
    who = cast_of(world)
    before = world.heads()
    log = world.new_log(who["bob"])
    first, second = cut(who["bob"][:16], 0), cut(log[:16], 0)
    assert world.remove(world.anna, who["bob"], cuts=[first]) in world.now().void
    assert world.remove(world.anna, who["bob"], cuts=[first, second], prev=before) in world.now().void
    assert world.remove(world.anna, who["bob"], cuts=[first, second]) in world.now().valid


def test_sloppy_remove_of_nobody_or_of_the_unknown_is_void(group):
    world = World(group)
    who = cast_of(world)
    before = (world.vault,)
    assert world.remove(world.anna) in world.now().void
    assert world.remove(world.anna, who["bob"], prev=before, cuts=[]) in world.now().void
    assert world.remove(world.anna, who["bob"], members=[world.people[who["carl"]].member]) in world.now().void


def test_sloppy_remove_or_rotate_that_announces_an_old_key_is_void(group):
    world = World(group)
    who = cast_of(world)
    commit = bytes(range(32))
    assert world.rotate(world.anna, commit=commit) in world.now().valid
    assert world.rotate(world.anna, commit=commit) in world.now().void
    assert world.remove(world.anna, who["bob"], commit=commit) in world.now().void


# ---- keys and signatures -------------------------------------------------------------------------------------------


def test_pop_of_another_device_does_not_admit(group):
    """T-pop."""
    world = World(group)
    mallory, bob = world.person("mallory"), world.person("bob")
    theirs = Person("mallory", mallory.member, bob.cert, mallory.seed)
    assert world.add(world.anna, theirs, WRITER) in world.roster()  # whoever holds the seed may name any certificate
    stolen = Device(mallory.cert, bob.device.sign_pub, b"", "mallory")
    pop = sign(mallory.seed, SignLabel.POP, world.vault, bytes(64))
    entry = world.say(world.anna, Add(mallory.member, "mallory", WRITER, stolen, pop, 0, b"", None))
    assert entry in world.now().void


def test_badkeys_weak_signing_keys_are_never_admitted(group):
    """T-badkeys, the part that membership settles."""
    world = World(group)
    for weak in (bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xed" + b"\xff" * 30 + b"\x7f"):
        device = Device(b"certificate", weak, b"", "weak")
        entry = world.say(world.anna, Add(bytes(16), "weak", WRITER, device, bytes(64), 0, b"", None))
        assert entry in world.now().void


def test_ghost_statements_of_another_vault_or_with_a_foreign_signature_do_not_count(group):
    """T-ghost."""
    world, other = World(group, 1), World(group, 2)
    ghost = other.add(other.anna, "ghost", OWNER)
    raw = other.statements[-1].raw
    with pytest.raises(Invalid):
        RawStatement(world.vault, raw.id, raw.author, raw.payload, raw.signature, b"").open()
    mallory = world.person("mallory")
    genuine = world.statements[0]
    forged = make_statement(
        vault=world.vault, prev=(genuine.id,), author=world.anna, time_ms=0, nonce=bytes(16),
        op=Rotate(world.epoch([world.anna])), sign_seed=mallory.seed,
    )  # fmt: skip
    world.graph.add(forged)
    assert forged.id in world.graph.forged
    assert ghost not in world.graph
    assert world.roster() == {world.anna}


def test_twins_a_forged_copy_does_not_keep_the_real_statement_out(group):
    """T-twins: the copy comes first, and waits together with the real one."""
    world = World(group)
    parent = world.add(world.anna, "bob", WRITER)
    child = world.rotate(world.anna)
    first, second = world.statements[-2:]
    raw = second.raw
    forged = Statement(RawStatement(raw.vault, raw.id, raw.author, raw.payload, bytes(64), b""), second.payload)
    for order in ([forged, second, first], [second, forged, first], [forged, first, second], [first, forged, second]):
        graph = group.graph.StatementGraph(world.vault)
        graph.add(world.statements[0])
        for one in order:
            graph.add(one)
        assert parent in graph
        assert child in graph
        assert not graph.waiting


def test_the_recovery_key_of_a_vault_without_one_signs_nothing(group):
    world = World(group, recovery=False)
    said = world.rotate(RECOVERY)
    assert said in world.graph.forged
    assert said not in world.graph


def test_a_second_genesis_is_refused_by_its_form(group):
    world = World(group)
    anna = world.people[world.anna]
    op = Genesis("again", anna.member, "Anna", anna.device, Policy(0, (), "", 0, 7, 0, 1, ()), None)
    with pytest.raises(Invalid):
        world.say(world.anna, op)


def test_x509_void_certificates_never_decide_validity(group):
    """T-x509-void: nobody in these tests has a certificate that parses."""
    world = World(group)
    assert world.add(world.anna, "bob", WRITER) in world.roster()


def test_an_author_who_is_no_device_is_refused(group):
    world = World(group)
    rotation = world.rotate(world.anna)
    world.people[rotation] = world.person("nobody")
    assert world.rotate(rotation) in world.graph.forged


def test_an_entry_has_no_authority_over_what_it_does_not_descend_from(group):
    world = World(group)
    before = world.heads()
    carl = world.add(world.anna, "carl", ADMIN)
    assert world.rotate(carl, prev=before) in world.now().void


# ---- waiting, epochs, policies, certificates -------------------------------------------------------------------------


def test_a_statement_waits_for_everything_it_names(group):
    world = World(group)
    world.add(world.anna, "bob", WRITER)
    world.rotate(world.anna)
    genesis, add, rotate = world.statements
    graph = group.graph.StatementGraph(world.vault)
    for one in (rotate, genesis):
        graph.add(one)
    assert graph.waiting == {rotate.id}
    assert graph.absent == {add.id}
    graph.add(add)
    assert not graph.waiting
    assert not graph.absent


def test_epochs_all_maximal_ones_are_the_key_set_and_void_ones_are_not(group):
    world = World(group)
    who = cast_of(world)
    world.rotate(world.anna)
    seen = world.heads()
    first, second = world.rotate(world.anna, prev=seen), world.rotate(who["carl"], prev=seen)
    void = world.rotate(who["bob"], prev=seen)
    assert {one.statement for one in world.now().epochs} == {first, second}
    assert void in world.now().void
    last = world.rotate(who["dora"])
    assert [one.statement for one in world.now().epochs] == [last]


def test_policy_of_the_author_nearest_to_the_recovery_key_wins(group):
    world = World(group)
    who = cast_of(world)
    seen = world.heads()
    of_olaf, of_anna = world.policy(who["olaf"], 3, seen), world.policy(world.anna, 4, seen)
    now = world.now()
    assert (now.policy_by, now.policy.roster_age_days) == (of_anna, 4)
    assert set(now.policies) == {of_olaf, of_anna}
    last = world.policy(who["olaf"], 5)
    assert world.now().policies == (last,)
    assert world.now().policy.roster_age_days == 5


def test_renew_replaces_the_certificate_and_concurrent_ones_all_count(group):
    """T-renew, the part that membership settles."""
    world = World(group)
    who = cast_of(world)
    world.renew(who["bob"], b"second")
    assert world.now().roster[who["bob"]].certs == (b"second",)
    seen = world.heads()
    world.renew(who["bob"], b"fourth", prev=seen)
    world.renew(who["bob"], b"third", prev=seen)
    assert world.now().roster[who["bob"]].certs == (b"fourth", b"third")
    stranger = world.person("stranger")
    assert world.renew(who["bob"], b"fifth", seed=stranger.seed) in world.now().void


def test_a_long_chain_of_owners_is_resolved_without_recursion(group):
    world = World(group)
    last = world.anna
    for number in range(400):
        last = world.add(last, str(number), OWNER, prev=(last,))
    assert len(world.roster()) == 401
    second = world.statements[1].id
    world.remove(world.anna, second)
    assert len(world.roster()) == 400


def test_frontier_flood_void_statements_are_not_cited_unless_a_segment_carries_them(group):
    """T-frontier-flood."""
    world = World(group)
    who = cast_of(world)
    before = world.heads()
    world.remove(world.anna, who["carl"])
    honest = world.heads()
    flood = [world.rotate(who["carl"], prev=before) for _ in range(300)]
    assert world.heads() == honest
    carried = world.graph.view([flood[0]])
    assert set(world.graph.frontier(world.now().valid, carried)) == {*honest, flood[0]}


def test_frontier_flood_by_a_member_is_cut_to_the_highest_ranks(group):
    world = World(group)
    who = cast_of(world)
    seen = world.heads()
    for _ in range(300):
        world.renew(who["rita"], b"another", prev=seen)
    of_anna = world.rotate(world.anna, prev=seen)
    frontier = world.heads()
    assert len(frontier) == 256
    assert of_anna in frontier


def test_order_of_arrival_does_not_matter(group):
    """T-reorder for statements; random histories do the same at large."""
    world = World(group)
    who = cast_of(world)
    seen = world.heads()
    world.remove(who["carl"], who["bob"], prev=seen)
    world.remove(world.anna, who["carl"], prev=seen)
    world.rotate(who["dora"])
    resolve = world.group.roster.resolve
    for _ in range(5):
        world.rng.shuffle(world.statements)
        assert resolve(world.vault, world.statements) == world.now()
