"""Fixtures of the vault's tests."""

from tests.vault.vault_faults import sim, still
from tests.vault.vault_workshop import workshop

__all__ = ["sim", "still", "workshop"]
