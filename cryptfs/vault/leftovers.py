"""What nothing uses any more and still lies in the store: by whose device it goes, and whose word is missing.

Only who holds a pack deletes it (`collect.py`), so after a re-encryption the old packs of others go when their devices
find out. Records that travelled in log segments go with the segments.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptfs.format.content import WHERE_PACK
from cryptfs.format.limits import STAMP_MAX
from cryptfs.format.names import PackName, parse_name
from cryptfs.tree.places import Place
from cryptfs.tree.rows import Container
from cryptfs.vault.holding import Holding
from cryptfs.vault.stability import sight_of

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Leftovers", "Share", "leftovers"]


@dataclass(slots=True)
class Share:
    """What one holder has: `name` of the device, whether it is `ours`, and whether it is `out` of the group."""

    name: str
    ours: bool
    out: bool
    packs: int = 0
    size: int = 0


@dataclass(slots=True)
class Leftovers:
    """`shares` by log; `in_logs` segments with records that are unused; `waiting`: who has not acknowledged."""

    shares: dict[bytes, Share]
    in_logs: int
    waiting: list[str]

    def as_json(self) -> dict[str, object]:
        """For commands; sizes in bytes."""
        return {
            "unused_packs": [
                {"holder": one.name, "ours": one.ours, "out": one.out, "packs": one.packs, "bytes": one.size}
                for _, one in sorted(self.shares.items())
            ],
            "unused_in_logs": self.in_logs,
            "waiting_for": self.waiting,
        }


async def leftovers(vault: "Vault") -> Leftovers:
    """Look. Raises Damaged if a manifest is missing, without which nobody knows what is used, Retry, StoreError."""
    rows = await _unused(vault)
    there = {name.id for key in await vault.sender.list("p") if isinstance(name := parse_name(key), PackName)}
    found = Leftovers({}, sum(row.place != WHERE_PACK for row in rows), _waiting(vault))
    for row in rows:
        if row.place == WHERE_PACK and row.id in there:
            share = found.shares.setdefault(row.holder, _share(vault, row.holder))
            share.packs += 1
            share.size += row.size
    return found


async def _unused(vault: "Vault") -> list[Container]:
    """Containers that no version uses as the tree is now, whatever may yet be undone."""
    rows = [Container._make(row) for row in vault.replica.all_rows("container")]
    found = await Holding(vault).look([Place(row.place, row.id) for row in rows], STAMP_MAX)
    return [row for row in rows if Place(row.place, row.id) not in found.ranges]


def _share(vault: "Vault", log_id: bytes) -> Share:
    membership = vault.membership
    owner = membership.graph.log_owner(log_id)
    out = owner is None or owner.entry not in membership.resolved.roster
    return Share(membership.name_of_log(log_id), log_id == vault.standing.log_id, out)


def _waiting(vault: "Vault") -> list[str]:
    """Devices that may write and have said nothing since they could have seen our last segment."""
    vault.reader.flush()
    membership, own = vault.membership, vault.standing.log_id
    stamp = vault.standing.log.stamp
    late = [
        one.log
        for one in sight_of(membership, vault.standing.logs, own)
        if one.unfinished and one.log != own and (one.last is None or one.last < stamp)
    ]
    return [membership.name_of_log(log_id) for log_id in late]
