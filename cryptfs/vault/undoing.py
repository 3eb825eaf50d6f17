"""Undoing what one device did since some time: for mass damage, by a bad program or by somebody hostile.

Nothing is rewritten: the history stays, and what the device replaced, deleted or moved is brought back by `restore`,
`undelete` and `rename` operations, as by hand. What others did since then stays as it is and is told. Files that the
device made stay, too: they may be in the way of nobody, and deleting is for a person to decide.

"Since" is found by the device's own clock, in the order of its log: its first segment that claims a time at or after
it, and all that follow.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from cryptfs.errors import Damaged, HostileStore, NotAllowed, Retry, StoreError, UsageError
from cryptfs.format.operation import KIND_DIR, RENAME_EXCHANGE, Create, Link, Op, Rename, Undelete
from cryptfs.format.statement import Add, Genesis
from cryptfs.tree.ids import op_id_of, split
from cryptfs.tree.past import all_entries, all_nodes, all_replaced, moment_of, moments_at, moments_since
from cryptfs.tree.rows import Entry, NodeRow
from cryptfs.vault.info import path_of
from cryptfs.vault.oldcontent import require_there, sealed_content
from cryptfs.vault.past import Past, Version
from cryptfs.vault.restoring import Restorer, prepare_to_change, require_sent

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Plan", "Repair", "Undoing"]

T = TypeVar("T")

_ID_MIN: Final = 6
_BETWEEN: Final = 500
"""Rows looked at, or nodes repaired, between two looks at what else is to be done."""
_STEPS_MAX: Final = 64
"""Renames followed back to the name a thing had before."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing to do to the node `st`: give it the content `version`, a name (`parent`, `name`), or both.

    `what`: "content", "undelete" or "move"; `path`: where it will be.
    """

    what: str
    st: int
    path: bytes
    version: Version | None = None
    parent: int = 0
    name: bytes = b""


@dataclass(slots=True)
class Plan:
    """What would be done, what cannot be or is not (path, why), how many things of the device's own stay."""

    devices: list[str]
    repairs: list[Repair] = field(default_factory=list)
    left: list[tuple[bytes, str]] = field(default_factory=list)
    made: int = 0


