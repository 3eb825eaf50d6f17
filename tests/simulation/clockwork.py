"""Virtual time, one source of chance, and worker threads in line: a seed gives one history, and a fast one.

True time is that of trio's mock clock. Every device has a clock of its own, which may be years off: whatever runs for a
device, its tasks included, sees that one.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptfs.crypto import keyfile, keys, seal, wrap
from cryptfs.group import handing
from cryptfs.vault import journal, rollups, sealer
from cryptfs.vault.upkeep import Upkeep
from tests.simulation.founding import founded
from tests.simulation.toyseal import Opener, sealer_with

__all__ = ["Clock", "determined", "true_ms"]

T = TypeVar("T")


class Clock:
    """The clock of one device: `off_ns` ahead of true time."""

    def __init__(self) -> None:
        self.off_ns = 0

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """What runs in this block, and the tasks it starts, see this clock."""
        token = _CLOCK.set(self)
        try:
            yield
        finally:
            _CLOCK.reset(token)

    def enter(self) -> None:
        """The present task sees this clock from now on."""
        _CLOCK.set(self)


_RIGHT = Clock()
_CLOCK: ContextVar[Clock] = ContextVar("clock", default=_RIGHT)


def true_ns() -> int:
    """What a right clock shows now, ns since 1970."""
    return founded().made_ns + int(trio.current_time() * 1e9)


def true_ms() -> int:
    """The same in ms."""
    return true_ns() // 1_000_000


@contextmanager
def determined(seed: int) -> Iterator[None]:
    """Nothing in this block depends on anything but the seed, and no task of a vault acts by itself."""
    rng = random.Random(seed)

    async def in_line(sync_fn: Callable[..., T], *args: Any, **_: Any) -> T:
        for _ in range(rng.choice([1, 1, 2, 5])):
            await trio.lowlevel.checkpoint()
        return sync_fn(*args)

    async def nothing(self: Upkeep, nursery: trio.Nursery) -> None:
        await trio.lowlevel.checkpoint()

    with ExitStack() as stack:

        def use(owner: object, name: str, value: object) -> None:
            stack.enter_context(mock.patch.object(owner, name, value))

        use(trio.to_thread, "run_sync", in_line)
        use(Upkeep, "run", nothing)
        use(keys, "os", SimpleNamespace(urandom=rng.randbytes))
        use(keys, "random", SimpleNamespace(SystemRandom=lambda: rng, Random=random.Random))
        use(time, "time_ns", lambda: true_ns() + _CLOCK.get().off_ns)
        use(time, "time", lambda: (true_ns() + _CLOCK.get().off_ns) / 1e9)
        use(time, "monotonic", trio.current_time)
        use(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # as trio's own plugin for Hypothesis does
        trio._core._run._r.seed(seed)
        use(seal, "Cobblestone256Encryptor", sealer_with(rng.randbytes))
        use(seal, "Cobblestone256Decryptor", Opener)
        use(keys, "Ed25519PublicKey", _Verifier)
        use(handing, "wrap", _wrap)
        use(handing, "wrap_to_x25519", _wrap_for_recovery)
        use(keyfile, "unwrap", _unwrap)
        use(rollups, "_MANY", 5)  # and rollups, though logs are short
        use(journal, "_GROW", 1 << 12)  # zeros written ahead only cost time here
        use(sealer, "_BODY2_TARGET", 40 << 10)  # packs come to be, though people write little
        yield


# ---- signatures ------------------------------------------------------------------------------------------------------

_verified: set[tuple[bytes, bytes, bytes]] = set()
_REMEMBERED = 20_000


class _Verifier:
    """An Ed25519 public key that remembers what it found good: all devices of all runs look at much the same."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    @classmethod
    def from_public_bytes(cls, public: bytes) -> "_Verifier":
        return cls(public)

    def verify(self, signature: bytes, data: bytes) -> None:
        known = (self._public, signature, sha256(data).digest())
        if known not in _verified:
            Ed25519PublicKey.from_public_bytes(self._public).verify(signature, data)
            if len(_verified) >= _REMEMBERED:
                _verified.clear()
            _verified.add(known)


# ---- wraps -----------------------------------------------------------------------------------------------------------

_MARK = b"simulated wrap: "
_P256_BLOB, _X25519_BLOB = 113, 80
"""Bytes of a wrap, by the kind of key."""


def _wrap(public_key: Any, secret: bytes, info: bytes) -> tuple[int, bytes]:
    """In place of HPKE, which draws its own random numbers; as long, and opened by the same key only."""
    key = sha256(_spelled(public_key) + info).digest()
    hidden = bytes(a ^ b for a, b in zip(secret, key, strict=True))
    return wrap.ALG_HPKE, (_MARK + hidden).ljust(_P256_BLOB, b"\0")


def _wrap_for_recovery(public: bytes, secret: bytes, info: bytes) -> tuple[int, bytes]:
    """Nobody opens these here."""
    return wrap.ALG_HPKE, sha256(public + secret + info).digest().ljust(_X25519_BLOB, b"\0")


def _unwrap(private_key: Any, alg: int, blob: bytes, info: bytes) -> bytes:
    if not blob.startswith(_MARK):
        return _really_unwrap(private_key, alg, blob, info)
    key = sha256(_spelled(private_key.public_key()) + info).digest()
    return bytes(a ^ b for a, b in zip(blob[len(_MARK) :][:32], key, strict=True))


def _spelled(public_key: Any) -> bytes:
    return bytes(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


_unwrapped: dict[tuple[bytes, bytes, bytes], bytes] = {}


def _really_unwrap(private_key: Any, alg: int, blob: bytes, info: bytes) -> bytes:
    """The wraps of the group's founding are opened by every run: once is enough."""
    key = (_spelled(private_key.public_key()), blob, info)
    if key not in _unwrapped:
        _unwrapped[key] = wrap.unwrap(private_key, alg, blob, info)
    return _unwrapped[key]
