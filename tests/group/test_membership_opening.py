"""Opening a membership from the bytes of a hostile folder, with real keys."""

import hashlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_people import ADMIN, NOW_MS, OWNER, READER, WRITER, Folder, Someone

from cryptfs.crypto.certificate import Refused, fingerprint, public_key_of
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import (
    EpochSecret,
    SignLabel,
    eid,
    epoch_commit,
    new_epoch_secret,
    random_bytes,
    sign,
    wrap_info,
)
from cryptfs.crypto.wrap import wrap
from cryptfs.errors import HostileStore, NeedsUpdate, NotAllowed
from cryptfs.format.codec import encode
from cryptfs.format.header import ObjectClass, pack_header
from cryptfs.format.names import statement_name, wraps_name
from cryptfs.format.statement import Epoch, RawStatement, Rotate, make_statement
from cryptfs.format.wraps import Rec, make_wraps
from cryptfs.group.authority import Tier
from cryptfs.group.epochs import box_history
from cryptfs.group.handing import Recipient, Signer, hand_over
from cryptfs.group.membership import open_membership


@pytest.fixture
def folder():
    folder = Folder()
    folder.bob = folder.admit("Bob", WRITER)
    folder.carl = folder.admit("Carl", ADMIN)
    return folder


def everything(membership):
    return (
        membership.resolved,
        membership.gate,
        membership.keyring.secrets(),
        membership.keyring.may_seal,
        membership.entry,
    )


def reasons(membership):
    return {one.reason: one.count for one in membership.ignored}


def test_founding_gives_the_founder_and_the_recovery_key_the_first_epoch():
    folder = Folder()
    anna, paper = folder.seen_by(folder.anna), folder.seen_by(folder.recovery)
    assert anna.role is Tier.OWNER
    assert paper.role is Tier.RECOVERY
    assert anna.keyring.secrets() == paper.keyring.secrets() == dict(folder.founding.secrets)
    assert anna.keyring.write_keyset == b"".join(folder.founding.secrets)
    assert anna.ignored == ()
    assert anna.refused == ()


def test_founding_uploads_the_key_before_the_statement_that_announces_it():
    names = [name.split("/")[0] for name, _ in Folder().founding.objects]
    assert names == ["genesis", "w", "m"]


def test_founding_that_was_interrupted_leaves_a_vault_that_says_so():
    folder = Folder()
    half = open_membership(folder.objects[:2], folder.vault, folder.anna.keys)
    assert half.role is Tier.OWNER
    with pytest.raises(NotAllowed, match="interrupted"):
        _ = half.keyring.write_keyset


def test_a_member_opens_what_it_was_given_and_finds_its_place_by_its_keys(folder):
    unknown = DeviceKeys(folder.vault, bytes(32), folder.bob.key, folder.bob.cert, folder.bob.seed, folder.bob.local)
    seen = open_membership(folder.objects, folder.vault, unknown)
    assert seen.entry is not None
    assert seen.entry.id == folder.bob.entry
    assert seen.keyring.secrets() == folder.seen_by(folder.anna).keyring.secrets()


def test_order_of_objects_does_not_matter(folder):
    folder.remove(folder.bob)
    expected = everything(folder.seen_by(folder.carl))
    for _ in range(5):
        Random(1).shuffle(folder.objects)
        assert everything(folder.seen_by(folder.carl)) == expected


def test_poison_junk_names_and_junk_objects_are_counted_and_named(folder):
    """T-poison: nothing in them changes anything."""
    expected = everything(folder.seen_by(folder.anna))
    genuine = folder.objects[-1][1]
    junk = [
        ("m/empty", b""),
        ("m/text", b"hello"),
        ("w/short", b"CFSWRAP1"),
        ("m/cut", genuine[:-1]),
        ("m/longer", genuine + b"\0"),
        ("m/huge", genuine + bytes(1 << 20)),
        ("w/huge", b"CFSWRAP1" + bytes(3 << 20)),
        ("m/segment", b"CFSSEGM1" + bytes(200)),
        ("m/future", b"CFSSTMT2" + genuine[8:]),
        ("m/suite", genuine[:8] + b"\x02" + genuine[9:]),
        ("m/reserved", genuine[:10] + b"\x01" + genuine[11:]),
    ]
    names = {name for name, _ in junk}
    folder.objects = [*junk, *folder.objects]
    seen = folder.seen_by(folder.anna)
    assert everything(seen) == expected
    assert {name for one in seen.ignored for name in one.names} == names
    assert sum(one.count for one in seen.ignored) == len(junk)
    assert not seen.needs_update


