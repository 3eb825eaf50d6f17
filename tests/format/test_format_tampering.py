"""What a provider can do to bytes: flip, cut, extend, splice, exchange, move to another vault, seal or sign anew.

Every attempt must be refused, by one of our errors. A genuine object reads; that is what makes the refusals mean
something.
"""

import pytest
from format_samples import (
    CRL,
    OTHER_SEED,
    OTHER_V,
    SAMPLES,
    SIGNED,
    TWO,
    Sample,
    V,
    key,
    make_checkpoint,
    make_pack,
    make_segment,
    read_checkpoint,
    read_pack,
    read_segment,
    stream,
)

from cryptfs.crypto.keys import KeyLabel, SignLabel, sign, sign_public
from cryptfs.errors import AuthError, Damaged, HostileStore, Invalid, NeedsUpdate
from cryptfs.format import segment
from cryptfs.format.crl import parse_crl
from cryptfs.format.header import ObjectClass, pack_header, parse_header

REFUSED = (HostileStore, NeedsUpdate)

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)


@each_sample
def test_genuine_objects_read(sample: Sample) -> None:
    assert sample.read(sample.data) is not None
    if sample.name != "genesis":  # the twin of a genesis is another vault
        assert sample.read(sample.twin) is not None
    assert len(sample.data) == len(sample.twin)
    assert sample.data != sample.twin


@each_sample
def test_flip_of_any_byte(sample: Sample) -> None:
    data = bytearray(sample.data)
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        with pytest.raises(REFUSED):
            sample.read(bytes(data))
        data[at] ^= 1 << at % 8
    assert data == sample.data


@each_sample
def test_truncation_at_any_byte(sample: Sample) -> None:
    for end in range(len(sample.data)):
        with pytest.raises(REFUSED):
            sample.read(sample.data[:end])


@each_sample
def test_bytes_missing_at_the_front(sample: Sample) -> None:
    for start in (1, 8, 16, 48, 80, len(sample.data) - 1):
        with pytest.raises(REFUSED):
            sample.read(sample.data[start:])


@each_sample
@pytest.mark.parametrize("more", [b"\0", b"\xc0", bytes(16), bytes(64), "itself"], ids=repr)
def test_extension(sample: Sample, more: bytes | str) -> None:
    with pytest.raises(REFUSED):
        sample.read(sample.data + (sample.data if isinstance(more, str) else more))


@each_sample
def test_splice_of_two_objects_at_any_byte(sample: Sample) -> None:
    for at in range(1, len(sample.data)):
        for mixed in (sample.data[:at] + sample.twin[at:], sample.twin[:at] + sample.data[at:]):
            if mixed not in (sample.data, sample.twin):
                with pytest.raises(REFUSED):
                    sample.read(mixed)


@each_sample
def test_object_of_another_class_under_this_name(sample: Sample) -> None:
    for other in SAMPLES:
        if other.data[:8] != sample.data[:8]:
            with pytest.raises(Damaged):
                sample.read(other.data)


def test_genesis_and_statement_do_not_stand_for_each_other() -> None:
    genesis, statement = SAMPLES[:2]
    with pytest.raises(REFUSED):
        genesis.read(statement.data)
    with pytest.raises(REFUSED):
        statement.read(genesis.data)


@each_sample
def test_object_in_another_vault(sample: Sample) -> None:
    with pytest.raises(Damaged):
        sample.read(sample.data, vault=OTHER_V)
    moved = sample.data.replace(V, OTHER_V)
    assert len(moved) == len(sample.data)
    with pytest.raises(REFUSED):
        sample.read(moved, vault=OTHER_V)


@pytest.mark.parametrize("sample", [s for s in SIGNED if s.name not in {"genesis", "rollup"}], ids=str)
def test_signature_by_another_device(sample: Sample) -> None:
    if "join" in sample.name:
        own = sign_public(OTHER_SEED)
        with pytest.raises(REFUSED):  # the request then names a key that did not sign it
            sample.read(sample.data[:48] + own + sample.data[80:])
        return
    with pytest.raises(AuthError):
        sample.read(sample.data, pub=sign_public(OTHER_SEED))


