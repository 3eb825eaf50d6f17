"""The revocation lists of the authorities that a vault trusts: found in the folder, kept on this disk.

Anybody can put an object under `m/….crl`; what counts is the signature of an authority that the policy names. Of each
authority the list with the highest number is kept here, so that a store that shows an older one, or none, takes nothing
back (docs/membership.md, "With your company's certificates").
"""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptfs.crypto.authority import RevocationList, check_crl
from cryptfs.crypto.keys import chance
from cryptfs.errors import Damaged, HostileStore, NeedsUpdate, NotFound
from cryptfs.format.crl import build_crl, parse_crl
from cryptfs.format.limits import CRL_MAX
from cryptfs.format.names import CrlName, crl_name, parse_name
from cryptfs.format.statement import Policy
from cryptfs.vault.disk import local_disk
from cryptfs.vault.sealedfile import write_durably
from cryptfs.vault.upload import Sender

__all__ = ["RevocationLists", "carrier"]

log = logging.getLogger(__name__)

_OBJECT_MAX: Final = CRL_MAX + 4096
_READ_AT_ONCE: Final = 16
"""Objects read in one look: there is one list for each authority, and whatever else is there is noise."""
_FLOOD: Final = 1024
"""Objects of which a folder that has more is being flooded. Then a look reads one, drawn by lot: whoever uploads junk
can delay a list, and cost us little, but never hide it."""


def carrier(vault: bytes, der: bytes) -> tuple[str, bytes]:
    """(name, bytes) of the object that brings a list (DER) to everybody. Raises Invalid if it is too long."""
    data = build_crl(vault, der)
    return crl_name(hashlib.sha256(data).digest()), data


class RevocationLists:
    """The lists in force, one for each authority. `directory` is where they are kept on this device; None: nowhere."""

    def __init__(self, directory: Path | None, vault: bytes, sender: Sender) -> None:
        self._directory = directory
        self._vault = vault
        self._sender = sender
        self._seen: set[str] = set()
        self._authorities: tuple[bytes, ...] = ()
        self._held: dict[bytes, tuple[RevocationList, bytes]] = {}
        self._carried: dict[bytes, dict[str, RevocationList]] = {}

    @property
    def ders(self) -> tuple[bytes, ...]:
        """The lists in force, DER."""
        return tuple(der for _, der in self._held.values())

    @property
    def facts(self) -> tuple[RevocationList, ...]:
        """What they say of themselves."""
        return tuple(fact for fact, _ in self._held.values())

    def superseded(self, issuer: bytes) -> list[str]:
        """Objects in the folder with lists of an authority that a later one, held here, has replaced."""
        held = self._held.get(issuer)
        if held is None:
            return []
        return [name for name, fact in self._carried.get(issuer, {}).items() if fact.age < held[0].age]

    async def refresh(self, names: Iterable[str], policy: Policy) -> bool:
        """Take in lists among the objects `names` of `m/`; returns whether others are in force now.

        Without `org-ca` there are none. Raises StoreError, LocalDisk.
        """
        authorities = policy.cas if policy.trust == 1 else ()
        changed = authorities != self._authorities
        if changed:
            self._authorities = authorities
            self._seen.clear()
            self._carried.clear()
            self._held = {}
            for der in self._kept() if authorities else ():
                self._take(der)
        if not authorities:
            return changed
        listed = {one for one in names if isinstance(parse_name(one), CrlName)}
        self._seen &= listed  # what is gone needs no memory; should it come back it is looked at again
        new = sorted(listed - self._seen)
        chosen = new[:_READ_AT_ONCE] if len(self._seen) < _FLOOD else chance().sample(new, min(1, len(new)))
        for name in chosen:
            changed = await self._read(name) or changed
        return changed

    async def _read(self, name: str) -> bool:
        try:
            der = parse_crl(await self._sender.get(name, 0, _OBJECT_MAX), self._vault)
            fact = check_crl(der, self._authorities)
        except NotFound:
            return False
        except (HostileStore, NeedsUpdate) as err:
            log.warning("a revocation list in the folder is ignored: %s", err)
            self._seen.add(name)
            return False
        self._seen.add(name)
        self._carried.setdefault(fact.issuer, {})[name] = fact
        if not self._take(der):
            return False
        if self._directory is not None:
            write_durably(self._directory / f"{hashlib.sha256(fact.issuer).hexdigest()}.crl", der)
        log.info("a revocation list of %s is in force", fact.made.strftime("%Y-%m-%d %H:%M"))
        return True

    def _take(self, der: bytes) -> bool:
        """Hold a list if it is later than the one held; returns whether it was. Raises Damaged if nobody signed it."""
        fact = check_crl(der, self._authorities)
        held = self._held.get(fact.issuer)
        if held is not None and held[0].age >= fact.age:
            return False
        self._held[fact.issuer] = (fact, der)
        return True

    def _kept(self) -> Iterable[bytes]:
        """What was held before, and still verifies."""
        if self._directory is None or not self._directory.is_dir():
            return
        with local_disk("reading revocation lists"):
            files = sorted(self._directory.glob("*.crl"))
            kept = [file.read_bytes() for file in files]
        for der in kept:
            try:
                check_crl(der, self._authorities)
            except Damaged:
                continue  # of an authority that is not trusted any more, or spoiled: the folder may have it
            yield der
