"""What `cryptfs fsck` checks: that the tree keeps its rules, that the store has every object it should have, and that
objects are what they claim.

For an open vault, mounted or not; nothing is changed. A broken object is reported once, with the files it harms.
"""  # noqa: D205 - one sentence

import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.crypto.keys import chance
from cryptfs.errors import HostileStore, NeedsUpdate, NotFound, StoreError
from cryptfs.format.content import WHERE_BODY2, WHERE_PACK
from cryptfs.format.names import (
    GenesisName,
    PackName,
    RollupName,
    SegmentName,
    StatementName,
    WrapsName,
    pack_name,
    parse_name,
    segment_name,
)
from cryptfs.format.operation import KIND_FILE
from cryptfs.tree.merge_containers import IN_USE, RETIRED
from cryptfs.tree.soundness import Flaw, flaws
from cryptfs.vault.absence import absent_objects, harm_of, in_order
from cryptfs.vault.checkpoints import covered, newest_first
from cryptfs.vault.containers import Ref
from cryptfs.vault.healing import Healed
from cryptfs.vault.info import path_of
from cryptfs.vault.inspecting import Inspector
from cryptfs.vault.records import locate
from cryptfs.vault.replacing import replace_damaged

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Checker", "Problem", "Report", "check"]

_AT_ONCE: Final = 6
"""Objects looked at side by side."""
_BREATH: Final = 64
"""Files after which programs have their turn."""
_PATHS_MAX: Final = 1000
"""Paths told of one object."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with `subject`, and the paths it harms; `object` is its name in the store, if it is one."""

    subject: str
    text: str
    paths: tuple[str, ...] = ()
    object: str = ""


