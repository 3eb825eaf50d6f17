"""A statement: a signed membership act that cannot be changed or moved to another vault (docs/format.md, "Statements").

    header (author) ‖ payload ‖ sig        id = H(payload); the genesis has V = H(payload) and may carry two signatures

Reading goes `split_statement` (sizes) -> `RawStatement.verify` -> `RawStatement.open` (decode, rules of form). The
author stands in the clear header, so its key can be picked before anything is decoded. `parse_statement` does the first
and last step, for callers that must see what a statement cites before they know its author.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

import msgspec

from cryptfs.crypto.keys import SIGNATURE_LEN, SignLabel, sign, verify_once
from cryptfs.errors import Damaged, Invalid, NeedsUpdate
from cryptfs.format.codec import FMT, decode_top, encode, leading_uint, probe
from cryptfs.format.header import ObjectClass, header_len, object_class, pack_header, parse_header
from cryptfs.format.limits import STATEMENT_MAX
from cryptfs.format.statement_body import (
    CLOSE_FORK,
    CLOSE_LOST,
    CLOSE_SUSPENDED,
    HOW_CERTIFICATE,
    HOW_TOKEN,
    HOW_WORDS,
    RECOVERY_AUTHOR,
    Accept,
    Add,
    Anchor,
    Close,
    Cut,
    Device,
    Epoch,
    Genesis,
    NewLog,
    Payload,
    Policy,
    Recovery,
    Remove,
    Renew,
    Rotate,
    SetPolicy,
    StatementOp,
)
from cryptfs.format.statement_rules import check_payload

__all__ = [
    "CLOSE_FORK", "CLOSE_LOST", "CLOSE_SUSPENDED", "HOW_CERTIFICATE", "HOW_TOKEN", "HOW_WORDS", "RECOVERY_AUTHOR",
    "Accept", "Add", "Anchor", "Close", "Cut", "Device", "Epoch", "Genesis", "NewLog", "Payload", "Policy",
    "RawStatement", "Recovery", "Remove", "Renew", "Rotate", "SetPolicy", "Statement", "StatementOp",
    "check_possession", "genesis_vault", "make_genesis", "make_statement", "parse_statement", "pop_data",
    "prove_possession", "split_statement",
]  # fmt: skip

_LAST_OP: Final = 8


@dataclass(frozen=True, slots=True)
class RawStatement:
    """A statement of the right shape whose signature nobody has checked and whose payload nobody has decoded.

    `id` and `author` 32 bytes; `recovery_signature` only in a genesis, else empty.
    """

    vault: bytes
    id: bytes
    author: bytes
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    recovery_signature: bytes = field(repr=False)

    @property
    def is_genesis(self) -> bool:
        """Whether this is the statement that names the vault."""
        return self.id == self.vault

    @property
    def data(self) -> bytes:
        """The object as it lies in the store."""
        return _header(self.vault, self.author, len(self.payload)) + self.payload + self.signatures

    @property
    def signatures(self) -> bytes:
        """What follows the payload."""
        return self.signature + self.recovery_signature

    def verify(self, sign_pub: bytes) -> None:
        """Check the signature by the author, whose key is `sign_pub`. Raises AuthError."""
        verify_once(sign_pub, SignLabel.MEMBERSHIP, self.vault, self.payload, self.signature)

    def open(self) -> "Statement":
        """Decode and judge the form. Raises Invalid, or NeedsUpdate for what a later version wrote."""
        payload = _decode(self.payload)
        check_payload(payload, self.vault, genesis=self.is_genesis)
        if payload.author != self.author:
            raise Invalid("header and payload name different authors")
        wanted = isinstance(payload.op, Genesis) and payload.op.recovery is not None
        if wanted != bool(self.recovery_signature):
            raise Invalid("a genesis is signed by the recovery key exactly if it names one")
        return Statement(self, payload)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of good form. `raw` are its bytes. That the signature verifies is known only after `verify`."""

    raw: RawStatement
    payload: Payload

    @property
    def vault(self) -> bytes:
        """V."""
        return self.raw.vault

    @property
    def id(self) -> bytes:
        """H(payload), 32 bytes."""
        return self.raw.id

    @property
    def signature(self) -> bytes:
        """What follows the payload; two copies of one statement may differ in it, and one may be forged."""
        return self.raw.signatures

    @property
    def data(self) -> bytes:
        """The object as it lies in the store."""
        return self.raw.data

    def verify(self, sign_pub: bytes) -> None:
        """Check the signature by `sign_pub`; in the genesis also that of the recovery key it names.

        The founder's key comes from the genesis itself: its hash is the vault's name, which nobody learns from the
        store. Raises AuthError.
        """
        self.raw.verify(sign_pub)
        op = self.payload.op
        if isinstance(op, Genesis) and op.recovery is not None:
            signature = self.raw.recovery_signature
            verify_once(op.recovery.sign_pub, SignLabel.MEMBERSHIP, self.vault, self.raw.payload, signature)


# ---- reading -------------------------------------------------------------------------------------------------------


