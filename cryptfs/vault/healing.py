"""Puts objects back that have vanished from the store, from the copies on this disk (docs/replication.md, "Healing").

Whoever has the verified bytes of an object may store it again under the same name; no authority is needed, since every
object proves itself. What is noticed as missing is put back by itself after an hour and a random delay, so that a
listing that lags, a person who tidies up and regrets it, and other devices that heal as well come first. A person who
asks for it has it at once.

By itself nothing is healed that a person has to decide about: while the folder shows an older state than this device
has seen, somebody may have restored a backup on purpose.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.crypto.keys import chance
from cryptfs.errors import CryptfsError, StoreError
from cryptfs.format.names import GENESIS, PackName, SegmentName, parse_name
from cryptfs.store.base import Cap
from cryptfs.vault.absence import Harm, absent_objects, harm_of, in_order, unshown, waiting_words, words_of
from cryptfs.vault.bodies import MISSING
from cryptfs.vault.copies import Copy
from cryptfs.vault.wholerollups import WholeRollups

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Healed", "Healer"]

log = logging.getLogger(__name__)

_EVERY: Final = 60.0
"""Seconds between two looks at what is known to be missing."""
_LOOK_EVERY: Final = 3600.0
_PACKS_EVERY: Final = 86_400.0
"""Seconds between two looks for what nobody has missed yet, and for such packs where listing them takes long."""
_SOON: Final = 120.0
"""Seconds after which what is not there is said not to be there yet, and looked for in a full listing."""
_PATIENCE: Final = 3600.0
_DELAY: Final = 1800.0
"""Seconds that something is missing before this device puts it back, and at most so many more, at random."""

_SHOWN: Final = 20
"""Objects whose absence is put into words at once."""

Say = Callable[[str], None]


@dataclass(slots=True)
class Healed:
    """What a run put back, and what is left: objects of which this device has no copy, or that the store refused.

    `refused`: names and why.
    """

    restored: list[str] = field(default_factory=list)
    restored_bytes: int = 0
    left: list[Harm] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, copy: Copy) -> None:
        """One more was put back, from that copy."""
        self.restored.append(name)
        self.restored_bytes += copy.stat().st_size if isinstance(copy, Path) else len(copy)

    def add(self, other: "Healed") -> None:
        """What another run did counts as well."""
        self.restored += other.restored
        self.restored_bytes += other.restored_bytes
        self.left += other.left
        self.refused |= other.refused

    def as_json(self) -> dict[str, object]:
        """For commands."""
        return {
            "restored": list(self.restored),
            "restored_bytes": self.restored_bytes,
            "left": [
                {"object": one.name, "paths": [_text(path) for path in one.paths], "devices": list(one.devices)}
                for one in self.left
            ],
            "refused": dict(self.refused),
        }


class Healer:
    """Watches for what is missing, and puts it back, for one vault. `now`: seconds that only run forward."""

    def __init__(self, vault: "Vault", now: Callable[[], float] = trio.current_time) -> None:
        self._vault = vault
        self._now = now
        self._lock = trio.Lock()
        self._due: dict[str, float] = {}
        """When what is missing is put back, by name; in seconds as `now` tells them."""
        self._absent: dict[str, float] = {}
        """What the last look for it found missing, and since when."""
        self._waiting: dict[bytes, float] = {}
        """Logs that cannot be read on, and since when."""
        self._rollups = WholeRollups(vault)
        self._next_look = self._next_packs = 0.0
        self._away = 0.0
        """Since when the store has not answered; 0.0 if it does."""
        self._said: dict[str, str] = {}
        self._logged: set[str] = set()

    # ---- by itself ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look every minute, until cancelled."""
        self._next_look = self._now() + chance().uniform(_SOON, _LOOK_EVERY)
        while True:
            await trio.sleep(_EVERY)
            try:
                await self.watch()
            except CryptfsError as err:  # the store is away, say: what is missing is missing a minute later, too
                log.debug("no look at what is missing: %s", err)

    async def watch(self) -> None:
        """One look: what is missing, what to say about it, and what is due to be put back. Raises StoreError."""
        vault, now = self._vault, self._now()
        if vault.sender.state.state == "unreachable":
            self._away = self._away or now
        elif self._away:  # somebody may have had the folder in hands meanwhile: what is not all back is said soon
            self._next_look = now
            if now - self._away >= _PATIENCE:
                self._next_packs = now
            self._away = 0.0
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY
            await self._look()
            vault.copies.tidy()
        await self._look_again(now)
        self._note_waits(now)
        for name in self._missing():
            self._due.setdefault(name, now + _PATIENCE + chance().uniform(0.0, _DELAY))
        self._due = {name: due for name, due in self._due.items() if name in self._missing()}
        due = [name for name, at in self._due.items() if now >= at and not self._may_be_over(name)]
        if due and self._may_heal():
            await self.put_back(in_order(due), log.info)
            for name in due:  # what could not be put back now is tried again in an hour
                self._due[name] = now + _PATIENCE
        self._tell()

    def _missing(self) -> set[str]:
        damaged = self._vault.cache.damaged
        absent = {name for name, since in self._absent.items() if self._now() - since >= _SOON}
        return {name for name, why in damaged.items() if why == MISSING} | absent

    def _may_be_over(self, name: str) -> bool:
        """Whether this device is so far behind in a log that it cannot tell what is missing from what was deleted."""
        parsed = parse_name(name)
        return isinstance(parsed, SegmentName) and parsed.log_id in self._vault.reader.gaps()

    def _may_heal(self) -> bool:
        vault = self._vault
        return not (vault.options.read_only or vault.trust.stops or vault.standing.role is None)

    async def _look(self) -> None:
        """Compare what should be there with what is. Who has a pack here would not miss it by reading."""
        vault, now = self._vault, self._now()
        await vault.exchange.pull(thorough=True)
        packs = now >= self._next_packs or Cap.STRONG_LIST in vault.sender.store.caps
        listed = [*vault.exchange.listed]
        if packs:
            self._next_packs = now + _PACKS_EVERY
            listed += await vault.sender.list("p")
        if await vault.sender.size(GENESIS) is not None:
            listed.append(GENESIS)
        found = set(await self._absent_from(listed, packs=packs))
        if not packs:
            found |= {name for name in self._absent if isinstance(parse_name(name), PackName)}
        self._absent = {name: self._absent.get(name, now) for name in found}

    async def _look_again(self, now: float) -> None:
        """What was absent from one listing may have been there all the time."""
        for name in [name for name, since in self._absent.items() if now - since >= _SOON]:
            if name not in self._due and await self._vault.sender.size(name) is not None:
                self._is_back(name)

    def _note_waits(self, now: float) -> None:
        """Logs that others' segments, or their own, cannot be read without."""
        waits = self._vault.reader.waits
        for_ = {other for log_id, others in waits.items() for other in others or {log_id}}
        self._waiting = {log_id: self._waiting.get(log_id, now) for log_id in for_}

    # ---- words ----------------------------------------------------------------------------------------------------

    @property
    def words(self) -> list[str]:
        """What is missing and where it may come from, for people."""
        names = in_order(self._missing())
        said = [self._words(name) for name in names[:_SHOWN]]
        if len(names) > _SHOWN:
            said.append(f"{len(names) - _SHOWN} more objects are missing in the folder; `cryptfs fsck` names them.")
        return [*dict.fromkeys(said), *self._words_of_waits()]

    def _words(self, name: str) -> str:
        if name not in self._said:
            vault = self._vault
            self._said[name] = words_of(harm_of(vault, name), here=vault.copies.may_have(name))
        return self._said[name]

    def _words_of_waits(self) -> list[str]:
        now = self._now()
        waited = {log_id: now - since for log_id, since in self._waiting.items()}
        soon = [log_id for log_id, seconds in waited.items() if _SOON <= seconds < _PATIENCE]
        long = [log_id for log_id, seconds in waited.items() if seconds >= _PATIENCE]
        return waiting_words(self._vault, soon, long=False) + waiting_words(self._vault, long, long=True)

    def _tell(self) -> None:
        """Write into the log what is news. Names of files are for `status`."""
        missing = self._missing()
        self._said = {name: words for name, words in self._said.items() if name in missing}
        said = {name: f"{name} is missing in the folder; `cryptfs status` says what that means" for name in missing}
        said.update((words, words) for words in self._words_of_waits())
        for key in sorted(said.keys() - self._logged):
            log.warning("%s", said[key])
        self._logged = set(said)

    # ---- putting back ---------------------------------------------------------------------------------------------

    async def heal(self, say: Say = log.debug) -> Healed:
        """Put back at once whatever is missing and lies here, after a look at all of the store.

        Raises StoreError, HostileStore, LocalDisk; what was put back stays so.
        """
        vault = self._vault
        await vault.exchange.pull()
        listed = await vault.sender.list("")
        known = {name for name, why in vault.cache.damaged.items() if why == MISSING}
        return await self.put_back(in_order({*await self._absent_from(listed), *known}), say)

    async def _absent_from(self, listed: list[str], *, packs: bool = True) -> list[str]:
        """See `absent_objects`. A rollup stands for segments only once it was read. Raises StoreError."""
        await self._rollups.learn(listed, unshown(self._vault, listed))
        return absent_objects(self._vault, listed, holds=self._rollups.may_hold, packs=packs)

    async def put_back(self, names: list[str], say: Say) -> Healed:
        """Put back those of the objects that are not there, in this order. Raises as `heal`."""
        vault, done = self._vault, Healed()
        async with self._lock:
            for name in names:
                if await vault.sender.size(name) is not None:  # somebody else was quicker, or the listing was behind
                    self._is_back(name)
                    continue
                copy = await vault.copies.find(name)
                if copy is None:
                    done.left.append(harm_of(vault, name))
                    continue
                vault.faults.step("heal.put")
                try:
                    await vault.sender.put(name, copy)
                except StoreError as err:
                    done.refused[name] = f"{err} {err.advice}".strip()
                    continue
                say(f"{name} is put back.")
                done.note(name, copy)
                self._is_back(name)
            if any(not isinstance(parse_name(name), PackName) for name in done.restored):
                await vault.exchange.pull(thorough=True)  # alarms end by what the folder shows
        if done.restored:
            log.warning("%d objects that were missing in the store are put back", len(done.restored))
        return done

    def _is_back(self, name: str) -> None:
        for known in (self._absent, self._due, self._said):
            known.pop(name, None)
        if self._vault.cache.damaged.get(name) == MISSING:
            del self._vault.cache.damaged[name]


def _text(path: bytes) -> str:
    return path.decode(errors="backslashreplace")
