"""A log segment: one step of one device's history, sealed and signed (docs/format.md, "Segments").

    header ‖ body1 = SEAL(K_log, B) ‖ body2 = records of small changes, back to back ‖ sig        D = H(all before sig)

Reading goes parse (sizes, header, D) -> verify (signature) -> open (decrypt, decode, rules of form). Each step needs
one thing more: nothing, the signer's key, the log key.
"""

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Final

from cryptfs.crypto.keys import SIGNATURE_LEN, SignLabel, segment_ctx, sign, verify
from cryptfs.crypto.seal import open_sealed, seal, sealed_len
from cryptfs.errors import Damaged
from cryptfs.format.codec import encode
from cryptfs.format.header import PREFIX_LEN, ObjectClass, header_len, pack_header, parse_header
from cryptfs.format.limits import BODY2_MAX, SEGMENT_MAX, STAMP_MAX
from cryptfs.format.segment_body import Attest, LogHead, PackRef, SegmentBody, decode_body
from cryptfs.format.segment_rules import check_body

__all__ = [
    "Attest",
    "LogHead",
    "PackRef",
    "RawSegment",
    "SegmentBody",
    "build_segment",
    "open_segment",
    "parse_segment",
    "segment_len",
    "segment_len_in",
    "verify_segment",
]

_FIXED: Final = struct.Struct(">16sQII")


@dataclass(frozen=True, slots=True)
class RawSegment:
    """A segment of the right shape whose signature nobody has checked yet.

    `body1` and `body2` are views into the object; `digest` is D.
    """

    vault: bytes
    header: bytes
    ks: bytes
    log_id: bytes
    seq: int
    body1: memoryview = field(repr=False)
    body2: memoryview = field(repr=False)
    digest: bytes
    sig: bytes = field(repr=False)

    @property
    def data(self) -> bytes:
        """The whole object."""
        return b"".join((self.header, self.body1, self.body2, self.sig))


def segment_len(epochs: int, plain: int, body2: int) -> int:
    """Bytes of a segment under `epochs` epochs with `plain` bytes of encoded B and `body2` bytes of records."""
    return header_len(ObjectClass.SEGMENT, epochs) + sealed_len(plain) + body2 + SIGNATURE_LEN


def segment_len_in(data: memoryview) -> int:
    """Bytes of the segment that `data` starts with, by its header alone; 0 if that is not even a header's length."""
    epochs = data[9] if len(data) > PREFIX_LEN else 0
    end = header_len(ObjectClass.SEGMENT, epochs)
    if not epochs or len(data) < end:
        return 0
    len1 = int.from_bytes(data[12:16], "big")
    _, _, len2, _ = _FIXED.unpack_from(data, end - _FIXED.size)
    return end + len1 + int(len2) + SIGNATURE_LEN


def build_segment(
    *,
    vault: bytes,
    ks: bytes,
    log_id: bytes,
    seq: int,
    log_key: bytes,
    body: SegmentBody,
    sign_seed: bytes,
    body2: bytes = b"",
) -> tuple[bytes, bytes]:
    """Make a segment; returns the object and its digest D.

    `log_key` is K_log(`ks`), `sign_seed` the device's Ed25519 seed. The result is different at each call (fresh
    salt), so it is made once and kept. Raises Invalid for a body no reader would accept, ValueError for one too large.
    """
    check_body(body, log_id, seq, len(body2))
    plain = encode(body)
    if len(body2) > BODY2_MAX or segment_len(len(ks) // 16, len(plain), len(body2)) > SEGMENT_MAX:
        raise ValueError("the segment is too large")
    fixed = _FIXED.pack(log_id, seq, len(body2), 0)
    header = pack_header(ObjectClass.SEGMENT, vault, ks, sealed_len(len(plain)), fixed)
    signed = b"".join((header, seal(log_key, segment_ctx(header), plain), body2))
    digest = hashlib.sha256(signed).digest()
    return signed + sign(sign_seed, SignLabel.SEGMENT, vault, digest), digest


def parse_segment(data: bytes | memoryview, vault: bytes) -> RawSegment:
    """Take a segment apart. Raises Damaged, or NeedsUpdate for an unknown suite."""
    if len(data) > SEGMENT_MAX:
        raise Damaged("segment is too large")
    view = memoryview(data)
    header = parse_header(ObjectClass.SEGMENT, view, vault)
    log_id, seq, len2, zero = _FIXED.unpack(header.fixed)
    body2_at = len(header.raw) + header.length
    sig_at = body2_at + len2
    if zero or seq > STAMP_MAX or len2 > BODY2_MAX or sig_at + SIGNATURE_LEN != len(view):
        raise Damaged("segment is not as long as its header says")
    return RawSegment(
        vault=vault,
        header=header.raw,
        ks=header.ks,
        log_id=log_id,
        seq=seq,
        body1=view[len(header.raw) : body2_at],
        body2=view[body2_at:sig_at],
        digest=hashlib.sha256(view[:sig_at]).digest(),
        sig=bytes(view[sig_at:]),
    )


def verify_segment(raw: RawSegment, sign_pub: bytes) -> None:
    """Check the signature by the device that owns the log. Raises AuthError."""
    verify(sign_pub, SignLabel.SEGMENT, raw.vault, raw.digest, raw.sig)


def open_segment(raw: RawSegment, log_key: bytes) -> SegmentBody:
    """Decrypt, decode and check B of a segment whose signature has been verified.

    `log_key` is K_log of `raw.ks`. Raises AuthError for a wrong key or sealed bytes, Invalid for a broken rule,
    NeedsUpdate for what a later version wrote.
    """
    body = decode_body(open_sealed(log_key, segment_ctx(raw.header), raw.body1))
    check_body(body, raw.log_id, raw.seq, len(raw.body2))
    return body
