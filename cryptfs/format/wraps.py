"""Wraps: one epoch's secret, sealed to each recipient's certificate (docs/format.md, "Wraps").

    header (author, eid) ‖ payload ‖ sig

The signature says who gave a key to whom, for audit and the key gate. It proves nothing about the key itself: what a
wrap holds is accepted only if it fits the commit in a signed statement.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptfs.crypto.keys import EID_LEN, SIGNATURE_LEN, SignLabel, sign, verify_once
from cryptfs.errors import Damaged, Invalid
from cryptfs.format.codec import FMT, Ext, Wire, check_ext, check_fmt, decode_top, encode
from cryptfs.format.form import id32, need, uint
from cryptfs.format.header import ObjectClass, header_len, pack_header, parse_header
from cryptfs.format.limits import WRAPS_MAX

__all__ = ["RECOVERY_ENTRY", "Rec", "Wraps", "WrapsPayload", "make_wraps", "parse_wraps"]

RECOVERY_ENTRY: Final = bytes(32)
"""Recipient: the recovery key."""

_BLOB_MAX: Final = 4096
_ALG_MAX: Final = 255


class Rec(Wire, frozen=True):
    """One wrapped secret: `entry` 32 bytes, `cert_fp` H(certificate), `alg` and `blob` of crypto/wrap.py.

    Readers skip algorithms they do not know.
    """

    entry: bytes
    cert_fp: bytes
    alg: int
    blob: bytes


class WrapsPayload(Wire, frozen=True):
    """The epoch's secret to each of `recs`; in `enrol` signing seeds of entries added by certificate alone.

    Both sorted by (entry, cert_fp, alg).
    """

    fmt: int
    eid: bytes
    recs: tuple[Rec, ...]
    enrol: tuple[Rec, ...]
    ext: tuple[Ext, ...]


@dataclass(frozen=True, slots=True)
class Wraps:
    """A wraps object of the right shape; nothing in it is believed before `open`. `digest` is that of the object."""

    vault: bytes
    header: bytes
    author: bytes
    eid: bytes
    digest: bytes
    payload: bytes = field(repr=False)
    sig: bytes = field(repr=False)

    def open(self, sign_pub: bytes) -> WrapsPayload:
        """Check the signature by the author, whose key is `sign_pub`, then decode.

        Raises AuthError, Invalid for a broken rule, NeedsUpdate for what a later version wrote.
        """
        verify_once(sign_pub, SignLabel.WRAPS, self.vault, _signed(self.header, self.payload), self.sig)
        payload = decode_top(WrapsPayload, self.payload, WRAPS_MAX)
        check_wraps(payload, self.eid)
        return payload


def make_wraps(
    *, vault: bytes, author: bytes, eid: bytes, recs: tuple[Rec, ...], enrol: tuple[Rec, ...] = (), sign_seed: bytes
) -> bytes:
    """The object that hands epoch `eid` (16 bytes) to `recs`, in any order; `author` 32 bytes, zeros: recovery key.

    Raises Invalid for what no reader would accept, as two wraps to one recipient under one algorithm.
    """
    payload = WrapsPayload(FMT, eid, tuple(sorted(recs, key=_key)), tuple(sorted(enrol, key=_key)), ())
    check_wraps(payload, eid)
    data = encode(payload)
    if len(data) > WRAPS_MAX:
        raise Invalid("wraps are too long")
    header = pack_header(ObjectClass.WRAPS, vault, b"", len(data), author + eid)
    return header + data + sign(sign_seed, SignLabel.WRAPS, vault, _signed(header, data))


def parse_wraps(data: bytes | memoryview, vault: bytes) -> Wraps:
    """Take a wraps object apart. Raises Damaged, or NeedsUpdate for an unknown suite."""
    if len(data) > header_len(ObjectClass.WRAPS, 0) + WRAPS_MAX + SIGNATURE_LEN:
        raise Damaged("wraps are too large")
    header = parse_header(ObjectClass.WRAPS, data, vault)
    sig_at = len(header.raw) + header.length
    if sig_at + SIGNATURE_LEN != len(data):
        raise Damaged("wraps are not as long as their header says")
    author, eid = header.fixed[:32], header.fixed[32:]
    payload = bytes(data[len(header.raw) : sig_at])
    return Wraps(vault, header.raw, author, eid, hashlib.sha256(data).digest(), payload, bytes(data[sig_at:]))


def check_wraps(payload: WrapsPayload, eid: bytes) -> None:
    """Rules of form. Raises Invalid or NeedsUpdate."""
    check_fmt(payload.fmt)
    check_ext(payload.ext)
    need(len(eid) == EID_LEN and payload.eid == eid, "header and payload name different epochs")
    for recs in (payload.recs, payload.enrol):
        last: tuple[bytes, bytes, int] | None = None
        for rec in recs:
            id32(rec.entry, "recipient")
            id32(rec.cert_fp, "fingerprint")
            uint(rec.alg - 1, _ALG_MAX - 1, "wrap algorithm")
            need(0 < len(rec.blob) <= _BLOB_MAX, "size of a wrap is out of range")
            need(last is None or last < _key(rec), "wraps are not sorted")
            last = _key(rec)


def _key(rec: Rec) -> tuple[bytes, bytes, int]:
    return rec.entry, rec.cert_fp, rec.alg


def _signed(header: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(header + payload).digest()
