"""Sizes: the largest that is allowed passes, one byte more is refused, by writer and reader, before it costs."""

from dataclasses import replace

import pytest
from format_samples import (
    BODY,
    DEVICE,
    EIDS,
    ENTRY,
    JOIN_BODY,
    LOG,
    LOG_KEY,
    META_KEY,
    ONE,
    PAGED,
    ROLLUP,
    ROOT,
    SEED,
    STATE,
    V,
    make_checkpoint,
    replace_struct,
    sha,
    stream,
)

from cryptfs.errors import Damaged, Invalid
from cryptfs.format import checkpoint, checkpoint_making, crl, join, limits, manifest, rollup, statement, wraps
from cryptfs.format.content import FileKeyBox
from cryptfs.format.header import ObjectClass, pack_header
from cryptfs.format.segment import build_segment


def test_revocation_lists() -> None:
    largest = crl.build_crl(V, bytes(limits.CRL_MAX))
    assert len(crl.parse_crl(largest, V)) == limits.CRL_MAX
    for size in (0, limits.CRL_MAX + 1):
        with pytest.raises(Invalid):
            crl.build_crl(V, bytes(size))
    size = limits.CRL_MAX + 1
    for odd in (largest + b"\0", pack_header(ObjectClass.CRL, V, b"", size, b"") + bytes(size)):
        with pytest.raises(Damaged):
            crl.parse_crl(odd, V)
    with pytest.raises(Damaged):
        crl.parse_crl(pack_header(ObjectClass.CRL, V, b"", 0, b""), V)


def test_wraps() -> None:
    recs = tuple(wraps.Rec(i.to_bytes(32, "big"), sha(b""), 2, bytes(4096)) for i in range(248))
    wraps.make_wraps(vault=V, author=ENTRY, eid=EIDS[0], recs=recs, sign_seed=SEED)
    with pytest.raises(Invalid, match="too long"):
        wraps.make_wraps(vault=V, author=ENTRY, eid=EIDS[0], recs=recs, enrol=recs[:5], sign_seed=SEED)
    with pytest.raises(Damaged, match="too large"):
        wraps.parse_wraps(bytes(limits.WRAPS_MAX + 96 + 65), V)


def test_join_requests() -> None:
    device = replace_struct(DEVICE, cert=bytes(limits.CERT_MAX))
    body = replace_struct(
        JOIN_BODY, device=device, pop=statement.prove_possession(V, device.cert, device.sign_pub, SEED)
    )
    assert join.parse_join(join.make_join(vault=V, body=body, sign_seed=SEED), V).open() == body
    with pytest.raises(Damaged, match="too large"):
        join.parse_join(bytes(limits.JOIN_MAX + 96 + 65), V)


def test_manifests() -> None:
    keys = tuple(FileKeyBox(fkv, ONE, bytes(104)) for fkv in range(9000))
    with pytest.raises(Invalid, match="too long"):
        manifest.seal_root(META_KEY, V, ONE, PAGED, replace_struct(ROOT, keys=keys))


def test_rollups() -> None:
    body = replace_struct(BODY, ops=(), prev=stream("D", 32), first_op=5)
    settings = {"vault": V, "ks": ONE, "log_id": LOG, "log_key": LOG_KEY, "sign_seed": SEED}
    segments = [
        build_segment(seq=seq, body=body, body2=bytes(limits.BODY2_MAX), **settings)[0]
        for seq in range(1, limits.ROLLUP_MAX // limits.BODY2_MAX + 2)
    ]
    with pytest.raises(ValueError, match="too large"):
        rollup.build_rollup(V, LOG, 1, segments)
    largest = rollup.build_rollup(V, LOG, 1, segments[:-1])
    assert len(rollup.parse_rollup(largest, V).segments) == len(segments) - 1
    with pytest.raises(Damaged, match="too large"):
        rollup.parse_rollup(bytes(limits.ROLLUP_MAX + 1), V)


def test_rollup_with_bytes_left_over() -> None:
    with pytest.raises(Damaged, match="longer"):
        rollup.parse_rollup(ROLLUP + b"\0", V)


def test_checkpoint_head() -> None:
    logs = tuple(checkpoint.CheckpointLog(i.to_bytes(16, "big"), 0, bytes(32), 1) for i in range(65537))
    with pytest.raises(Invalid, match="too many logs"):
        make_checkpoint(state=replace(STATE, heads=logs))


def test_checkpoint_whose_head_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_making, "CHECKPOINT_HEAD_MAX", 100)  # the real one takes a million blocks
    with pytest.raises(Invalid, match="too large"):
        make_checkpoint()
