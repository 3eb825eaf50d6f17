"""SEAL and OPEN, the one symmetric primitive of cryptfs (docs/format.md, "SEAL and OPEN").

SEAL is Cobblestone-256: C2SP chunked-encryption v1 over AES-256-GCM and HKDF-SHA-512. Every call makes one complete
message under a fresh random salt, so there is no nonce to count, share or roll back:

    salt[24] ‖ commitment[32] ‖ segment_0 ‖ ... ‖ segment_n          segment = up to 16384 bytes of ciphertext ‖ tag[16]

The last segment is always shorter than 16384 bytes of plaintext and may be empty: that is what makes a cut at a segment
border fail. The commitment is compared before any ciphertext is touched, so a message opens under one key only.
"""

from typing import Final, TypeAlias

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from cryptfs.errors import AuthError

__all__ = [
    "SEAL_OVERHEAD_MIN",
    "Bytes",
    "open_into",
    "open_sealed",
    "plain_len",
    "seal",
    "seal_into",
    "sealed_len",
]

SEAL_OVERHEAD_MIN: Final = 72
"""Length of a sealed empty plaintext, in bytes: salt 24, commitment 32, one tag 16."""

_HEADER: Final = 56
_SEGMENT: Final = 16384
_TAG: Final = 16

Bytes: TypeAlias = bytes | bytearray | memoryview


def sealed_len(p: int) -> int:
    """Length in bytes of the sealed form of `p` >= 0 bytes of plaintext."""
    return _HEADER + p + _TAG * (p // _SEGMENT + 1)


def plain_len(c: int) -> int:
    """Length in bytes of the plaintext in `c` sealed bytes. Raises AuthError if no plaintext has that sealed length."""
    full, last = divmod(c - _HEADER, _SEGMENT + _TAG)
    if c < SEAL_OVERHEAD_MIN or last < _TAG:
        raise AuthError("sealed data do not open")
    return full * _SEGMENT + last - _TAG


def seal_into(key: bytes, ctx: bytes, pt: Bytes, out: memoryview) -> int:
    """Seal `pt` under `key` (32 bytes), bound to `ctx`, into `out` of exactly `sealed_len(len(pt))` bytes.

    Returns the number of bytes written, which is `len(out)`. Raises ValueError when `out` has another length. `out` may
    lie in the same object as `pt`; the plaintext is then copied first.
    """
    if len(out) != sealed_len(len(pt)):
        raise ValueError("output buffer is not exactly as long as the sealed data")
    if memoryview(pt).obj is out.obj:
        # The library does not notice overlapping buffers: it encrypts what it has already overwritten.
        pt = bytes(pt)
    encryptor = Cobblestone256Encryptor(key, ctx)
    written = encryptor.update_into(pt, out)
    out[written:] = encryptor.finalize()
    return len(out)


def open_into(key: bytes, ctx: bytes, sealed: Bytes, out: memoryview) -> int:
    """Open `sealed` into `out`, which is exactly as long as the expected plaintext and seen by nobody else until then.

    Returns `len(out)`. Raises AuthError, with `out` zeroed, if anything is wrong: key, context, one bit, or a length
    other than that of `len(out)` bytes sealed. Segments are decrypted before the end of the message has been seen, so
    the contents of `out` mean nothing until this returns.
    """
    if len(sealed) != sealed_len(len(out)):
        out[:] = bytes(len(out))
        raise AuthError("sealed data do not open")
    if memoryview(sealed).obj is out.obj:
        sealed = bytes(sealed)  # as in seal_into
    decryptor = Cobblestone256Decryptor(key, ctx)
    try:
        written = decryptor.update_into(sealed, out)
        out[written:] = decryptor.finalize()
    except InvalidTag:
        out[:] = bytes(len(out))
        raise AuthError("sealed data do not open") from None
    return len(out)


def seal(key: bytes, ctx: bytes, pt: Bytes) -> bytes:
    """Seal `pt` under `key` (32 bytes), bound to `ctx`; the result is `sealed_len(len(pt))` bytes."""
    encryptor = Cobblestone256Encryptor(key, ctx)
    # Two allocations and a copy are cheaper than zeroing a buffer and copying out of it (measured up to 64 KiB).
    return encryptor.update(pt) + encryptor.finalize()


def open_sealed(key: bytes, ctx: bytes, sealed: Bytes) -> bytes:
    """The plaintext of `sealed`. Raises AuthError, the same for every cause, and then releases nothing."""
    plain_len(len(sealed))  # refuses impossible lengths before any key is derived
    decryptor = Cobblestone256Decryptor(key, ctx)
    try:
        return decryptor.update(sealed) + decryptor.finalize()
    except InvalidTag:
        raise AuthError("sealed data do not open") from None