class Undoing:
    """One undoing; `since_ms` in ms since 1970. Raises UsageError if nobody is called `who`, or did nothing since."""

    def __init__(self, vault: "Vault", who: str, since_ms: int) -> None:
        self._vault = vault
        self._replica = vault.replica
        self.past = Past(vault)
        self._restorer = Restorer(vault)
        self._there: set[str] = set()
        entries = _entries_named(vault, who)
        self.devices = [vault.membership.name_of(one) for one in entries]
        self._first: dict[bytes, int] = {}
        for log in (log for one in entries for log in vault.membership.graph.logs_of(one)):
            moments = moments_since(self._replica, log, since_ms)
            if moments:
                self._first[log] = moments[0].first_op

    # ---- whose it is ----------------------------------------------------------------------------------------------

    def _his(self, ver: bytes) -> bool:
        """Whether a version, or a link, is the device's doing since then, and nobody else's too."""
        ids = split(self._replica.ids.external(ver))
        return bool(ids) and all(self._his_op(one) for one in ids)

    def _his_op(self, op: bytes) -> bool:
        ident = op_id_of(op)
        first = self._first.get(ident.log)
        return first is not None and ident.n >= first

    async def _dropped(self, node: NodeRow) -> bool:
        made = await self.past.authors.of_drop(node)
        at = moments_at(self._replica, node.gone_l or 0)
        return len(made.logs) == 1 and any(
            one.log == made.logs[0] and one.first_op >= self._first.get(one.log, 1 << 62) for one in at
        )

    # ---- planning -------------------------------------------------------------------------------------------------

    async def plan(self) -> Plan:
        """Find out what is to be done; changes nothing. Raises StoreError only if the store fails in between."""
        plan = Plan(self.devices)
        if not self._first:
            return plan
        harmed = {old.st for old in all_replaced(self._replica) if self._his(old.cver)}
        async for node in _slowly(all_nodes(self._replica)):
            if node.gone_l is None:
                await self._plan_content(plan, node, harmed)
            elif node.gone_l >= 0 and await self._dropped(node):
                await self._plan_undelete(plan, node)
        async for entry in _slowly(all_entries(self._replica)):
            if self._his(entry.lver):
                await self._plan_name(plan, entry)
        # Folders come back before what is in them, so that nothing has to be brought back on the way.
        plan.repairs.sort(key=lambda one: (one.what == "move", one.path.count(b"/"), one.path))
        return plan

    def _good(self, node: NodeRow) -> Version | None:
        """The newest version of a node that is not the device's."""
        return next((one for one in self.past.of_node(node) if not self._his(one.ver)), None)

    async def _plan_content(self, plan: Plan, node: NodeRow, harmed: set[int]) -> None:
        if not self._his(node.cver):
            if node.st in harmed:
                plan.left.append((path_of(self._replica, node.st), "somebody saved it since: look at its versions"))
            return
        good = self._good(node)
        if good is None:
            plan.made += 1
        elif await self._can_be_had(plan, path_of(self._replica, node.st), good):
            plan.repairs.append(Repair("content", node.st, path_of(self._replica, node.st), good))

    async def _plan_undelete(self, plan: Plan, node: NodeRow) -> None:
        good = self._good(node)
        path = self.past.path_of_gone(node)
        if good is None or node.last_parent is None:
            return  # the device had made it itself
        if await self._can_be_had(plan, path, good):
            version = good if good.standing == "old" else None
            plan.repairs.append(Repair("undelete", node.st, path, version, node.last_parent, node.last_name or b"?"))

    async def _plan_name(self, plan: Plan, entry: Entry) -> None:
        node = self._replica.rows.node(entry.st)
        if node is None or self._good(node) is None:
            return
        now = path_of(self._replica, entry.parent) + b"/" + entry.name
        before = await self._name_before(entry.lver)
        if before is None:
            plan.left.append((now.lstrip(b"/"), "it was moved or linked here, and from where is not known"))
            return
        parent, name = before
        if (parent, name) != (entry.parent, entry.name):
            plan.repairs.append(Repair("move", entry.st, self._path_in(parent, name), None, parent, name))

    def _path_in(self, parent: int, name: bytes) -> bytes:
        """Path of a name in a directory that may be in the trash."""
        node = self._replica.rows.node(parent)
        gone = node is not None and node.gone_l is not None
        above = self.past.path_of_gone(node) if node is not None and gone else path_of(self._replica, parent)
        return above + b"/" + name if above else name

    async def _name_before(self, lver: bytes) -> tuple[int, bytes] | None:
        """Directory and name before the device's first rename; None if that cannot be found out."""
        ids = split(self._replica.ids.external(lver))
        for _ in range(_STEPS_MAX):
            op = await self._operation(ids[0])
            if not self._his_op(ids[0]):
                return _placed_at(self._replica.state.find, op)
            if not isinstance(op, Rename) or op.flags == RENAME_EXCHANGE:
                return None
            ids = split(self._replica.ids.external_of(op.lver))
        return None

    async def _operation(self, ident: bytes) -> Op | None:
        moment = moment_of(self._replica, ident)
        if moment is None:
            return None
        try:
            return (await self.past.authors.operations(moment))[op_id_of(ident).n - moment.first_op]
        except (StoreError, HostileStore, NotAllowed):
            return None

    async def _can_be_had(self, plan: Plan, path: bytes, version: Version) -> bool:
        content = self.past.content_of(version)
        if content is None:
            return True
        try:
            await require_there(self._vault, sealed_content(self._vault, version, content), self._there)
        except Damaged as err:
            plan.left.append((path, str(err)))
            return False
        return True

    # ---- carrying out ---------------------------------------------------------------------------------------------

    async def carry_out(self, plan: Plan) -> None:
        """Do it; what turned out to be impossible is added to `plan.left`. Raises NotAllowed before any change."""
        await prepare_to_change(self._vault)
        done: list[Repair] = []
        for count, one in enumerate(plan.repairs):
            try:
                self._vault.exchange.show(partial(self._repair, one))
                done.append(one)
            except (Retry, UsageError) as err:
                plan.left.append((one.path, str(err)))
            if count % _BETWEEN == 0:
                await trio.lowlevel.checkpoint()
        plan.repairs = done
        await self._vault.commit()

    def _repair(self, one: Repair) -> None:
        replica, vault = self._replica, self._vault
        node = replica.rows.node(one.st)
        if node is None:
            raise UsageError("it is no longer kept")
        require_sent(vault, one.st)
        if one.what == "move":
            link = next((link for link in replica.links(one.st) if self._his(link.lver)), None)
            if link is None:
                raise UsageError("somebody else moved it since")
            lver, parent = replica.extern_ver(link.lver), replica.ino_of(one.parent)
            vault.submit(Rename(replica.ino_of(one.st), lver, parent, one.name, None, 0))
            return
        version = one.version or next(iter(self.past.of_node(node)))
        if one.what == "content" and not self._his(node.cver):
            raise UsageError("somebody saved it since")
        self._restorer.bring_back(version, node, one.parent, one.name, self._in_the_way(one))

    def _in_the_way(self, one: Repair) -> Entry | None:
        """What has the name and may go to the trash for it: a file that the device made."""
        held = self._replica.lookup(one.parent, one.name) if one.what == "undelete" else None
        if held is None or held.kind == KIND_DIR:
            return None
        node = self._replica.rows.node(held.st)
        return held if node is not None and self._good(node) is None else None