def split_statement(data: bytes | memoryview, vault: bytes) -> RawStatement:
    """Take a statement of `vault` apart. Raises Damaged, or NeedsUpdate for an unknown suite."""
    if len(data) > header_len(ObjectClass.STATEMENT, 0) + STATEMENT_MAX + 2 * SIGNATURE_LEN:
        raise Damaged("statement is too large")
    header = parse_header(ObjectClass.STATEMENT, data, vault)
    sig_at = len(header.raw) + header.length
    payload, rest = bytes(data[len(header.raw) : sig_at]), bytes(data[sig_at:])
    ident = hashlib.sha256(payload).digest()
    allowed = (SIGNATURE_LEN, 2 * SIGNATURE_LEN) if ident == vault else (SIGNATURE_LEN,)
    if len(payload) != header.length or header.length > STATEMENT_MAX or len(rest) not in allowed:
        raise Damaged("statement is not as long as its header says")
    return RawStatement(vault, ident, header.fixed, payload, rest[:SIGNATURE_LEN], rest[SIGNATURE_LEN:])


def parse_statement(data: bytes | memoryview, vault: bytes) -> Statement:
    """Take a statement apart and decode it. The signature is still to be checked with `verify`.

    Raises Damaged, Invalid, or NeedsUpdate. What is raised here may be the work of anybody: before a NeedsUpdate is
    believed, `split_statement(...).verify(key of the author)` must have passed.
    """
    return split_statement(data, vault).open()


def genesis_vault(data: bytes | memoryview) -> bytes:
    """V as an object that claims to be a genesis states it: tells *which* vault a folder holds, never whom to trust.

    Raises Damaged.
    """
    if object_class(data) is not ObjectClass.STATEMENT or len(data) < header_len(ObjectClass.STATEMENT, 0):
        raise Damaged("no genesis")
    return bytes(data[16:48])


class _OpProbe(msgspec.Struct, array_like=True):
    """Only the op, undecoded, of anything shaped like a payload."""

    fmt: msgspec.Raw
    vault: msgspec.Raw
    prev: msgspec.Raw
    author: msgspec.Raw
    time_ms: msgspec.Raw
    nonce: msgspec.Raw
    op: msgspec.Raw


def _decode(data: bytes) -> Payload:
    try:
        return decode_top(Payload, data, STATEMENT_MAX)
    except Invalid:
        if (_op_tag(data) or 0) > _LAST_OP:
            raise NeedsUpdate("a membership statement needs a newer cryptfs") from None
        raise


def _op_tag(data: bytes) -> int | None:
    try:
        return leading_uint(memoryview(probe(_OpProbe, data).op))
    except Invalid:
        return None


# ---- making --------------------------------------------------------------------------------------------------------


def make_statement(
    *,
    vault: bytes,
    prev: tuple[bytes, ...],
    author: bytes,
    time_ms: int,
    nonce: bytes,
    op: StatementOp,
    sign_seed: bytes,
) -> Statement:
    """Make and sign any statement but the genesis.

    `prev` sorted; `author` the entry of the device with the Ed25519 seed `sign_seed`, or RECOVERY_AUTHOR with that of
    the recovery key; `nonce` 16 random bytes. Raises Invalid for what no reader would accept.
    """
    payload = Payload(FMT, vault, prev, author, time_ms, nonce, op, ())
    return _signed(payload, vault, sign_seed, None)


def make_genesis(
    *, time_ms: int, nonce: bytes, op: Genesis, sign_seed: bytes, recovery_seed: bytes | None = None
) -> Statement:
    """Make the genesis, signed by the founder's device and, if it names a recovery key, by that one's Ed25519 seed.

    The id of the result is the vault's. Raises Invalid for what no reader would accept.
    """
    if (op.recovery is None) != (recovery_seed is None):
        raise ValueError("the recovery key signs exactly if the genesis names one")
    payload = Payload(FMT, bytes(32), (), RECOVERY_AUTHOR, time_ms, nonce, op, ())
    vault = hashlib.sha256(encode(payload)).digest()
    return _signed(payload, vault, sign_seed, recovery_seed)


def _signed(payload: Payload, vault: bytes, sign_seed: bytes, recovery_seed: bytes | None) -> Statement:
    data = encode(payload)
    if len(data) > STATEMENT_MAX:
        raise Invalid("a statement is too long")
    signature = sign(sign_seed, SignLabel.MEMBERSHIP, vault, data)
    second = b"" if recovery_seed is None else sign(recovery_seed, SignLabel.MEMBERSHIP, vault, data)
    return RawStatement(vault, hashlib.sha256(data).digest(), payload.author, data, signature, second).open()


def _header(vault: bytes, author: bytes, length: int) -> bytes:
    return pack_header(ObjectClass.STATEMENT, vault, b"", length, author)


# ---- proof of possession -------------------------------------------------------------------------------------------


def pop_data(cert: bytes, sign_pub: bytes) -> bytes:
    """What a proof of possession signs: without it somebody could claim another's certificate or signing key."""
    return hashlib.sha256(cert).digest() + sign_pub


def prove_possession(vault: bytes, cert: bytes, sign_pub: bytes, sign_seed: bytes) -> bytes:
    """`pop` of the device with certificate `cert` (DER): 64 bytes."""
    return sign(sign_seed, SignLabel.POP, vault, pop_data(cert, sign_pub))


def check_possession(vault: bytes, cert: bytes, sign_pub: bytes, pop: bytes) -> None:
    """Raise AuthError unless `pop` proves that whoever showed `cert` holds the seed of `sign_pub`."""
    verify_once(sign_pub, SignLabel.POP, vault, pop_data(cert, sign_pub), pop)
