"""Several devices that write, sleep, crash and collect in one folder, and what must hold at every moment.

Listings lag and some devices are away for long, so that what one retires another may be using. One seed, one history.
Numbers in comments are those of docs/replication.md, "Invariants".
"""

import random
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from cryptfs.errors import CryptfsError
from cryptfs.format.names import log_prefix
from cryptfs.format.operation import KIND_FILE, Restore, Unlink
from cryptfs.group.authority import Tier
from cryptfs.store import Buffer, Call, Knobs, SimStore, SimWorld
from cryptfs.tree.places import Place, Used, present_place, wire_places
from cryptfs.vault.content import FileContent
from cryptfs.vault.opening import open_vault
from cryptfs.vault.records import locate
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.vault_faults import CancelAt, state_of
from tests.vault.vault_workshop import make_file, read_file

CHUNK = 1 << 16
NAMES = [b"a", b"b", b"c"]


@dataclass
class Member:
    """One device of the group: its vault while it runs, and a file that it has open for writing."""

    device: Device
    world: SimWorld
    seed: int
    knobs: Knobs = field(default_factory=Knobs)
    gone: list[str] = field(default_factory=list)
    handle: FileContent | None = None
    asleep: int = 0

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        store = SimStore(self.world, self.seed, self.knobs)
        self.closing, self.closed = trio.Event(), trio.Event()
        async with open_vault(self.device.home, self.device.keys, store) as vault:
            self.vault: Vault = vault

            async def drop_dead(seconds: float = 3.0) -> None:
                vault.sender.give_up()

            delete = vault.sender.delete

            async def told(key: str) -> None:
                """27: only the holder deletes, of logs only who writes them, of checkpoints only who made them."""
                if key.startswith("c/"):
                    assert vault.standing.entry[:8].hex() in key, "another's checkpoint is deleted"
                    await delete(key)
                    return
                if key.startswith("l/"):
                    assert key.startswith(log_prefix(vault.standing.log_id)), "another's log object is deleted"
                    await delete(key)
                    return
                row = vault.replica.rows.container(1, bytes.fromhex(key[2:]))
                assert row is not None, "a pack is deleted that its device knows nothing of"
                assert row.holder == vault.standing.log_id, "a pack is deleted by another than its holder"
                self.gone.append(key)
                await delete(key)

            vault.sender.delete = told  # type: ignore[method-assign]
            vault.shut_down = drop_dead  # type: ignore[method-assign]
            task_status.started()
            await self.closing.wait()
        self.handle = None
        self.closed.set()