@pytest.mark.parametrize("label", [label for label in SignLabel if label is not SignLabel.SEGMENT])
def test_signature_made_for_another_purpose(label: SignLabel) -> None:
    data = make_segment()
    raw = segment.parse_segment(data, V)
    with pytest.raises(AuthError):
        read_segment(data[:-64] + sign(stream("anna's device", 32), label, V, raw.digest))


@pytest.mark.parametrize(
    ("data", "read", "argument"),
    [
        (make_segment(), read_segment, "log_key"),
        (make_pack(), read_pack, "pack_key"),
        (make_checkpoint(), read_checkpoint, "meta_key"),
    ],
    ids=["segment", "pack", "checkpoint"],
)
def test_wrong_key(data: bytes, read: object, argument: str) -> None:
    wrong = [stream("wrong", 32), *(key(label) for label in KeyLabel), key(KeyLabel.LOG, TWO), key(KeyLabel.PACK, TWO)]
    right = {"log_key": KeyLabel.LOG, "pack_key": KeyLabel.PACK, "meta_key": KeyLabel.META}[argument]
    for one in wrong:
        if one != key(right):
            with pytest.raises(AuthError):
                read(data, **{argument: one})


@pytest.mark.parametrize(
    ("make", "read", "argument", "label"),
    [
        (make_segment, read_segment, "log_key", KeyLabel.LOG),
        (make_pack, read_pack, "pack_key", KeyLabel.PACK),
        (make_checkpoint, read_checkpoint, "meta_key", KeyLabel.META),
    ],
    ids=["segment", "pack", "checkpoint"],
)
def test_key_set_in_the_header_is_bound_to_what_is_sealed(make, read, argument, label) -> None:
    """Even if the key fits, an object does not open under a header that names other epochs."""
    data = make()
    other = bytes(15) + b"\x01"
    with pytest.raises(AuthError):
        read(data[:48] + other + data[64:], **{argument: key(label)})
    with pytest.raises(REFUSED):  # one epoch more, and a length that fits again
        read(data[:9] + b"\x02" + data[10:64] + b"\xff" * 16 + data[64:], **{argument: key(label)})


def test_header_out_of_range_is_refused_for_each_class() -> None:
    for sample in SAMPLES:
        for at, value in ((9, 17), (9, 255), (10, 1), (11, 1)):
            with pytest.raises(Damaged):
                sample.read(sample.data[:at] + bytes([value]) + sample.data[at + 1 :])


@pytest.mark.parametrize("ks", [TWO[16:] + TWO[:16], TWO[:16] * 2], ids=["not sorted", "one epoch twice"])
def test_key_set_that_is_none(ks: bytes) -> None:
    with pytest.raises(Invalid):
        pack_header(ObjectClass.PACK, V, ks, 0, b"")
    good = pack_header(ObjectClass.PACK, V, TWO, 0, b"")
    assert parse_header(ObjectClass.PACK, good, V).ks == TWO
    with pytest.raises(Damaged):
        parse_header(ObjectClass.PACK, good[:48] + ks, V)


def test_unknown_suite_asks_for_an_update() -> None:
    for sample in SAMPLES:
        if sample.name != "rollup":
            with pytest.raises(NeedsUpdate):
                sample.read(sample.data[:8] + b"\x02" + sample.data[9:])


def test_crl_carrier_keeps_its_frame() -> None:
    """What is inside is signed by the certificate authority and judged there."""
    assert parse_crl(CRL, V) == stream("a revocation list", 300)
    for changed in (CRL[:-1], CRL + b"\0", b"CFSCREV2" + CRL[8:], CRL[:48], b"", CRL[:11] + b"\1" + CRL[12:]):
        with pytest.raises(Damaged):
            parse_crl(changed, V)
    with pytest.raises(Damaged):
        parse_crl(CRL, OTHER_V)
