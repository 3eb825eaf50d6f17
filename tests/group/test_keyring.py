"""Epoch secrets, key sets, file key boxes, history boxes."""

from itertools import permutations

import pytest

from cryptfs.crypto.keys import (
    EpochSecret,
    FileKey,
    KeyLabel,
    derive,
    eid,
    epoch_commit,
    history_ctx,
    history_key,
    key_set,
    new_epoch_secret,
    new_file_key,
    write_secret,
)
from cryptfs.crypto.seal import seal
from cryptfs.errors import AuthError, Invalid, NotAllowed
from cryptfs.format.codec import encode
from cryptfs.format.content import FileKeyBox
from cryptfs.group.epochs import KnownSecrets, box_history, open_history, worth_boxing
from cryptfs.group.keyring import Keyring, split_key_set

VAULT = bytes(range(32))
FID = bytes(range(16))


def epochs(count):
    """Secrets by epoch id."""
    secrets = [EpochSecret(bytes([number]) * 32) for number in range(1, count + 1)]
    return {eid(epoch_commit(VAULT, es)): es for es in secrets}


def test_keys_are_those_of_the_key_tree():
    secrets = epochs(3)
    ring = Keyring(VAULT, secrets, secrets)
    ks = ring.write_keyset
    assert ks == key_set(list(secrets))
    assert ring.w(ks) == write_secret(VAULT, list(secrets.items()))
    for label in KeyLabel:
        assert ring.key(label, ks) == derive(ring.w(ks), label, VAULT, ks)
        assert ring.key(label, ks) is ring.key(label, ks)


@pytest.mark.parametrize("ks", [b"", bytes(15), bytes(17), bytes(32), b"\x02" * 16 + b"\x01" * 16, b"".join(
    number.to_bytes(16, "big") for number in range(17))])  # fmt: skip
def test_what_is_no_key_set_is_refused(ks):
    with pytest.raises(Invalid):
        split_key_set(ks)
    with pytest.raises(Invalid):
        Keyring(VAULT, epochs(1)).w(ks)


def test_without_one_secret_of_a_key_set_nothing_opens():
    secrets = epochs(2)
    ks = key_set(list(secrets))
    for missing in secrets:
        part = {one: es for one, es in secrets.items() if one != missing}
        ring = Keyring(VAULT, part, secrets)
        assert ring.missing == (missing,)
        assert not ring.opens(ks)
        assert not ring.may_seal
        with pytest.raises(NotAllowed, match="Waiting for a key"):
            ring.key(KeyLabel.FK, ks)
        with pytest.raises(NotAllowed, match="Waiting for a key"):
            _ = ring.write_keyset


def test_a_closed_gate_lets_read_and_not_write():
    secrets = epochs(1)
    ring = Keyring(VAULT, secrets, secrets, "Waiting for somebody.")
    assert ring.opens(key_set(list(secrets)))
    assert not ring.may_seal
    with pytest.raises(NotAllowed, match="Waiting for somebody"):
        _ = ring.write_keyset


def test_more_than_16_current_epochs_must_be_rotated_first():
    secrets = epochs(17)
    with pytest.raises(NotAllowed, match="Too many"):
        _ = Keyring(VAULT, secrets, secrets).write_keyset


def test_file_key_boxes_open_in_their_place_only():
    """T-keyswap for file key boxes."""
    secrets = epochs(2)
    ring = Keyring(VAULT, secrets, secrets)
    ks, single = ring.write_keyset, next(iter(secrets))
    fk = new_file_key()
    box = ring.box_file_key(ks, FID, 3, fk)
    assert len(box.box) == 104
    assert ring.open_file_key(box, FID) == fk
    for wrong, fid in (
        (box, bytes(16)),
        (FileKeyBox(4, ks, box.box), FID),
        (FileKeyBox(3, single, box.box), FID),
        (FileKeyBox(3, ks, box.box[:-1]), FID),
        (FileKeyBox(3, ks, b""), FID),
    ):
        with pytest.raises(AuthError):
            ring.open_file_key(wrong, fid)
    with pytest.raises(AuthError):
        Keyring(bytes(32), secrets, secrets).open_file_key(box, FID)


def test_a_box_that_holds_no_file_key_is_refused():
    secrets = epochs(1)
    ring = Keyring(VAULT, secrets, secrets)
    box = ring.box_file_key(ring.write_keyset, FID, 0, FileKey(b"short"))
    with pytest.raises(Invalid):
        ring.open_file_key(box, FID)