async def _slowly(rows: Iterable[T]) -> AsyncIterator[T]:
    """The rows, with a look now and then at what else is to be done."""
    for count, row in enumerate(rows):
        if count % _BETWEEN == 0:
            await trio.lowlevel.checkpoint()
        yield row


def _placed_at(find: Callable[[bytes], NodeRow | None], op: Op | None) -> tuple[int, bytes] | None:
    """Directory and name that an operation gave."""
    if isinstance(op, Create | Link | Undelete):
        node, name = find(op.p), op.name
    elif isinstance(op, Rename) and op.flags != RENAME_EXCHANGE:
        node, name = find(op.p2), op.name2
    else:
        return None
    return None if node is None else (node.st, name)


def _entries_named(vault: "Vault", who: str) -> list[bytes]:
    """Ids of the entries, in or out, that a word means: a member, one device of it (NAME/DEVICE), or an id."""
    graph = vault.membership.graph
    by_member: dict[bytes, list[bytes]] = {}
    exact: list[bytes] = []
    for one in graph.entries():
        op = graph.node(one.entry).statement.payload.op if one.entry in graph else None
        if not isinstance(op, Add | Genesis):
            continue
        ident = len(who) >= _ID_MIN and one.entry.hex().startswith(who.lower())
        if ident or who in (f"{op.display}/{op.device.label}", f"{op.display} ({op.device.label})"):
            exact.append(one.entry)
        elif op.display == who:
            by_member.setdefault(one.member, []).append(one.entry)
    if len(exact) == 1:
        return exact
    if not exact and len(by_member) == 1:
        return next(iter(by_member.values()))
    many = exact or [entry for entries in by_member.values() for entry in entries]
    if many:
        ids = ", ".join(one.hex()[:8] for one in many)
        raise UsageError(f"'{who}' can mean several: {ids}", "Give one of these ids instead.")
    raise UsageError(f"There was never anybody called '{who}'.", "See `cryptfs-admin members`.")