class Group:
    """The folder and its devices; `step` lets one of them do something."""

    def __init__(self, base: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.base = base
        self.members: list[Member] = []
        self.world = SimWorld()
        self.deleted = 0
        self.late: Device | None = None

    async def found(self, nursery: trio.Nursery, others: int, *, late: bool = False) -> None:
        """Anna, and others whom she lets in; `late`: also a reader, whose device is not opened yet."""
        self._nursery = nursery
        self.base.mkdir(exist_ok=True)
        world = World(self.base)
        devices = [world.anna] + [await world.admit(f"M{i}", Tier.WRITER) for i in range(others)]
        self.late = await world.admit("Rita", Tier.READER) if late else None
        for path in sorted(world.folder.rglob("*")):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(world.folder).parts):
                data: Buffer = path.read_bytes()
                self.world.put(path.relative_to(world.folder).as_posix(), data, Call())
        for number, device in enumerate(devices):
            member = Member(device, self.world, number)
            self.members.append(member)
            await nursery.start(member.run)
        for _ in range(2):
            for member in self.members:
                await member.vault.exchange.pull()
                await member.vault.acknowledging.now()

    async def crash(self, member: Member) -> None:
        """Killed, and started again."""
        member.closing.set()
        await member.closed.wait()
        await self._nursery.start(member.run)

    # ---- what a device may do ---------------------------------------------------------------------------------------

    async def argue(self) -> None:
        """Nothing but quarrels about one file."""
        member = self.rng.choice(self.members)
        await self._argue(member)
        self.check(member)

    async def step(self) -> None:
        """One of them does something, or sleeps on."""
        member = self.rng.choice(self.members)
        if member.asleep > 0:
            member.asleep -= 1
            return
        acts = {
            self._write: 4, self._patch: 1, self._open: 3, self._remove: 1, self._restore: 1, self._seal: 2,
            self._pull: 1, self._round: 3, self._collect: 2, self._collect_while_others_write: 2, self._argue: 1,
            self._die_collecting: 1, self._sleep: 1, self._crash: 0.5,
        }  # fmt: skip
        act = self.rng.choices(list(acts), list(acts.values()))[0]
        with suppress(CryptfsError):  # the store lags and forgets: what did not go now goes later
            await act(member)
        self.check(member)

    async def _write(self, member: Member) -> None:
        content = self._content(member, self.rng.choice(NAMES))
        size = self.rng.randrange(1, 5 * CHUNK)
        await content.truncate(0, 1)
        await content.write(0, self.rng.randbytes(size), self.rng.getrandbits(40))
        member.vault.release_file(content)

    async def _patch(self, member: Member) -> None:
        """Change a part of any file: the rest stays where it lies."""
        content = self._content(member, self.rng.choice(NAMES))
        await self._change(content)
        member.vault.release_file(content)

    async def _open(self, member: Member) -> None:
        """Begin to change a file, and leave it open for long; what was written stays in memory meanwhile."""
        if member.handle is None:
            member.handle = self._content(member, self.rng.choice(NAMES))
            await self._change(member.handle)
        elif self.rng.random() < 0.15:
            handle, member.handle = member.handle, None
            member.vault.release_file(handle)
        else:
            await self._change(member.handle)

    async def _change(self, content: FileContent) -> None:
        offset = self.rng.randrange(max(1, content.size))
        await content.write(offset, self.rng.randbytes(100), self.rng.getrandbits(40))

    def _content(self, member: Member, name: bytes) -> FileContent:
        entry = member.vault.replica.lookup(1, name)
        if entry is not None and entry.kind != KIND_FILE:
            raise AssertionError("only files are made here")
        return member.vault.open_file(entry.st if entry is not None else make_file(member.vault, name))

    async def _remove(self, member: Member) -> None:
        replica = member.vault.replica
        entries = replica.entries(1)
        if entries:
            name, st, _ = self.rng.choice(entries)
            entry, node = replica.lookup(1, name), replica.node(st)
            assert entry is not None
            assert node is not None
            file = member.vault.files.get(st)
            if file is None or file.opens <= 0:
                member.vault.submit(
                    Unlink(replica.ino_of(st), replica.extern_ver(entry.lver), replica.extern_ver(node.cver))
                )

    async def _restore(self, member: Member) -> None:
        replica = member.vault.replica
        for name, st, _ in replica.entries(1):
            old, node = replica.rows.history(st), replica.node(st)
            if old and node is not None and st not in member.vault.files and replica.lookup(1, name):
                chosen = self.rng.choice(old)
                member.vault.submit(
                    Restore(replica.ino_of(st), replica.extern_ver(node.cver), replica.extern_ver(chosen.cver))
                )
                return

    async def _seal(self, member: Member) -> None:
        await member.vault.commit()
        await member.vault.sealer.seal(anyway=self.rng.random() < 0.3)

    async def _pull(self, member: Member) -> None:
        await member.vault.exchange.pull()

    async def _round(self, _: Member) -> None:
        """A quiet hour: whoever is awake reads, and says so."""
        for member in self.members:
            if member.asleep <= 0:
                await member.vault.exchange.pull()
                await member.vault.sealer.seal(anyway=True)

    async def _collect(self, member: Member) -> None:
        await member.vault.collector.run(now=True, history=self._lets_go(member))

    async def _collect_while_others_write(self, member: Member) -> None:
        """Others seal what they had open for long, without having seen what is retired at that moment."""

        async def write(other: Member) -> None:
            with suppress(CryptfsError):
                handle, other.handle = other.handle, None
                if handle is not None:
                    other.vault.release_file(handle)
                await other.vault.sealer.seal()

        async with trio.open_nursery() as nursery:
            for other in self.members:
                if other is not member and other.asleep <= 0:
                    nursery.start_soon(write, other)
            with suppress(CryptfsError):
                await member.vault.collector.run(now=True, history=member is self.members[0])

    async def _argue(self, member: Member) -> None:
        """One changes a part of what another replaces meanwhile, and says so only after the old version has expired."""
        other = self.rng.choice([one for one in self.members if one is not member])
        name = self.rng.choice(NAMES)
        for one in (member, other):
            one.asleep = 0
            if one.handle is not None:
                handle, one.handle = one.handle, None
                one.vault.release_file(handle)
        await self._replace(other, name)
        await self._rounds()
        member.handle = self._content(member, name)
        await self._change(member.handle)
        await self._replace(other, name)
        await self._rounds()
        first, racing = self.members[0], self.rng.random() < 0.5
        if other is not first or not racing:
            await first.vault.collector.run(now=True, history=True)
            await self._rounds()
        if racing:
            await self._collect_while_others_write(other)
        else:
            await other.vault.collector.run(now=True)
        await self._rounds()
        await other.vault.collector.run(now=True)

    async def _replace(self, member: Member, name: bytes) -> None:
        content = self._content(member, name)
        await content.truncate(0, 1)
        await content.write(0, self.rng.randbytes(4 * CHUNK), self.rng.getrandbits(40))
        member.vault.release_file(content)
        await member.vault.sealer.seal()

    async def _rounds(self) -> None:
        for _ in range(3):  # some do not see everything at once
            await self._round(self.members[0])

    def _lets_go(self, member: Member) -> bool:
        return member is self.members[0] and self.rng.random() < 0.7

    async def _die_collecting(self, member: Member) -> None:
        cancel = CancelAt(self.rng.randrange(1, 60))
        with cancel.here(), suppress(CryptfsError):
            await member.vault.collector.run(now=True, history=self._lets_go(member))
        if self.rng.random() < 0.5:
            member.vault.replica.commit()
        await self.crash(member)

    async def _sleep(self, member: Member) -> None:
        member.asleep = min(40, int(self.rng.paretovariate(0.8) * 3))

    async def _crash(self, member: Member) -> None:
        await self.crash(member)

    # ---- what must hold ---------------------------------------------------------------------------------------------

    def check(self, member: Member) -> None:
        """26: nothing live names what was deleted."""
        there = {stat.key for stat in self.world.list("p/", Call())}
        deleted = {key for one in self.members for key in one.gone}
        self.deleted = len(deleted)
        for one in self.members:
            if one.closed.is_set():
                continue
            for place in live_packs(one.vault):
                key = f"p/{place.id.hex()}"
                assert key in there or key not in deleted, f"{key[:10]} is in use by {one.device.name} and was deleted"

    async def quiesce(self) -> None:
        """Faults stop; everybody sends, reads, collects until nothing happens any more."""
        for member in self.members:
            member.knobs.rest()
            member.asleep = 0
            if member.handle is not None:
                handle, member.handle = member.handle, None
                member.vault.release_file(handle)
        for turn in range(12):
            before = {stat.key for stat in self.world.list("", Call())}
            for member in self.members:
                await member.vault.sync()
                await member.vault.acknowledging.now()
            for member in self.members:
                await member.vault.collector.run(now=True, history=turn == 0 and member is self.members[0])
                self.check(member)
            if {stat.key for stat in self.world.list("", Call())} == before:
                return
        raise AssertionError("it does not come to rest")

    async def judge(self) -> None:
        """Everybody agrees, everything reads also from the store alone, and space is as promised (28)."""
        first = self.members[0]
        state = state_of(first.vault)
        for member in self.members[1:]:
            assert state_of(member.vault) == state
        live = 0
        for name, st, _ in first.vault.replica.entries(1):
            node = first.vault.replica.node(st)
            assert node is not None
            live += node.size
            whole = await read_file(first.vault, name)
            for member in self.members[1:]:
                for path in member.device.home.cached_packs_dir.iterdir():
                    path.unlink()
                member.vault.cache._known.clear()
                member.vault.files.clear()
                member.vault.records._opened.clear()
                assert await read_file(member.vault, name) == whole
        stored = [stat.size for stat in self.world.list("p/", Call())]
        assert sum(stored) <= 2 * live + len(stored) * 8192 + 65536, (sum(stored), live, len(stored))


def live_packs(vault: Vault) -> set[Place]:
    """Packs that tree, history, trash and unsent changes name; found by looking at everything, not by the tables."""
    replica = vault.replica
    moves = replica.uses.moves()
    contents = [
        row[0] for row in replica._db.all("SELECT content FROM node UNION SELECT content FROM history") if row[0]
    ]
    used: list[Used] = []
    for op in contents:
        content = replica.facts.content(replica.ids.external(op))
        if content is not None:
            used += [there for one in wire_places(content) for there in present_place(one, moves)]
    found = {one.place for one in used if one.where == 1}
    for file in vault.files.values():
        if file.pending > 0 or file.changed:
            layers = [file.map.top.chunks, file.map.sealing.chunks if file.map.sealing else {}, file.map.base.chunks]
            for layer in layers:
                for index, ref in layer.items():
                    container = locate(ref)[0] if ref is not None else None
                    if container is not None and container.where == 1 and file.map.get(index) is ref:
                        found.add(Place(1, container.id))
    return found