def test_repr_of_a_keyring_hides_everything():
    """T-repr."""
    secrets = epochs(1)
    assert repr(Keyring(VAULT, secrets)) == "Keyring(1 epochs)"
    assert repr(next(iter(secrets.values()))) not in repr(KnownSecrets(VAULT, {}, {}, secrets))


# ---- history ---------------------------------------------------------------------------------------------------------


def test_history_boxes_open_for_their_epoch_only():
    """T-keyswap for history boxes."""
    es, earlier = new_epoch_secret(), epochs(3)
    box = box_history(VAULT, es, earlier)
    assert open_history(VAULT, es, box) == earlier
    assert box_history(VAULT, es, {}) == b""
    assert open_history(VAULT, es, b"") == {}
    for vault, secret, data in ((bytes(32), es, box), (VAULT, new_epoch_secret(), box), (VAULT, es, box[:-1])):
        with pytest.raises(AuthError):
            open_history(vault, secret, data)
    with pytest.raises(ValueError, match="256"):
        box_history(VAULT, es, {number.to_bytes(16, "big"): es for number in range(257)})


@pytest.mark.parametrize(
    "content",
    [
        ((bytes(15), bytes(32)),),
        ((bytes(16), bytes(31)),),
        ((b"\2" * 16, bytes(32)), (b"\1" * 16, bytes(32))),
        ((bytes(16), bytes(32)), (bytes(16), bytes(32))),
        (1, 2),
        tuple((number.to_bytes(16, "big"), bytes(32)) for number in range(257)),
    ],
    ids=["short id", "short secret", "unsorted", "twice", "numbers", "too many"],
)
def test_a_history_box_that_holds_something_else_is_refused(content):
    es = new_epoch_secret()
    epoch = eid(epoch_commit(VAULT, es))
    box = seal(history_key(VAULT, epoch, es), history_ctx(VAULT, epoch), encode(content))
    with pytest.raises(Invalid):
        open_history(VAULT, es, box)


def chained(count):
    """Epochs each of which boxes the one before: (secrets in order, commits, boxes)."""
    secrets = [new_epoch_secret() for _ in range(count)]
    ids = [eid(epoch_commit(VAULT, es)) for es in secrets]
    commits = {one: frozenset({epoch_commit(VAULT, es)}) for one, es in zip(ids, secrets, strict=True)}
    boxes = {}
    for number, one in enumerate(ids):
        earlier = {ids[number - 1]: secrets[number - 1]} if number else {}
        boxes[one] = [(one * 2, box_history(VAULT, secrets[number], earlier))]
    return ids, secrets, commits, boxes


def test_boxes_chain_back_to_the_first_epoch():
    ids, secrets, commits, boxes = chained(50)
    known = KnownSecrets(VAULT, commits, boxes)
    assert known.offer(ids[-1], secrets[-1], b"")
    assert known.secrets == dict(zip(ids, secrets, strict=True))
    assert not known.refused


def test_a_secret_is_accepted_for_the_announced_epoch_only():
    """T-keyinsert."""
    ids, secrets, commits, boxes = chained(2)
    known = KnownSecrets(VAULT, commits, boxes)
    assert not known.offer(ids[0], secrets[1], b"wrong")
    assert not known.offer(bytes(16), secrets[1], b"unknown")
    assert known.secrets == {}
    assert [who for who, _ in known.refused] == [b"wrong", b"unknown"]


def test_a_box_that_does_not_open_is_named_and_takes_nothing_away():
    ids, secrets, commits, boxes = chained(2)
    boxes[ids[1]] = [(b"bad", bytes(100)), *boxes[ids[1]]]
    known = KnownSecrets(VAULT, commits, boxes)
    assert known.offer(ids[1], secrets[1], b"")
    assert set(known.secrets) == set(ids)
    assert known.refused == [(b"bad", "a history box does not open")]


def test_a_new_epoch_boxes_the_current_ones_and_what_they_do_not_lead_to():
    ids, secrets, commits, boxes = chained(4)
    lone = new_epoch_secret()
    lone_id = eid(epoch_commit(VAULT, lone))
    commits[lone_id], boxes[lone_id] = frozenset({epoch_commit(VAULT, lone)}), [(b"", b"")]
    known = KnownSecrets(VAULT, commits, boxes)
    for one, es in ((ids[-1], secrets[-1]), (lone_id, lone)):
        known.offer(one, es, b"")
    assert set(worth_boxing(known, [ids[-1]])) == {ids[-1], lone_id}
    for current in permutations([ids[-1], lone_id]):
        assert set(worth_boxing(known, current)) == {ids[-1], lone_id}
