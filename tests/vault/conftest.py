"""Fixtures of the vault's tests."""

from tests.vault.certificate_world import clock
from tests.vault.vault_faults import sim, still
from tests.vault.vault_workshop import workshop

__all__ = ["clock", "sim", "still", "workshop"]
