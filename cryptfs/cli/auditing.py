"""`cryptfs-admin audit`: who did what, in the order of who had seen what, each act signed; and what is odd."""

import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.evidence import read_membership
from cryptfs.cli.joining import at_store
from cryptfs.cli.output import document, line, safe, table
from cryptfs.cli.unlocking import unlock
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import eid
from cryptfs.format.statement import (
    HOW_CERTIFICATE,
    HOW_TOKEN,
    Accept,
    Add,
    Close,
    Genesis,
    NewLog,
    Remove,
    Renew,
    Rotate,
    SetPolicy,
    StatementOp,
)
from cryptfs.group.audit import audit as find_oddities
from cryptfs.group.authority import Tier
from cryptfs.group.graph import Node
from cryptfs.group.membership import Membership
from cryptfs.vault.certificates import certificates_at
from cryptfs.vault.home import VaultHome
from cryptfs.vault.people import instant
from cryptfs.vault.stores import store_beside

__all__ = ["audit"]

_REASONS = {1: "suspended", 2: "lost for good", 3: "it was forked"}


@click.command(short_help="List who did what, in order, and what is odd about it.")
@vault_argument()
@json_option()
@passphrase_option()
def audit(*, name: str, as_json: bool, passphrase_file: Path | None) -> None:
    """List every membership statement of the vault NAME with its author, and remark what is odd.

    Each stands after all that its author had seen; times are the authors' own and prove nothing. Every line is signed:
    what is listed was done with the author's key, and what was done is listed.
    """
    home = VaultHome.of(name)
    keys = unlock(home, passphrase_file)
    with closing(store_beside(home.read_settings().store, home, keys)) as store:
        membership = read_membership(store, keys)
    acts = [_described(membership, node) for node in _in_order(membership)]
    remarks = [*_remarks(membership), *trio.run(_certificate_remarks, home, keys, membership)]
    if as_json:
        document({"acts": acts, "remarks": remarks})
        return
    rows = [
        [str(one["time"])[:16].replace("T", " "), str(one["author"]), str(one["act"]), _effect(one["void"])]
        for one in acts
    ]
    table(("Time", "Who", "Did", ""), rows)
    for remark in remarks:
        line(safe(f"REMARK  {remark}"))


async def _certificate_remarks(home: VaultHome, keys: DeviceKeys, membership: Membership) -> list[str]:
    async with at_store(home.read_settings().store, home, keys) as sender:
        found = await certificates_at(sender, home, membership, lambda: time.time_ns() // 1_000_000)
    return [
        f"the certificate of {membership.name_of(one.entry)}: {one.remark}" + ("; it gets no new keys" * one.refused)
        for one in found.findings().values()
        if one.remark
    ]


def _effect(void: object) -> str:
    return f"without effect: {void}" if void else ""


def _in_order(membership: Membership) -> list[Node]:
    """Statements, each after all that its author had seen; among others the one with fewer ancestors first."""
    nodes = membership.graph.nodes(membership.graph.everything)
    return sorted(nodes, key=lambda node: (node.ancestors.bit_count(), node.id))


def _described(membership: Membership, node: Node) -> dict[str, object]:
    payload = node.statement.payload
    author = membership.vault if node.id == membership.vault else payload.author
    return {
        "statement": node.id.hex(),
        "time": instant(payload.time_ms),
        "author": membership.name_of(author),
        "author_entry": author.hex(),
        "act": _act(membership, node, payload.op),
        "void": membership.resolved.void.get(node.id, ""),
    }


def _act(membership: Membership, node: Node, op: StatementOp) -> str:
    match op:
        case Genesis():
            key = "with a recovery key" if op.recovery is not None else "without a recovery key"
            return f"founded the vault '{op.name}', {key}"
        case Add():
            how = {HOW_TOKEN: "by invitation", HOW_CERTIFICATE: "by certificate"}.get(op.how, "by words")
            return f"let in {membership.name_of(node.id)} as {Tier(op.role).name.lower()}, {how}"
        case Remove():
            return f"removed {_names(membership, op.targets)} and changed the key ({eid(op.epoch.commit).hex()[:8]})"
        case Rotate():
            return f"changed the key ({eid(op.epoch.commit).hex()[:8]})"
        case SetPolicy():
            return "changed the settings"
        case NewLog():
            return "began a new log"
        case Close():
            return f"closed the log of {_owners(membership, [one.log_id for one in op.cuts])}: {_REASONS[op.reason]}"
        case Accept():
            return f"accepted late work of {_owners(membership, [one.log_id for one in op.cuts])}"
        case Renew():
            return "renewed the certificate"


def _names(membership: Membership, entries: Iterable[bytes]) -> str:
    return ", ".join(membership.name_of(one) for one in entries)


def _owners(membership: Membership, logs: Iterable[bytes]) -> str:
    owners = [membership.graph.log_owner(one) for one in logs]
    return _names(membership, [one.entry for one in owners if one is not None])


def _remarks(membership: Membership) -> list[str]:
    """What is odd among the statements, what was refused or ignored, and whether the key gate is open."""
    me = membership.entry.id if membership.entry is not None else None
    found = []
    for one in find_oddities(membership.resolver, membership.handovers, me):
        about = f" ({_names(membership, one.entries)})" if one.entries else ""
        found.append(f"{membership.name_of(one.author)} {one.oddity.value}{about}")
    found += [f"{membership.name_of(who)}: {what}" for who, what in membership.refused]
    found += [
        f"{membership.name_of(one)} was removed and added at the same time: it stays out until it is added again"
        for one in sorted(membership.resolved.contested)
    ]
    found += [f"{one.count} objects ignored: {one.reason} ({', '.join(one.names)})" for one in membership.ignored]
    if len(membership.resolved.policies) > 1:
        found.append("two different settings were made at the same time; see `cryptfs-admin policy`")
    if not membership.gate.open:
        found.append(membership.keyring.closed)
    return found
