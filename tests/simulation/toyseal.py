"""Seals of simulated histories: as long as real ones and as strict about key, context and every bit, but not secret.

The real ones draw their salts inside the library, so that no seed could repeat a history. What was sealed for real, at
the founding of the group, opens as ever.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b

from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidTag

__all__ = ["Opener", "sealer_with"]

_MARK = b"simulate"
_HEADER, _SEGMENT, _TAG = 56, 16384, 16


def _commitment(key: bytes, ctx: bytes, salt: bytes) -> bytes:
    return blake2b(ctx + salt, key=key, digest_size=32).digest()


def _tag(commitment: bytes, plain: bytes) -> bytes:
    return blake2b(plain, key=commitment, digest_size=_TAG).digest()


def _segments(length: int, step: int) -> Iterator[tuple[int, int]]:
    """Where the segments of so many bytes lie; the last one is there also if it is empty."""
    return ((at, min(length, at + step)) for at in range(0, length + 1, step))


class _Sealer:
    """One message, handed over at once."""

    def __init__(self, key: bytes, ctx: bytes, salt: bytes) -> None:
        self._head = salt + _commitment(key, ctx, salt)

    def update(self, plain: bytes | bytearray | memoryview) -> bytes:
        whole = bytes(plain)
        tag = _tag(self._head[24:], whole)
        return self._head + b"".join(whole[start:end] + tag for start, end in _segments(len(whole), _SEGMENT))

    def update_into(self, plain: bytes | bytearray | memoryview, out: memoryview) -> int:
        sealed = self.update(plain)
        out[:] = sealed
        return len(sealed)

    def finalize(self) -> bytes:
        return b""


def sealer_with(random_bytes: Callable[[int], bytes]) -> Callable[[bytes, bytes], _Sealer]:
    """What stands for `Cobblestone256Encryptor`."""
    return lambda key, ctx: _Sealer(key, ctx, _MARK + random_bytes(16))


class Opener:
    """What stands for `Cobblestone256Decryptor`: one message, handed over at once."""

    def __init__(self, key: bytes, ctx: bytes) -> None:
        self._key, self._ctx = key, ctx

    def update(self, sealed: bytes | bytearray | memoryview) -> bytes:
        data = bytes(sealed)
        if not data.startswith(_MARK):
            real = Cobblestone256Decryptor(self._key, self._ctx)
            return real.update(data) + real.finalize()
        commitment, body = data[24:_HEADER], data[_HEADER:]
        pieces = list(_segments(len(body), _SEGMENT + _TAG))
        plain = b"".join(body[start : end - _TAG] for start, end in pieces if end - start >= _TAG)
        tag = _tag(commitment, plain)
        good = all(body[end - _TAG : end] == tag for start, end in pieces if end - start >= _TAG)
        if not good or commitment != _commitment(self._key, self._ctx, data[:24]):
            raise InvalidTag
        return plain

    def update_into(self, sealed: bytes | bytearray | memoryview, out: memoryview) -> int:
        plain = self.update(sealed)
        out[:] = plain
        return len(plain)

    def finalize(self) -> bytes:
        return b""
