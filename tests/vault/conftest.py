"""Fixtures of the vault's tests."""

from tests.vault.vault_workshop import workshop

__all__ = ["workshop"]
