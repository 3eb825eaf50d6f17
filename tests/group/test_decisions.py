"""What an administrator's device does, and what it refuses to publish."""

from datetime import timedelta

import pytest
from real_people import ADMIN, ANCHOR, NOW, NOW_MS, OWNER, READER, WRITER, Folder

from cryptfs.crypto.certificate import Refused, public_key_of
from cryptfs.crypto.keys import random_bytes, sign_public
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.errors import NotAllowed
from cryptfs.format.segment_body import LogHead
from cryptfs.format.statement import Cut, Device, NewLog, Policy, Renew, SetPolicy, prove_possession
from cryptfs.group.authority import Tier
from cryptfs.group.decisions import Desk, Newcomer
from cryptfs.group.handing import judge_under


@pytest.fixture
def folder():
    return Folder()


def test_last_owner_cannot_be_removed_by_the_recovery_key(folder):
    """T-last-owner."""
    with pytest.raises(NotAllowed, match="no owner would remain"):
        folder.desk(folder.recovery).remove([folder.anna.entry])
    folder.admit("Olaf", OWNER)
    folder.upload(folder.desk(folder.recovery).remove([folder.anna.entry]))
    assert len(folder.seen_by(folder.recovery).resolved.owners()) == 1


def test_what_would_have_no_effect_is_not_published(folder):
    carl, dora = folder.admit("Carl", ADMIN), folder.admit("Dora", ADMIN)
    bob = folder.admit("Bob", WRITER)
    with pytest.raises(NotAllowed, match="does not stand above"):
        folder.desk(carl).remove([dora.entry])
    with pytest.raises(NotAllowed, match="may not give that role"):
        folder.desk(carl).admit(folder.someone("Eve").as_newcomer(ADMIN))
    with pytest.raises(NotAllowed, match="role does not allow"):
        folder.desk(bob).rotate()
    with pytest.raises(NotAllowed, match="role does not allow"):
        folder.desk(carl).say(SetPolicy(Policy(0, (), "", 0, 7, 0, 1, ())))
    assert folder.desk(bob).say(NewLog(())).statement is not None


def test_who_is_not_in_has_no_desk(folder):
    with pytest.raises(NotAllowed, match="not in the roster"):
        folder.desk(folder.someone("Eve"))


def test_keys_of_another_member_are_not_admitted_twice(folder):
    bob = folder.admit("Bob", WRITER)
    eve = folder.someone("Eve")
    eve.seed = bob.seed
    with pytest.raises(NotAllowed, match="belong to Bob"):
        folder.desk(folder.anna).admit(eve.as_newcomer(WRITER))
    eve = folder.someone("Eve")
    eve.cert, eve.key = bob.cert, bob.key
    with pytest.raises(NotAllowed, match="belong to Bob"):
        folder.desk(folder.anna).admit(eve.as_newcomer(WRITER))
    eve.member = bob.member
    assert folder.desk(folder.anna).admit(eve.as_newcomer(WRITER)).statement is not None


def test_badkeys_a_certificate_that_may_not_receive_keys_is_refused_at_admission(folder):
    """T-badkeys, T-expiry."""
    policy = folder.seen_by(folder.anna).resolved.policy
    eve = folder.someone("Eve")
    later = judge_under(policy, NOW + timedelta(days=20_000))
    with pytest.raises(Refused):
        Desk(folder.seen_by(folder.anna), later, NOW_MS).admit(eve.as_newcomer(WRITER))
    garbage = Newcomer(
        bytes(16), "Eve", WRITER, Device(b"no certificate", sign_public(eve.seed), b"", ""), bytes(64), 0
    )
    with pytest.raises(Refused):
        folder.desk(folder.anna).admit(garbage)
    judge_under(policy, NOW)(eve.cert)


def test_rogue_ca_without_an_authority_in_the_policy_nobody_gets_a_key(folder):
    """T-rogue-ca, the part that membership settles: in org-ca mode a self-made certificate does not do."""
    org = Policy(1, (folder.anna.cert,), "", 1, 7, 0, 1, ())
    with pytest.raises(Refused):
        judge_under(org, NOW)(folder.someone("Eve").cert)


