"""The recovery key: 32 bytes on paper that become a signing key and a key to wrap to (docs/membership.md).

Paper words always combine to *some* secret, so nothing is done with one until it has reproduced the public keys that
the genesis of the vault names.
"""

from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cryptfs.crypto.keys import random_bytes, recovery_fingerprint, recovery_kem_seed, recovery_sign_seed, sign_public
from cryptfs.errors import NotAllowed

__all__ = ["RecoveryPublic", "RecoverySecret", "new_recovery_seed", "recovery_keys"]


class RecoveryPublic(NamedTuple):
    """What the genesis says of the recovery key: Ed25519 and X25519 public keys, 32 bytes each."""

    sign_public: bytes
    kem_public: bytes

    @property
    def fingerprint(self) -> bytes:
        """Stands for the certificate fingerprint in wraps to the recovery key, 32 bytes."""
        return recovery_fingerprint(self.sign_public, self.kem_public)


class RecoverySecret:
    """The private halves; its repr hides them."""

    __slots__ = ("kem_private", "public", "sign_seed")

    def __init__(self, seed: bytes) -> None:
        self.sign_seed = recovery_sign_seed(seed)
        self.kem_private = recovery_kem_seed(seed)
        kem_public = X25519PrivateKey.from_private_bytes(self.kem_private).public_key().public_bytes_raw()
        self.public = RecoveryPublic(sign_public(self.sign_seed), kem_public)


def new_recovery_seed() -> bytes:
    """A fresh seed, 32 bytes; to be shown once as words and forgotten."""
    return random_bytes(32)


def recovery_keys(seed: bytes, expected: RecoveryPublic) -> RecoverySecret:
    """The recovery keys of a vault from the 32 bytes of its words. Raises NotAllowed if they are another vault's."""
    secret = RecoverySecret(seed)
    if secret.public != expected:
        raise NotAllowed(
            "these words do not belong to this vault",
            "Check every word against the paper, and that it is the paper of this vault.",
        )
    return secret
