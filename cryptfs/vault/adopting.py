"""Takes over packs that others hold, so that somebody who is there can delete them, and the store keeps them.

Who holds a pack is its log that named it first, until another log that is entitled says `adopted`
(docs/replication.md, "Adoption"). Where objects belong to accounts, the pack is copied into the account of this device
before that is said: the member's whole account may go. What was taken over from here is deleted here only once the
others' word counts and their copy was found.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptfs.errors import CryptfsError, NotAllowed, NotFound, StoreError, UsageError
from cryptfs.format.content import WHERE_PACK
from cryptfs.format.names import pack_name
from cryptfs.format.operation import Adopted
from cryptfs.group.authority import Tier
from cryptfs.group.heirs import heritage
from cryptfs.tree.merge_containers import IN_USE
from cryptfs.tree.places import Place
from cryptfs.vault.people import called
from cryptfs.vault.retiring import wheres
from cryptfs.vault.saying import say_in_log

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Adopter", "Held", "TakenOver", "adopt_from"]

log = logging.getLogger(__name__)

_HELD: Final = (
    "SELECT holder, count(*), sum(size) FROM container WHERE place = ? AND state = ? GROUP BY holder ORDER BY holder"
)
_PACKS_OF: Final = "SELECT id, size FROM container WHERE place = ? AND holder = ? ORDER BY id"
_WITH_HOLDER: Final = "SELECT id, holder FROM container WHERE place = ? ORDER BY id"
_BATCH: Final = 1_000
"""Packs that one segment says are taken over: what a kill costs."""
_DAY_MS: Final = 86_400_000
_SMALL: Final = ("genesis", "README.txt", "m/", "w/", "l/", "c/")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Held:
    """What a log holds of what is in use: number of packs and bytes. `over`: its log has ended; `may`: we may adopt."""

    log: bytes
    name: str
    member: bytes
    packs: int
    size: int
    over: bool
    may: bool


@dataclass(slots=True)
class TakenOver:
    """What a run did. `copied`: objects that were copied into this account; `left`: names, and why they stay."""

    packs: int = 0
    size: int = 0
    copied: int = 0
    left: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """For commands; sizes in bytes."""
        return {"packs": self.packs, "bytes": self.size, "copied": self.copied, "left": dict(self.left)}


class Adopter:
    """Adopts for one vault."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault

    # ---- who holds what -------------------------------------------------------------------------------------------

    def held(self) -> list[Held]:
        """What each log other than this device's own holds."""
        vault, graph = self._vault, self._vault.membership.graph
        own, entitled = vault.standing.log_id, self._entitled()
        found = []
        for holder, packs, size in vault.replica.question(_HELD, (WHERE_PACK, IN_USE)):
            owner = graph.log_owner(bytes(holder))
            if bytes(holder) != own and owner is not None:
                log_id, name = bytes(holder), vault.membership.name_of_log(bytes(holder))
                may = entitled(log_id)
                found.append(Held(log_id, name, owner.member, packs, size, self._is_over(log_id), may))
        return found

    def held_by(self, entries: Iterable[bytes]) -> dict[str, object]:
        """What the devices of these entries hold, as JSON values; `owned`: it belongs to their accounts."""
        logs = {log_id for entry in entries for log_id in self._vault.membership.graph.logs_of(entry)}
        theirs = [one for one in self.held() if one.log in logs]
        return {
            "packs": sum(one.packs for one in theirs),
            "bytes": sum(one.size for one in theirs),
            "owned": self._vault.sender.has_owners,
        }

    def _entitled(self) -> Callable[[bytes], bool]:
        """Whether a segment of this device's, sealed now, may take over from a log."""
        standing = self._vault.standing
        if standing.role is None or standing.role < Tier.WRITER:
            return lambda _: False
        if standing.role >= Tier.ADMIN:
            return lambda _: True
        inherited = set(heritage(standing.membership.graph, standing.log_id, standing.mheads()))
        return lambda log_id: log_id in inherited

    def _is_over(self, log_id: bytes) -> bool:
        """Whether nobody writes that log any more, so that its holder deletes nothing."""
        membership = self._vault.membership
        owner, end = membership.graph.log_owner(log_id), self._vault.reader.end(log_id)
        out = owner is None or owner.entry not in membership.resolved.roster
        return out or end is None or end.count is not None

    # ---- taking over ----------------------------------------------------------------------------------------------

    async def settle_estates(self, say: Say = log.debug) -> TakenOver:
        """Take over what logs hold that nobody writes any more: this member's earlier ones, and others' if an
        administrator's device. Raises as `adopt`.
        """  # noqa: D205 - one sentence
        vault = self._vault
        own = vault.membership.graph.log_owner(vault.standing.log_id)
        admin = vault.standing.role is not None and vault.standing.role >= Tier.ADMIN
        mine = own.member if own is not None else b""
        logs = [row.log for row in self.holders() if row.over and row.may and (admin or row.member == mine)]
        return await self.adopt(logs, say=say) if logs else TakenOver()

    def holders(self) -> list[Held]:
        """As `held`, also of what is retired and not deleted."""
        known = {one.log: one for one in self.held()}
        rows = self._vault.replica.question("SELECT DISTINCT holder FROM container WHERE place = ?", (WHERE_PACK,))
        graph, entitled = self._vault.membership.graph, self._entitled()
        for (holder,) in rows:
            log_id, owner = bytes(holder), graph.log_owner(bytes(holder))
            if log_id not in known and log_id != self._vault.standing.log_id and owner is not None:
                name = self._vault.membership.name_of_log(log_id)
                known[log_id] = Held(log_id, name, owner.member, 0, 0, self._is_over(log_id), entitled(log_id))
        return [known[one] for one in sorted(known)]

    async def adopt(self, logs: Iterable[bytes], *, older_ms: int | None = None, say: Say = log.debug) -> TakenOver:
        """Take over the packs that these logs hold; `older_ms`: only those that the store got before then.

        Raises NotAllowed while nothing may be sealed, StoreError, LocalDisk; what was taken over until then stays so.
        """
        vault, done = self._vault, TakenOver()
        await vault.exchange.pull()
        vault.check_may_seal()
        dates = await vault.sender.dates("p") if older_ms is not None else {}
        packs = {
            Place(WHERE_PACK, bytes(ident)): int(size)
            for log_id in sorted(logs)
            for ident, size in vault.replica.question(_PACKS_OF, (WHERE_PACK, log_id))
        }
        if older_ms is not None:
            old = {name.rpartition("/")[2] for name, ms in dates.items() if ms < older_ms}
            packs = {place: size for place, size in packs.items() if place.id.hex() in old}
        ready: list[Place] = []
        for number, place in enumerate(packs, 1):
            if vault.sender.has_owners:
                say(f"Copying {number} of {len(packs)} packs into this account.")
            if await self._copied(pack_name(place.id), done):
                ready.append(place)
            if len(ready) >= _BATCH:
                await self._say_so(ready, packs, done)
                ready = []
        await self._say_so(ready, packs, done)
        return done

    async def _copied(self, name: str, done: TakenOver) -> bool:
        """Have a copy in this account, where that matters; whether the pack may be said to be adopted."""
        vault = self._vault
        vault.faults.step("adopt.copy")
        try:
            done.copied += await vault.sender.take_over(name)
        except NotFound:
            # Retired by who held it, and deleted perhaps: then there is nothing to copy, and nothing to lose.
            return True
        except StoreError as err:
            done.left[name] = f"{err} {err.advice}".strip()
            return False
        return True

    async def _say_so(self, ready: list[Place], packs: dict[Place, int], done: TakenOver) -> None:
        vault = self._vault
        if not ready:
            return
        vault.faults.step("adopt.say")
        await say_in_log(vault, [Adopted(some) for some in wheres(ready)])
        held = vault.standing.log_id
        taken = [one for one in ready if (row := vault.replica.rows.container(*one)) is not None and row.holder == held]
        done.packs += len(taken)
        done.size += sum(packs[one] for one in taken)

    async def copy_small(self, done: TakenOver) -> None:
        """Where objects belong to accounts, have one's own of all that is no pack and no request: an account that goes
        takes its log segments and statements along, too. Raises StoreError.
        """  # noqa: D205 - one sentence
        if self._vault.sender.has_owners:
            for prefix in _SMALL:
                for name in await self._vault.sender.list(prefix):
                    await self._copied(name, done)

    # ---- an account for all ---------------------------------------------------------------------------------------

    async def keep(self) -> TakenOver:
        """What happens every hour: others' copies are made room for, and a custodian takes over what is a day old.

        Raises as `adopt`.
        """
        vault = self._vault
        await self.let_go()
        if not vault.options.custodian or vault.read_only:
            return TakenOver()
        before = vault.wall_ms() - _DAY_MS
        done = await self.adopt([one.log for one in self.holders() if one.may], older_ms=before)
        if vault.sender.has_owners:
            for name, ms in sorted((await vault.sender.dates("")).items()):
                if ms < before and not name.startswith("p"):
                    await self._copied(name, done)
        return done

    async def let_go(self) -> int:
        """Delete copies in this account of packs that other members hold; returns how many. Raises StoreError.

        Not of those that another log of this member holds: its devices may share the account, and then the copy here is
        the holder's own, whoever has put another one beside it.
        """
        vault, count = self._vault, 0
        if not vault.sender.has_owners:
            return 0
        graph = vault.membership.graph
        own = graph.log_owner(vault.standing.log_id)
        for ident, holder in vault.replica.question(_WITH_HOLDER, (WHERE_PACK,)):
            theirs = graph.log_owner(bytes(holder))
            if own is None or theirs is None or theirs.member == own.member:
                continue
            vault.faults.step("adopt.let-go")
            try:
                count += await vault.sender.hand_over(pack_name(bytes(ident)))
            except CryptfsError as err:
                log.debug("a copy stays in this account: %s", err)
        return count


async def adopt_from(vault: "Vault", arguments: Mapping[str, object]) -> dict[str, object]:
    """The act `adopt`: take over from the logs of the member or device that `who` means, also one that is out.

    Raises UsageError if there is none, NotAllowed if this device may not, else as `Adopter.adopt`.
    """
    word = str(arguments.get("who", ""))
    await vault.exchange.pull()
    graph = vault.membership.graph
    theirs = [
        one
        for one in vault.adopter.holders()
        if (owner := graph.log_owner(one.log)) is not None
        and word in {*called(vault.membership, owner.entry), one.log.hex()}
    ]
    if not theirs:
        raise UsageError(f"No other device called '{word}' holds anything.", "See `cryptfs-admin members`.")
    may = [one for one in theirs if one.may]
    if not may:
        raise NotAllowed(
            f"{theirs[0].name} is still in: only administrators and its own member may take its packs over.",
            "Ask an administrator.",
        )
    done = await vault.adopter.adopt([one.log for one in may])
    await vault.adopter.copy_small(done)
    return done.as_json()
