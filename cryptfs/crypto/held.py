"""A private key that stays where it is, on a smart card or another token: what can be asked of it.

The two questions are those that a wrap needs (docs/format.md, "Wraps"). Who answers them is not known here; the
certificate says which public key it must be.
"""

from abc import ABC, abstractmethod

__all__ = ["HeldKey"]


class HeldKey(ABC):
    """The key of one certificate. Every failure of the token that may be the wrap's fault is a ValueError."""

    @abstractmethod
    def exchange(self, point: bytes) -> bytes:
        """Raw ECDH with a peer's uncompressed point: the x coordinate, as long as the field. For NIST curves."""

    @abstractmethod
    def decrypt_oaep(self, blob: bytes, label: bytes) -> bytes:
        """RSA-OAEP with SHA-256 and MGF1-SHA256 and this label. For RSA keys."""
