"""What there is to say now about the certificates of the group: good, about to expire, expired, revoked.

The judgement is made by who is about to hand over a key, with the clock that never goes back and the newest revocation
lists (docs/membership.md, "With your company's certificates"). It never takes anybody out of the roster and never
stops reading; who is refused gets no new keys, and administrators are told to renew or remove.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptfs.crypto.certificate import Judged, Refusal, Refused, Standing
from cryptfs.errors import HostileStore, NeedsUpdate
from cryptfs.format.statement import Policy
from cryptfs.group.authority import Tier
from cryptfs.group.handing import ExamineCertificate, examine_under
from cryptfs.group.membership import Membership
from cryptfs.group.memory import TrustMemory, clock, forget, recall
from cryptfs.group.roster import Entry
from cryptfs.vault.home import VaultHome
from cryptfs.vault.revocation import RevocationLists
from cryptfs.vault.upload import Sender

__all__ = ["Certificates", "Finding", "certificates_at"]

log = logging.getLogger(__name__)

_RENEW_OWN: Final = "Replace it: `cryptfs-admin renew`."
_RENEW_OTHER: Final = "Have it renewed, or remove the device."
_NEW_LIST: Final = "Publish a current list: `cryptfs-admin crl`."


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said about the certificate of one entry. `until`: its last day, or why there is none."""

    entry: bytes
    until: str
    remark: str  # empty: nothing
    refused: bool  # it gets no new keys
    about_list: bool = False  # not the certificate is to blame, but the list of its authority


class Certificates:
    """The certificates of one vault, as judged on this device. `now_ms` is its own clock, in ms since 1970."""

    def __init__(
        self,
        directory: Path,
        sender: Sender,
        membership: Membership,
        now_ms: Callable[[], int],
        memory: Callable[[], TrustMemory],
    ) -> None:
        """`directory`: where revocation lists are kept; `memory` knows how far the clock has been before."""
        self.lists = RevocationLists(directory, membership.vault, sender)
        self._membership = membership
        self._now_ms = now_ms
        self._memory = memory
        self._told: tuple[str, ...] = ()

    async def refresh(self, names: Iterable[str], membership: Membership) -> bool:
        """Go on with this membership, and the revocation lists among the objects `names` of `m/`.

        Returns whether other lists are in force now. Raises StoreError, LocalDisk.
        """
        self._membership = membership
        return await self.lists.refresh(names, membership.resolved.policy)

    def now_ms(self) -> int:
        """The time by which certificates are judged: never behind what was seen before, or a verified list was made."""
        made = [int(one.made.timestamp() * 1000) for one in self.lists.facts]
        return clock(self._memory(), self._now_ms(), made)

    def examiner(self, policy: Policy | None = None) -> ExamineCertificate:
        """Judges certificates now, under `policy` or the one in force."""
        now = dt.datetime.fromtimestamp(self.now_ms() / 1000, dt.UTC)
        return examine_under(policy or self._membership.resolved.policy, now, self.lists.ders)

    def findings(self, policy: Policy | None = None) -> dict[bytes, Finding]:
        """One for each entry of the roster, under `policy` or the one in force."""
        examine = self.examiner(policy)
        return {one.id: _finding(one, examine) for one in self._membership.resolved.roster.values()}

    def remarks(self) -> list[str]:
        """What a person has to know: everything for administrators, else what concerns this device."""
        own = self._membership.entry
        everything = own is not None and own.role >= Tier.ADMIN
        return [
            self._words(one)
            for one in self.findings().values()
            if one.remark and (everything or (own is not None and one.entry == own.id))
        ]

    def _words(self, one: Finding) -> str:
        own = self._membership.entry is not None and self._membership.entry.id == one.entry
        whose = "this device" if own else self._membership.name_of(one.entry)
        effect = "It gets no new keys. " if one.refused else ""
        advice = _RENEW_OWN if own else _RENEW_OTHER
        if one.about_list:
            advice = _NEW_LIST
        return f"The certificate of {whose}: {one.remark}. {effect}{advice}"

    def tell(self) -> None:
        """Write into the log what has changed since the last time."""
        remarks = tuple(self.remarks())
        for one in remarks:
            if one not in self._told:
                log.warning("%s", one)
        self._told = remarks


def _finding(entry: Entry, examine: ExamineCertificate) -> Finding:
    """By the certificate that serves best, if several are in force."""
    judged: list[Judged] = []
    reasons: list[Refusal] = []
    for cert in entry.certs:
        try:
            judged.append(examine(cert))
        except Refused as err:
            reasons.append(err.reason)
    if not judged:
        why = reasons[0]
        return Finding(entry.id, why.value, why.value, refused=True, about_list=why is Refusal.CRL_MISSING)
    best = max(judged, key=lambda one: one.expires)
    remark = "; ".join(_standing(one, best) for one in best.standings)
    only_list = best.standings == (Standing.CRL_STALE,)
    return Finding(entry.id, best.expires.strftime("%Y-%m-%d"), remark, refused=False, about_list=only_list)


def _standing(standing: Standing, judged: Judged) -> str:
    day = judged.expires.strftime("%Y-%m-%d")
    if standing is Standing.EXPIRES_SOON:
        return f"it expires on {day}"
    if standing is Standing.IN_GRACE:
        return f"it has expired on {day}, and will get no new keys 30 days after that"
    return "the revocation list of its authority is missing or out of date"


async def certificates_at(
    sender: Sender, home: VaultHome, membership: Membership, now_ms: Callable[[], int]
) -> Certificates:
    """The certificates of a vault that is not open here, with the lists of its store. Raises StoreError, LocalDisk."""
    memory = _memory(home, membership)
    found = Certificates(home.revocation_dir, sender, membership, now_ms, lambda: memory)
    await found.refresh(await sender.list("m/"), membership)
    return found


def _memory(home: VaultHome, membership: Membership) -> TrustMemory:
    """The trust memory of this device; an empty one if there is none that can be read."""
    try:
        return recall(home.trust_file.read_bytes(), membership.local_key("memory"), membership.vault)
    except (OSError, HostileStore, NeedsUpdate):
        return forget(membership.vault)