@dataclass(slots=True)
class Report:
    """What was looked at, and what was wrong."""

    statements: int = 0
    segments: int = 0
    checkpoints: int = 0
    packs: int = 0
    files: int = 0
    objects: int = 0
    objects_read: int = 0
    unsent: int = 0
    unused: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Packs in the store that no present file needs, (number, bytes), by why they are there."""
    problems: list[Problem] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """For commands."""
        return asdict(self)


async def check(vault: "Vault", percent: float, say: Say, *, heal: bool, replace: bool) -> tuple[Report, Healed | None]:
    """Check everything; before, put back what is missing, and afterwards replace what is damaged, if that is wanted.

    What could be replaced is no problem any more. Raises as `Checker.run`, and as `Healer.heal`.
    """
    healed = await vault.healer.heal(say) if heal or replace else None
    report = await Checker(vault, say).run(percent)
    if healed is not None and replace:
        done = await replace_damaged(vault, {one.object for one in report.problems} - {""}, say)
        cured = set(done.restored) - set(done.refused)
        cured |= {one.object for one in report.problems if await _is_needless(vault, one.object)}
        report.problems = [one for one in report.problems if one.object not in cured]
        healed.add(done)
        healed.left = list({one.name: one for one in healed.left}.values())
    return report, healed


async def _is_needless(vault: "Vault", name: str) -> bool:
    """Whether it is a rollup whose segments are all in other objects."""
    parsed = parse_name(name)
    return isinstance(parsed, RollupName) and not await Inspector(vault).lacking(parsed)


class Checker:
    """One check of an open vault; `say` is told what is looked at."""

    def __init__(self, vault: "Vault", say: Say) -> None:
        self._vault = vault
        self._say = say
        self._inspector = Inspector(vault)
        self._report = Report()
        self._there: dict[str, int] = {}
        """Names and sizes of all objects; packs as if they lay in one folder."""
        self._users: dict[str, set[bytes]] = defaultdict(set)
        """Objects that hold a present file, each with the paths it serves."""
        self._records: dict[str, set[tuple[int, bytes]]] = defaultdict(set)
        """(offset, hash) of what present files use of each pack."""

    async def run(self, percent: float) -> Report:
        """Check everything, and `percent` of the packs and checkpoints to the last byte. Raises StoreError."""
        await self._vault.exchange.pull(thorough=True)
        for stat in await self._vault.sender.stats(""):
            parsed = parse_name(stat.key)
            if parsed is not None:
                self._there[pack_name(parsed.id) if isinstance(parsed, PackName) else stat.key] = stat.size
        await self._tree()
        await self._files()
        await self._missing()
        await self._membership()
        await self._logs()
        await self._packs(percent)
        await self._checkpoints(percent)
        return self._report

    # ---- here -------------------------------------------------------------------------------------------------------

    async def _tree(self) -> None:
        """The rules of the tree, of what is written of it now."""
        self._say("Looking at the tree.")
        replica = self._vault.replica
        replica.commit()
        beside = replica.beside()
        try:
            found = await trio.to_thread.run_sync(lambda: list(flaws(beside)))
        finally:
            beside.close()
        self._report.problems += [self._flaw(one) for one in found]

    def _flaw(self, flaw: Flaw) -> Problem:
        path = os.fsdecode(b"/" + path_of(self._vault.replica, flaw.st)) if flaw.st else ""
        advice = f"{flaw.text}; delete the folder of the cache while it is not mounted: it is built again"
        return Problem(path or "the tree", advice, (path,) if path else ())

    async def _files(self) -> None:
        """What every present file needs. Others may work meanwhile, so each is looked at as it is in its turn."""
        vault, report = self._vault, self._report
        for number, (path, st) in enumerate(list(vault.replica.walk())):
            if number % _BREATH == 0:
                self._say(f"Looking at files: {number}.")
                await trio.lowlevel.checkpoint()
            node = vault.replica.node(st)
            if node is None or node.kind != KIND_FILE:
                continue
            report.files += 1
            try:
                await self._file(path, st)
            except (HostileStore, NeedsUpdate, NotFound) as err:
                report.problems.append(Problem(os.fsdecode(path), str(err), (os.fsdecode(path),)))
        report.objects = len(self._users)

    async def _file(self, path: bytes, st: int) -> None:
        """Raises as reading does."""
        vault, unsent = self._vault, False
        content = vault.open_file(st)
        try:
            await content.load_all()
            refs = [content.map.get(index) for index in content.present_chunks()]
            base = content.map.base
            if base.manifest is not None and base.root is not None:
                manifests = [base.manifest, *(page for page in base.root.pages if page is not None)]
                refs += [Ref(vault.container(one.loc), one.loc.off, 0, one.hash) for one in manifests]
        finally:
            vault.release_file(content)
        for ref in refs:
            if ref is None:
                continue
            holder, off = locate(ref)
            if not holder.id:
                unsent = True
            elif holder.where == WHERE_BODY2:
                self._users[vault.cache.segments.name(holder.id) or f"segment {holder.id.hex()}"].add(path)
            else:
                self._users[pack_name(holder.id)].add(path)
                self._records[pack_name(holder.id)].add((off, ref.hash))
        self._report.unsent += unsent

    # ---- in the store -----------------------------------------------------------------------------------------------

    async def _missing(self) -> None:
        """What should be there and is not, and packs that are there for nothing."""
        vault, there = self._vault, self._there
        absent = {*absent_objects(vault, there), *(self._users.keys() - there.keys())}
        for name in in_order(one for one in absent if not isinstance(parse_name(one), SegmentName)):
            if parse_name(name) is None or await vault.sender.size(name) is None:  # else it came meanwhile
                paths = self._paths(name) or tuple(map(os.fsdecode, harm_of(vault, name).paths[:_PATHS_MAX]))
                self._problem(name, "is missing in the store", paths)
        for name, size in there.items():
            why = self._why_unused(name)
            if why:
                count, amount = self._report.unused.get(why, (0, 0))
                self._report.unused[why] = count + 1, amount + size

    def _why_unused(self, name: str) -> str:
        parsed = parse_name(name)
        if not isinstance(parsed, PackName) or name in self._users:
            return ""
        container = self._vault.replica.rows.container(WHERE_PACK, parsed.id)
        if container is None:
            return "no segment names them: left by a crash, or on their way"
        if container.state == RETIRED:
            return "retired: deleted once every device has acknowledged it"
        return "kept for old versions and the trash, or not looked at yet"

    async def _membership(self) -> None:
        """The genesis, statements and wraps."""
        names = [name for name in self._there if isinstance(parse_name(name), GenesisName | StatementName | WrapsName)]
        self._report.statements = len(names)
        await self._each(names, self._inspector.membership_object)

    async def _logs(self) -> None:
        """Signatures of all segments, and that none is missing."""
        vault, inspector = self._vault, self._inspector
        for name in sorted(self._there):
            parsed = parse_name(name)
            if isinstance(parsed, SegmentName | RollupName):
                self._say(f"Looking at {name}.")
                try:
                    wrong = await inspector.log_object(name, parsed)
                except NotFound:
                    continue  # rolled up meanwhile
                if wrong and not (isinstance(parsed, RollupName) and not await inspector.lacking(parsed)):
                    who = vault.membership.name_of_log(parsed.log_id)
                    self._problem(name, f"in the log of {who}: {wrong}", self._paths(name))
        spared = await covered(vault.sender, vault.log_objects, vault.membership)
        gaps = {
            (log_id, seq)
            for log_id, log in inspector.logs.items()
            for seq in log.missing()
            if seq > spared.get(log_id, -1)
        }
        absent = (parse_name(name) for name in absent_objects(vault, self._there, packs=False))
        gaps |= {(one.log_id, one.seq) for one in absent if isinstance(one, SegmentName)}
        self._report.segments = sum(len(log.digests) for log in inspector.logs.values())
        for log_id, seq in sorted(gaps):
            await self._gap(log_id, seq)

    async def _gap(self, log_id: bytes, seq: int) -> None:
        vault = self._vault
        digest = vault.standing.logs.digest_at(log_id, seq)
        name = segment_name(log_id, seq, digest) if digest is not None else ""
        if digest is None or not await self._inspector.has_segment(log_id, seq, digest):
            subject = f"log of {vault.membership.name_of_log(log_id)}"
            self._report.problems.append(Problem(subject, f"segment {seq} is missing", self._paths(name), name))

    async def _packs(self, percent: float) -> None:
        """Header and index of every pack that counts, and of some each byte."""
        used = [name for name in self._there if isinstance(parse_name(name), PackName) and self._counts(name)]
        self._report.packs = len(used)

        async def index(name: str) -> str:
            return await self._inspector.pack_index(name, self._there[name], self._records.get(name, ()))

        async def whole(name: str) -> str:
            parsed = parse_name(name)
            self._report.objects_read += 1
            ident = parsed.id if isinstance(parsed, PackName) else b""
            return await self._inspector.pack_bytes(name, self._there[name], ident)

        chosen = set(chance().sample(sorted(used), round(len(used) * percent / 100)))
        await self._each(sorted(chosen), whole)
        wrong = {problem.object for problem in self._report.problems}
        await self._each([name for name in sorted(used) if name not in wrong], index)

    def _counts(self, name: str) -> bool:
        parsed = parse_name(name)
        if name in self._users or not isinstance(parsed, PackName):
            return name in self._users
        container = self._vault.replica.rows.container(WHERE_PACK, parsed.id)
        return container is not None and container.state == IN_USE

    async def _checkpoints(self, percent: float) -> None:
        vault = self._vault
        sizes = dict(await newest_first(vault.sender, vault.membership))
        whole = set(chance().sample(sorted(sizes), round(len(sizes) * percent / 100)))

        async def look(name: str) -> str:
            return await self._inspector.checkpoint(name, sizes[name], blocks=name in whole)

        self._report.checkpoints = len(sizes)
        await self._each(sorted(sizes), look)

    async def _each(self, names: list[str], look: Callable[[str], Awaitable[str]]) -> None:
        """Look at several objects side by side; one that goes away meanwhile is no longer one of them."""
        failed: list[Exception] = []
        limit = trio.CapacityLimiter(_AT_ONCE)

        async def one(name: str) -> None:
            async with limit:
                self._say(f"Looking at {name}.")
                try:
                    wrong = await look(name)
                except NotFound:
                    return
                except StoreError as err:  # one by one, not as a group: whoever asks is told what went wrong
                    failed.append(err)
                    nursery.cancel_scope.cancel()
                    return
            if wrong:
                self._problem(name, wrong, self._paths(name))

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(one, name)
        if failed:
            raise failed[0]

    def _problem(self, name: str, text: str, paths: tuple[str, ...] = ()) -> None:
        self._report.problems.append(Problem(name, text, paths, name))

    def _paths(self, name: str) -> tuple[str, ...]:
        return tuple(os.fsdecode(path) for path in sorted(self._users.get(name, ()))[:_PATHS_MAX])
