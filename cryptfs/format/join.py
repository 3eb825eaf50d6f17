"""Asking to be let in: the token an administrator gives out, and the request made with it (docs/format.md, "Joining").

    token    "cfs1-" ‖ base64url( t ‖ first 4 bytes of H(t) )
    request  header (sign_pub, invite id) ‖ payload ‖ sig      payload sealed under the token's key, or clear without

The token brings the vault's id to the newcomer over a channel that the store does not control; everything the newcomer
believes starts there.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptfs.crypto.keys import SIGNATURE_LEN, SignLabel, invite_id, join_ctx, join_key, sign, sign_public, verify
from cryptfs.crypto.seal import open_sealed, seal, sealed_len
from cryptfs.errors import AuthError, Damaged, Invalid
from cryptfs.format.codec import Ext, Wire, check_ext, check_fmt, decode_top, encode
from cryptfs.format.form import ascending, id32, int64, need, optional, text, uint
from cryptfs.format.header import ObjectClass, header_len, pack_header, parse_header
from cryptfs.format.limits import JOIN_MAX
from cryptfs.format.operation_rules import ROLE_OWNER
from cryptfs.format.statement import check_possession
from cryptfs.format.statement_body import Anchor, Device
from cryptfs.format.statement_rules import check_anchor, check_device

__all__ = [
    "LINE_PREFIX",
    "NO_INVITE",
    "TOKEN_HEADS_MAX",
    "JoinBody",
    "JoinRequest",
    "Token",
    "decode_token",
    "encode_token",
    "make_join",
    "parse_join",
]

NO_INVITE: Final = bytes(16)
"""Invite id of a request made without a secret."""
LINE_PREFIX: Final = "cfs1-"
TOKEN_HEADS_MAX: Final = 8

_SUM_LEN: Final = 4
_TOKEN_MAX: Final = 2048
_LOCATOR_MAX: Final = 512
_TEXT_MAX: Final = 64


class Token(Wire, frozen=True):
    """What a newcomer is given.

    `secret` 16 bytes, or empty in a token that only points at the vault; `heads` the frontier of its issuer, cut to 8;
    `as_of` a segment the first view must cover; `locator` says where to look and is not trusted.
    """

    fmt: int
    vault: bytes
    secret: bytes
    role: int
    expires_ms: int
    heads: tuple[bytes, ...]
    as_of: Anchor
    locator: str

    def __repr__(self) -> str:
        return f"Token(vault={self.vault.hex()}, role={self.role})"


class JoinBody(Wire, frozen=True):
    """Who asks: display name, keys of the device, proof that it holds its signing key, its clock."""

    fmt: int
    display: str
    device: Device
    pop: bytes
    time_ms: int
    ext: tuple[Ext, ...]


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """A request of the right shape; nothing in it is believed before `open`.

    `invite` is NO_INVITE or tells which secret opens it; `digest` is that of the object.
    """

    vault: bytes
    header: bytes
    sign_pub: bytes
    invite: bytes
    digest: bytes
    payload: bytes = field(repr=False)
    sig: bytes = field(repr=False)

    def open(self, secret: bytes = b"") -> JoinBody:
        """Check signature and proof of possession, and decode. `secret` is the token's if `invite` names one.

        That the device is the person it claims to be follows from the secret; without one, only from words compared.
        Raises AuthError, Invalid for a broken rule, NeedsUpdate for what a later version wrote.
        """
        verify(self.sign_pub, SignLabel.JOIN, self.vault, _signed(self.header, self.payload), self.sig)
        if self.invite == NO_INVITE:
            plain = self.payload
        elif len(secret) == 16 and invite_id(self.vault, secret) == self.invite:
            plain = open_sealed(join_key(self.vault, secret), join_ctx(self.header), self.payload)
        else:
            raise AuthError("a join request was made with another invitation")
        body = decode_top(JoinBody, plain, JOIN_MAX)
        check_join(body, self.sign_pub)
        check_possession(self.vault, body.device.cert, self.sign_pub, body.pop)
        return body


def make_join(*, vault: bytes, body: JoinBody, sign_seed: bytes, secret: bytes = b"") -> bytes:
    """A request by the device with Ed25519 seed `sign_seed`, sealed under the token's `secret` (16 bytes) if given.

    Raises Invalid for what no reader would accept.
    """
    sign_pub = sign_public(sign_seed)
    check_join(body, sign_pub)
    plain = encode(body)
    length = sealed_len(len(plain)) if secret else len(plain)
    fixed = sign_pub + (invite_id(vault, secret) if secret else NO_INVITE)
    header = pack_header(ObjectClass.JOIN, vault, b"", length, fixed)
    payload = seal(join_key(vault, secret), join_ctx(header), plain) if secret else plain
    return header + payload + sign(sign_seed, SignLabel.JOIN, vault, _signed(header, payload))


def parse_join(data: bytes | memoryview, vault: bytes) -> JoinRequest:
    """Take a join request apart. Raises Damaged, or NeedsUpdate for an unknown suite."""
    if len(data) > header_len(ObjectClass.JOIN, 0) + JOIN_MAX + SIGNATURE_LEN:
        raise Damaged("join request is too large")
    header = parse_header(ObjectClass.JOIN, data, vault)
    sig_at = len(header.raw) + header.length
    if sig_at + SIGNATURE_LEN != len(data):
        raise Damaged("join request is not as long as its header says")
    sign_pub, invite = header.fixed[:32], header.fixed[32:]
    payload = bytes(data[len(header.raw) : sig_at])
    digest = hashlib.sha256(data).digest()
    return JoinRequest(vault, header.raw, sign_pub, invite, digest, payload, bytes(data[sig_at:]))


def check_join(body: JoinBody, sign_pub: bytes) -> None:
    """Rules of form. Raises Invalid or NeedsUpdate."""
    check_fmt(body.fmt)
    check_ext(body.ext)
    text(body.display, _TEXT_MAX, "display name")
    check_device(body.device)
    need(body.device.sign_pub == sign_pub, "header and device have different signing keys")
    need(len(body.pop) == SIGNATURE_LEN, "proof of possession is no signature")
    int64(body.time_ms, "time")


def _signed(header: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(header + payload).digest()


# ---- tokens --------------------------------------------------------------------------------------------------------

_COPY: Final = "Copy the whole line, from `cfs1-` to its end."


def encode_token(token: Token) -> str:
    """The one line to hand over. Raises Invalid for a token no reader would accept."""
    check_token(token)
    data = encode(token)
    return LINE_PREFIX + base64.urlsafe_b64encode(data + _sum(data)).rstrip(b"=").decode()


def decode_token(line: str) -> Token:
    """Read a token as a person pasted it; white space around and inside is forgiven.

    Raises Invalid, with advice, for a line that is not complete; NeedsUpdate for a later version.
    """
    packed = "".join(line.split())
    if not packed.startswith(LINE_PREFIX) or len(packed) > _TOKEN_MAX:
        raise Invalid("This is not an invitation.", _COPY)
    coded = packed.removeprefix(LINE_PREFIX)
    try:
        data = base64.b64decode(coded + "=" * (-len(coded) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError) as err:
        raise Invalid("The invitation is not complete.", _COPY) from err
    if base64.urlsafe_b64encode(data).rstrip(b"=") != coded.encode() or _sum(data[:-_SUM_LEN]) != data[-_SUM_LEN:]:
        raise Invalid("The invitation is not complete.", _COPY)
    data = data[:-_SUM_LEN]
    token = decode_top(Token, data, _TOKEN_MAX)
    check_token(token)
    return token


def check_token(token: Token) -> None:
    """Rules of form. Raises Invalid or NeedsUpdate."""
    check_fmt(token.fmt)
    id32(token.vault, "vault")
    optional(token.secret, 16, "secret")
    uint(token.role, ROLE_OWNER, "role")
    int64(token.expires_ms, "expiry")
    need(len(token.heads) <= TOKEN_HEADS_MAX, "too many heads")
    for head in token.heads:
        id32(head, "head")
    ascending(token.heads, "heads")
    check_anchor(token.as_of)
    text(token.locator, _LOCATOR_MAX, "locator")


def _sum(data: bytes) -> bytes:
    """Finds typing mistakes; against intent a token is protected by the way it is handed over."""
    return hashlib.sha256(data).digest()[:_SUM_LEN]
