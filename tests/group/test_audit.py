"""What the audit remarks, and about whom."""

import pytest
from membership_world import ADMIN, OWNER, WRITER, World
from real_people import Folder

from cryptfs.crypto.certificate import public_key_of
from cryptfs.crypto.keys import eid, random_bytes
from cryptfs.format.statement import RECOVERY_AUTHOR, Add, prove_possession
from cryptfs.group.audit import Oddity, audit
from cryptfs.group.decisions import Desk


def remarks(world, handovers=None, me=None):
    """(what, author, who) of every remark; by default every recipient named got its wrap."""
    if handovers is None:
        handovers = [
            world.group.gate.Handover(
                start.author, start.eid, frozenset((one, bytes(32)) for one in [*start.epoch.to, RECOVERY_AUTHOR])
            )
            for start in every_start(world)
        ]
    return {(one.oddity, one.author, one.entries) for one in audit(world.resolver, handovers, me)}


def every_start(world):
    for statement in world.statements:
        epoch = world.group.authority.epoch_of(statement)
        if epoch is not None:
            yield world.group.roster.EpochStart(statement.id, statement.payload.author, eid(epoch.commit), epoch)


@pytest.fixture
def world(group):
    return World(group)


def test_audit_honest_rotations_and_removals_draw_no_remark(world):
    """T-audit, and all below."""
    carl, bob = world.add(world.anna, "carl", ADMIN), world.add(world.anna, "bob", WRITER)
    eve = world.add(world.anna, world.person("eve", world.people[bob].member), WRITER)
    world.rotate(carl)
    world.remove(carl, bob, eve, members=[world.people[bob].member])
    assert remarks(world) == set()


def test_audit_names_who_was_left_out_and_who_was_let_in(world):
    carl, bob = world.add(world.anna, "carl", ADMIN), world.add(world.anna, "bob", WRITER)
    eve = world.add(world.anna, "eve", WRITER)
    world.remove(world.anna, eve)
    world.rotate(carl, to=[carl, world.anna, eve])
    assert remarks(world) == {(Oddity.LEFT_OUT, carl, (bob,)), (Oddity.LET_IN, carl, (eve,))}


def test_audit_judges_by_what_the_author_had_seen(world):
    carl = world.add(world.anna, "carl", ADMIN)
    seen = world.heads()
    world.add(world.anna, "bob", WRITER)
    world.rotate(carl, prev=seen)
    assert remarks(world) == set()


def test_audit_misses_the_wraps_for_this_device_and_for_the_recovery_key(world):
    carl = world.add(world.anna, "carl", ADMIN)
    world.rotate(carl)
    expected = {(Oddity.NOT_FOR_ME, carl, (world.anna,)), (Oddity.NOT_FOR_RECOVERY, carl, (RECOVERY_AUTHOR,))}
    assert remarks(world, (), world.anna) == expected
    assert {what for what, _, _ in remarks(world, ())} == {Oddity.NOT_FOR_RECOVERY}


def test_audit_of_a_vault_without_recovery_key_does_not_ask_for_its_wrap(group):
    world = World(group, recovery=False)
    world.rotate(world.anna)
    assert remarks(world, ()) == set()


def test_audit_ignores_void_rotations(world):
    bob = world.add(world.anna, "bob", WRITER)
    world.rotate(bob, to=[bob])
    assert remarks(world) == set()


def test_audit_token_that_let_in_two_devices(world):
    for name in ("first", "second"):
        who = world.person(name)
        pop = prove_possession(world.vault, who.cert, who.device.sign_pub, who.seed)
        world.say(world.anna, Add(who.member, name, WRITER, who.device, pop, 1, b"i" * 16, None))
    assert {what for what, _, _ in remarks(world)} == {Oddity.TOKEN_TWICE}


def test_enrol_shows_whose_signing_key_an_administrator_made_until_it_is_replaced():
    """T-enrol."""
    folder = Folder()
    dora = folder.someone("Dora")
    entry = folder.desk(folder.anna).admit_by_certificate(
        member=random_bytes(16), display="Dora", label="pc", role=OWNER, cert=dora.cert
    )
    folder.upload(entry)
    seen = folder.seen_by(folder.anna)
    found = audit(seen.resolver, seen.handovers, seen.entry.id)
    assert [(one.oddity, one.author, one.entries) for one in found] == [
        (Oddity.KEY_MADE_FOR, folder.anna.entry, (entry.statement.id,))
    ]
    folder.upload(Desk(seen, public_key_of, 0).remove([entry.statement.id]))
    seen = folder.seen_by(folder.anna)
    assert audit(seen.resolver, seen.handovers, seen.entry.id) == []