def test_a_device_without_the_current_key_admits_nobody(folder):
    folder.objects = [one for one in folder.objects if not one[0].startswith("w/")]
    with pytest.raises(NotAllowed, match="holds no current key"):
        folder.desk(folder.anna).admit(folder.someone("Bob").as_newcomer(WRITER))


def test_expiry_no_new_wraps_and_everybody_else_gets_the_key(folder):
    """T-expiry: the entry stays in the roster and among the recipients named; it is reported."""
    bob, carl = folder.admit("Bob", WRITER), folder.admit("Carl", WRITER)

    def judge(cert):
        if cert == bob.cert:
            return judge_under(folder.seen_by(folder.anna).resolved.policy, NOW + timedelta(days=20_000))(cert)
        return public_key_of(cert)

    decision = Desk(folder.seen_by(folder.anna), judge, NOW_MS).rotate()
    assert decision.unreached == ((bob.entry, "the certificate has expired"),)
    folder.upload(decision)
    assert folder.seen_by(carl).keyring.may_seal
    assert not folder.seen_by(bob).keyring.may_seal
    assert bob.entry in folder.seen_by(bob).resolved.roster
    assert Desk(folder.seen_by(folder.anna), judge, NOW_MS).reconcile() is None
    folder.upload(folder.desk(folder.anna).reconcile())  # its certificate is good again
    assert folder.seen_by(bob).keyring.may_seal


def test_renew_gets_keys_to_the_new_certificate_at_the_next_reconcile(folder):
    """T-renew."""
    bob = folder.admit("Bob", WRITER)
    key, cert = make_certificate("Bob again", NOW)
    public = sign_public(bob.seed)
    folder.upload(folder.desk(bob).say(Renew(cert, prove_possession(folder.vault, cert, public, bob.seed))))
    assert folder.desk(bob).membership.keyring.may_seal  # the old certificate still opens what it was given
    bob.key, bob.cert = key, cert
    assert not folder.seen_by(bob).keyring.may_seal
    folder.upload(folder.desk(folder.anna).reconcile())
    assert folder.seen_by(bob).keyring.may_seal
    assert folder.desk(folder.anna).reconcile() is None


def test_reconcile_merges_concurrent_epochs_and_opens_the_gate(folder):
    carl, dora = folder.admit("Carl", ADMIN), folder.admit("Dora", ADMIN)
    bob, eve = folder.admit("Bob", WRITER), folder.admit("Eve", WRITER)
    both = [folder.desk(carl).remove([bob.entry]), folder.desk(dora).remove([eve.entry])]
    folder.upload(*both)
    seen = folder.seen_by(folder.anna)
    assert not seen.keyring.may_seal
    with pytest.raises(NotAllowed, match=r"finish removing Bob \(laptop\) and Eve \(laptop\)"):
        _ = seen.keyring.write_keyset
    folder.upload(folder.desk(dora).reconcile())
    for who in (folder.anna, carl, dora):
        seen = folder.seen_by(who)
        assert seen.keyring.may_seal
        assert len(seen.keyring.write_keyset) == 16
    for who in (bob, eve):
        seen = folder.seen_by(who)
        assert not set(seen.resolved.eids) & seen.keyring.eids


def test_collude_removed_with_real_keys_pooled_secrets_do_not_open_the_next_epoch(folder):
    """T-collude-removed, T-concurrent-admin with real keys."""
    carl, dora = folder.admit("Carl", ADMIN), folder.admit("Dora", ADMIN)
    bob, eve = folder.admit("Bob", WRITER), folder.admit("Eve", WRITER)
    folder.upload(folder.desk(carl).remove([bob.entry]), folder.desk(dora).remove([eve.entry]))
    pooled = folder.seen_by(bob).keyring.secrets() | folder.seen_by(eve).keyring.secrets()
    merged = folder.seen_by(folder.anna)
    assert set(merged.resolved.eids) <= set(pooled)  # resolution alone would let them in
    assert not merged.keyring.may_seal
    folder.upload(folder.desk(folder.anna).rotate())
    assert not set(folder.seen_by(folder.anna).resolved.eids) & set(pooled)