def test_twins_and_replayed_objects_are_counted_and_change_nothing(folder):
    """T-twins."""
    expected = everything(folder.seen_by(folder.bob))
    folder.objects += [(name + " (1)", data) for name, data in folder.objects]
    seen = folder.seen_by(folder.bob)
    assert everything(seen) == expected
    assert reasons(seen) == {"a second copy": len(folder.objects) // 2}


def test_two_objects_of_one_name_are_both_looked_at(folder):
    expected = everything(folder.seen_by(folder.bob))
    folder.objects = [("one name", data) for _, data in folder.objects]
    assert everything(folder.seen_by(folder.bob)) == expected


def test_ghost_objects_of_another_vault_are_ignored(folder):
    """T-ghost."""
    other = Folder()
    other.admit("Ghost", OWNER)
    expected = everything(folder.seen_by(folder.anna))
    folder.objects += other.objects
    seen = folder.seen_by(folder.anna)
    assert everything(seen) == expected
    assert reasons(seen) == {"belongs to another vault": len(other.objects)}


def test_wrong_vault_a_folder_without_our_genesis_is_refused(folder):
    """T-wrong-vault."""
    with pytest.raises(HostileStore):
        open_membership(Folder().objects, folder.vault, folder.anna.keys)
    with pytest.raises(HostileStore):
        open_membership([], folder.vault, folder.anna.keys)


magics = st.sampled_from([one.value for one in ObjectClass] + [b"", b"CFSSTMT2"])
junk = st.lists(st.builds(lambda magic, rest: ("x", magic + rest), magics, st.binary(max_size=200)), max_size=5)


@pytest.fixture(scope="module")
def quiet_folder():
    return Folder()


@given(junk, st.data())
def test_fuzz_random_and_spliced_objects_change_nothing(quiet_folder, objects, data):
    """T-fuzz, T-splice: parts of real objects put together anew, and noise behind every magic."""
    genuine = [one for _, one in quiet_folder.objects]
    for _ in range(3):
        left, right = data.draw(st.sampled_from(genuine)), data.draw(st.sampled_from(genuine))
        cut = data.draw(st.integers(0, len(left)))
        spliced = left[:cut] + right[data.draw(st.integers(0, len(right))) :]
        if spliced not in genuine:
            objects.append(("spliced", spliced))
    seen = open_membership([*objects, *quiet_folder.objects], quiet_folder.vault, quiet_folder.anna.keys)
    assert everything(seen) == everything(quiet_folder.seen_by(quiet_folder.anna))


def test_names_say_who_and_are_never_needed(folder):
    seen = folder.seen_by(folder.anna)
    assert seen.name_of(folder.bob.entry) == "Bob (laptop)"
    assert seen.name_of(bytes(32)) == "the recovery key"
    assert seen.name_of(b"\x07" * 32) == "somebody unknown"


def test_flip_of_any_byte_never_changes_what_the_rest_means(folder):
    """T-flip: one bit of each of many places of every object."""
    rng = Random(7)
    folder.remove(folder.bob)
    plain = folder.seen_by(folder.anna)
    for index, (name, data) in enumerate(folder.objects):
        for place in sorted({*range(0, 120, 13), *(rng.randrange(len(data)) for _ in range(8))}):
            if place >= len(data):
                continue
            changed = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
            objects = [*folder.objects[:index], (name, changed), *folder.objects[index + 1 :]]
            if index == 0:
                with pytest.raises((HostileStore, NeedsUpdate)):
                    open_membership(objects, folder.vault, folder.anna.keys)
                continue
            seen = open_membership(objects, folder.vault, folder.anna.keys)
            assert seen.resolved.valid <= plain.resolved.valid
            assert seen.keyring.secrets().items() <= plain.keyring.secrets().items()
            assert seen.ignored


def test_keypair_mismatch_is_refused_at_once(folder):
    """T-keypair-mismatch."""
    other = Someone("other", folder.vault)
    keys = DeviceKeys(folder.vault, folder.bob.entry, other.key, folder.bob.cert, folder.bob.seed, folder.bob.local)
    with pytest.raises(Refused):
        open_membership(folder.objects, folder.vault, keys)


# ---- keys that travel ------------------------------------------------------------------------------------------------


def rotation(folder, who, es, to, commit=None):
    """A rotation by `who` whose commit may be a lie."""
    seen = folder.seen_by(who)
    statement = make_statement(
        vault=folder.vault,
        prev=seen.frontier(),
        author=who.entry,
        time_ms=NOW_MS,
        nonce=random_bytes(16),
        op=Rotate(Epoch(commit or epoch_commit(folder.vault, es), tuple(sorted(to)), b"")),
        sign_seed=who.seed,
    )
    folder.objects.append((statement_name(statement.id), statement.data))
    return eid(statement.payload.op.epoch.commit)


def wraps(folder, who, epoch, secret, *recipients):
    """Wraps by `who` of any secret under any epoch id."""
    recs = tuple(
        Rec(
            one.entry,
            fingerprint(one.cert),
            *wrap(public_key_of(one.cert), secret, wrap_info(folder.vault, epoch, fingerprint(one.cert))),
        )
        for one in recipients
    )
    data = make_wraps(vault=folder.vault, author=who.entry, eid=epoch, recs=recs, sign_seed=who.seed)
    folder.objects.append((wraps_name(epoch, hashlib.sha256(data).digest()), data))


def test_epoch_equiv_an_admin_who_hands_out_different_secrets_is_refused_and_named(folder):
    """T-epoch-equiv: Carl gives Anna the announced secret and Bob another one."""
    es, other = new_epoch_secret(), new_epoch_secret()
    everybody = [folder.anna.entry, folder.bob.entry, folder.carl.entry]
    epoch = rotation(folder, folder.carl, es, everybody)
    wraps(folder, folder.carl, epoch, es, folder.anna)
    wraps(folder, folder.carl, epoch, other, folder.bob)
    assert epoch in folder.seen_by(folder.anna).keyring.eids
    bob = folder.seen_by(folder.bob)
    assert epoch not in bob.keyring.eids
    assert bob.refused == ((folder.carl.entry, "an epoch secret does not match its commit"),)
    with pytest.raises(NotAllowed, match="Waiting for a key"):
        _ = bob.keyring.write_keyset


def test_keyinsert_a_perfect_wrap_of_a_secret_nobody_announced_is_not_used(folder):
    """T-keyinsert: signed by a member, opening well, for the present epoch and for an invented one."""
    mine = new_epoch_secret()
    before = folder.seen_by(folder.bob).keyring.secrets()
    for epoch in (next(iter(before)), eid(epoch_commit(folder.vault, mine))):
        wraps(folder, folder.carl, epoch, mine, folder.bob)
    assert folder.seen_by(folder.bob).keyring.secrets() == before


def test_keyswap_wraps_do_not_open_for_another_epoch_recipient_or_vault(folder):
    """T-keyswap for wraps: every record under every other place."""
    es = new_epoch_secret()
    everybody = [folder.anna.entry, folder.bob.entry, folder.carl.entry]
    epoch = rotation(folder, folder.carl, es, everybody)
    old = next(iter(folder.seen_by(folder.bob).keyring.eids))
    fp = fingerprint(folder.bob.cert)
    good = wrap(public_key_of(folder.bob.cert), es, wrap_info(folder.vault, epoch, fp))
    for vault, under, cert_fp in (
        (random_bytes(32), epoch, fp),
        (folder.vault, old, fp),
        (folder.vault, epoch, fingerprint(folder.carl.cert)),
    ):
        blob = wrap(public_key_of(folder.bob.cert), es, wrap_info(vault, under, cert_fp))
        data = make_wraps(
            vault=folder.vault,
            author=folder.carl.entry,
            eid=epoch,
            recs=(Rec(folder.bob.entry, fp, *blob),),
            sign_seed=folder.carl.seed,
        )
        folder.objects.append(("w/x", data))
        bob = folder.seen_by(folder.bob)
        assert epoch not in bob.keyring.eids
        assert (folder.carl.entry, "a wrapped key does not open") in bob.refused
    data = make_wraps(
        vault=folder.vault,
        author=folder.carl.entry,
        eid=epoch,
        recs=(Rec(folder.bob.entry, fp, *good),),
        sign_seed=folder.carl.seed,
    )
    folder.objects.append(("w/good", data))
    assert epoch in folder.seen_by(folder.bob).keyring.eids


def test_wraps_signed_by_nobody_we_know_are_left_out(folder):
    stranger = Someone("stranger", folder.vault)
    stranger.entry = random_bytes(32)
    wraps(folder, stranger, next(iter(folder.founding.secrets)), new_epoch_secret(), folder.bob)
    forger = Someone("forger", folder.vault)
    forger.entry = folder.carl.entry
    wraps(folder, forger, next(iter(folder.founding.secrets)), new_epoch_secret(), folder.bob)
    seen = folder.seen_by(folder.bob)
    assert reasons(seen) == {"a signature does not verify": 1, "its author is not known here": 1}


def test_exmember_opens_nothing_that_was_announced_after_its_removal(folder):
    """T-exmember: with all keys it ever had and all objects."""
    before = folder.seen_by(folder.bob).keyring.eids
    folder.remove(folder.bob)
    folder.upload(folder.desk(folder.carl).rotate())
    bob, anna = folder.seen_by(folder.bob), folder.seen_by(folder.anna)
    assert bob.role is None
    assert bob.removed_by == (folder.anna.entry,)
    assert bob.keyring.eids == before
    assert not set(anna.resolved.eids) & before
    assert not bob.keyring.may_seal
    with pytest.raises(NotAllowed):
        folder.desk(folder.bob)


def test_device_remove_leaves_the_members_other_devices_in(folder):
    """T-device-remove."""
    tablet = folder.someone("Bob's tablet")
    tablet.member = folder.bob.member
    decision = folder.desk(folder.anna).admit(tablet.as_newcomer(WRITER))
    folder.upload(decision)
    folder.remove(folder.bob)
    assert folder.seen_by(tablet).keyring.may_seal
    assert folder.seen_by(folder.bob).entry is None


def test_a_new_member_reads_all_history_through_one_wrap(folder):
    for _ in range(3):
        folder.upload(folder.desk(folder.anna).rotate())
    dora = folder.admit("Dora", READER)
    assert folder.seen_by(dora).keyring.secrets() == folder.seen_by(folder.anna).keyring.secrets()
    assert len(folder.seen_by(dora).keyring.eids) == 4


def test_a_history_box_that_lies_is_refused_and_named(folder):
    """The box opens, and holds a secret that is not the announced one."""
    es = new_epoch_secret()
    old = next(iter(folder.founding.secrets))
    seen = folder.seen_by(folder.carl)
    box = box_history(folder.vault, es, {old: EpochSecret(random_bytes(32))})
    op = Rotate(Epoch(epoch_commit(folder.vault, es), tuple(sorted(seen.resolved.roster)), box))
    statement = make_statement(
        vault=folder.vault, prev=seen.frontier(), author=folder.carl.entry, time_ms=0, nonce=bytes(16), op=op,
        sign_seed=folder.carl.seed,
    )  # fmt: skip
    folder.objects.append(("m/x", statement.data))
    handing = hand_over(
        folder.vault,
        Signer(folder.carl.entry, folder.carl.seed),
        es,
        [Recipient(folder.bob.entry, (folder.bob.cert,))],
        public_key_of,
    )
    folder.objects.insert(0, handing.object)
    folder.objects = [one for one in folder.objects if not one[0].startswith(f"w/{old.hex()}")]
    bob = folder.seen_by(folder.bob)
    assert bob.keyring.eids == {eid(epoch_commit(folder.vault, es))}
    assert (statement.id, "an epoch secret does not match its commit") in bob.refused


def test_enrol_by_certificate_alone_gives_the_seed_to_its_holder_only(folder):
    """T-enrol."""
    dora = folder.someone("Dora")
    decision = folder.desk(folder.anna).admit_by_certificate(
        member=random_bytes(16), display="Dora", label="pc", role=WRITER, cert=dora.cert
    )
    folder.upload(decision)
    keys = DeviceKeys(folder.vault, bytes(32), dora.key, dora.cert, b"", dora.local)
    seen = open_membership(folder.objects, folder.vault, keys)
    assert seen.role is Tier.WRITER
    assert len(seen.sign_seed) == 32
    assert seen.keyring.may_seal
    stranger = folder.someone("Eve")
    keys = DeviceKeys(folder.vault, bytes(32), stranger.key, stranger.cert, b"", stranger.local)
    other = open_membership(folder.objects, folder.vault, keys)
    assert other.role is None
    assert other.sign_seed == b""
    assert not other.keyring.eids


def test_recovery_adds_an_owner_when_all_are_lost(folder):
    """T-recovery."""
    dora = folder.someone("Dora")
    desk = folder.desk(folder.recovery)
    folder.upload(desk.admit(dora.as_newcomer(OWNER)))
    folder.upload(folder.desk(dora).remove([folder.carl.entry]))
    assert folder.seen_by(dora).role is Tier.OWNER
    folder.upload(folder.desk(folder.recovery).remove([folder.anna.entry]))
    assert folder.seen_by(folder.anna).role is None
    assert folder.seen_by(dora).keyring.may_seal


# ---- later versions --------------------------------------------------------------------------------------------


def newer(folder, who, fmt=2):
    """A statement of a later format, rightly signed."""
    payload = encode((fmt, folder.vault, (folder.vault,), who.entry, 0, bytes(16), (99,), ()))
    header = pack_header(ObjectClass.STATEMENT, folder.vault, b"", len(payload), who.entry)
    return "m/newer", header + payload + sign(who.seed, SignLabel.MEMBERSHIP, folder.vault, payload)


def test_downgrade_a_newer_statement_of_an_administrator_stops_writing(folder):
    """T-downgrade: an old client must not go on as if the statement were not there."""
    folder.objects.append(newer(folder, folder.carl))
    seen = folder.seen_by(folder.anna)
    assert seen.needs_update
    assert reasons(seen) == {"needs a newer cryptfs": 1}


def test_downgrade_a_newer_genesis_asks_for_an_update(folder):
    payload = encode((2, bytes(32), (), bytes(32), 0, bytes(16), (0,), ()))
    vault = hashlib.sha256(payload).digest()
    data = pack_header(ObjectClass.STATEMENT, vault, b"", len(payload), bytes(32)) + payload + bytes(64)
    with pytest.raises(NeedsUpdate):
        open_membership([("genesis", data)], vault, folder.anna.keys)


def test_nobody_else_can_stop_writing_with_a_newer_statement(folder):
    stranger = Someone("stranger", folder.vault)
    stranger.entry = folder.carl.entry
    for who in (folder.bob, stranger):
        folder.objects.append(newer(folder, who))
    assert not folder.seen_by(folder.anna).needs_update
    folder.remove(folder.carl)
    folder.objects.append(newer(folder, folder.carl))
    assert not folder.seen_by(folder.anna).needs_update


def test_a_statement_of_good_form_and_another_author_in_its_header_is_left_out(folder):
    last = folder.seen_by(folder.carl).graph.node(folder.bob.entry).statement.raw
    lie = RawStatement(last.vault, last.id, folder.carl.entry, last.payload, last.signature, b"")
    folder.objects = [("m/lie", lie.data), *folder.objects]
    seen = folder.seen_by(folder.anna)
    assert folder.bob.entry in seen.resolved.roster
    assert reasons(seen) == {"header and payload name different authors": 1}


def test_repr_shows_no_secret(folder):
    """T-repr."""
    anna = folder.seen_by(folder.anna)
    text = repr(anna) + repr(anna.keyring) + repr(folder.founding) + repr(Signer(bytes(32), folder.anna.seed))
    secrets = [*anna.keyring.secrets().values(), folder.anna.seed, folder.anna.key]
    assert not any(repr(one)[2:-1] in text or one.hex() in text for one in secrets)