def test_reconcile_gives_a_member_added_during_a_rotation_its_key(folder):
    bob = folder.someone("Bob")
    admit = folder.desk(folder.anna).admit(bob.as_newcomer(WRITER))
    rotate = folder.desk(folder.anna).rotate()
    folder.upload(admit, rotate)
    bob.entry = admit.statement.id
    assert not folder.seen_by(bob).keyring.may_seal
    assert folder.seen_by(bob).keyring.eids  # it reads at once
    folder.upload(folder.desk(folder.anna).reconcile())
    assert folder.seen_by(bob).keyring.may_seal


def test_reconcile_gives_the_recovery_key_what_it_lacks(folder):
    folder.objects = [one for one in folder.objects if not one[0].startswith("w/")]
    with pytest.raises(NotAllowed):
        folder.seen_by(folder.anna).keyring.secret(next(iter(folder.founding.secrets)))
    folder = Folder(recovery=False)
    assert folder.desk(folder.anna).reconcile() is None


def test_a_role_change_is_a_removal_and_an_admission_of_the_same_keys(folder):
    bob = folder.admit("Bob", WRITER)
    old = bob.entry
    log = Cut(old[:16], 3, random_bytes(32))
    folder.upload(*folder.desk(folder.anna).change_role(old, ADMIN, {old[:16]: log}))
    seen = folder.seen_by(bob)
    assert seen.role is Tier.ADMIN
    assert seen.entry.id != old
    assert seen.own == {old, seen.entry.id}
    assert seen.keyring.may_seal
    assert seen.removed_by == ()
    removal = seen.graph.node(seen.resolved.removals[old][0]).statement.payload.op
    assert removal.cuts == (log,)
    with pytest.raises(NotAllowed):
        folder.desk(folder.anna).change_role(folder.anna.entry, READER)


def test_a_role_change_keeps_a_renewed_certificate(folder):
    bob = folder.admit("Bob", WRITER)
    bob.key, bob.cert = make_certificate("Bob again", NOW)
    pop = prove_possession(folder.vault, bob.cert, sign_public(bob.seed), bob.seed)
    folder.upload(folder.desk(bob).say(Renew(bob.cert, pop)))
    folder.upload(*folder.desk(folder.anna).change_role(bob.entry, READER))
    seen = folder.seen_by(bob)
    assert seen.role is Tier.READER
    assert seen.entry.certs == (bob.cert,)
    assert seen.keyring.may_seal


def test_a_removal_of_a_whole_member_takes_all_its_devices(folder):
    bob = folder.admit("Bob", WRITER)
    tablet = folder.someone("Bob's tablet")
    tablet.member = bob.member
    admit = folder.desk(folder.anna).admit(tablet.as_newcomer(WRITER))
    folder.upload(admit)
    folder.upload(folder.desk(folder.anna).remove([], [bob.member]))
    seen = folder.seen_by(folder.anna)
    assert set(seen.resolved.roster) == {folder.anna.entry}
    assert set(seen.resolved.removals) == {bob.entry, admit.statement.id}


def test_as_of_travels_in_the_admission(folder):
    bob = folder.someone("Bob")
    anchor = LogHead(folder.anna.entry[:16], 7, random_bytes(32))
    decision = folder.desk(folder.anna).admit(bob.as_newcomer(WRITER), anchor)
    assert decision.statement.payload.op.as_of == anchor
    assert anchor != ANCHOR


def test_wraps_come_before_the_statement_that_needs_them(folder):
    bob = folder.someone("Bob")
    for decision in (folder.desk(folder.anna).rotate(), folder.desk(folder.anna).admit(bob.as_newcomer(READER))):
        assert [name[0] for name, _ in decision.objects] == ["w", "m"]
