"""`cryptfs-admin members` and `verify`: who is in the group, and whether the store can prove it."""

import datetime as dt
from pathlib import Path

import click

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.evidence import LogEvidence, examine_logs, read_membership
from cryptfs.cli.output import cell, document, line, progress, safe, table
from cryptfs.cli.unlocking import unlock
from cryptfs.crypto.certificate import fingerprint, judge_pinned
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import local_key
from cryptfs.crypto.words import fingerprint_words
from cryptfs.errors import CryptfsError, HostileStore, NotAllowed
from cryptfs.group.membership import Membership
from cryptfs.group.memory import Sight, compare, recall
from cryptfs.group.roster import Entry
from cryptfs.store import Store, open_store
from cryptfs.vault.home import VaultHome

__all__ = ["members", "verify"]


@click.command(short_help="List who is in, with which role and devices.")
@vault_argument()
@json_option()
@passphrase_option()
def members(*, name: str, as_json: bool, passphrase_file: Path | None) -> None:
    """List the devices in the group of the vault NAME: whose they are, their role, who let them in.

    Names are what an administrator wrote down; only the words of `cryptfs-admin verify` identify anybody.
    """
    home = VaultHome.of(name)
    keys = unlock(home, passphrase_file)
    membership = read_membership(_store_of(home), keys)
    rows = [_described(membership, entry) for entry in _in_order(membership)]
    if as_json:
        document(rows)
        return
    shown = [[cell(row[key]) for key in ("member", "device", "role", "certificate", "added_by")] for row in rows]
    marks = ["this device" if row["own"] else "" for row in rows]
    titles = ("Member", "Device", "Role", "Certificate until", "Added by", "")
    table(titles, [[*cells, mark] for cells, mark in zip(shown, marks, strict=True)])


@click.command(short_help="Check every membership statement and every signature in the store.")
@vault_argument()
@json_option()
@passphrase_option()
def verify(*, name: str, as_json: bool, passphrase_file: Path | None) -> int:
    """Check what the store of the vault NAME can prove, and show the words to compare with the other members.

    Verifies every statement, the signature of every segment of every log, and that nothing this device has seen before
    is missing. Equal words on two devices mean that both see the same certificate. The exit code is 65 when something
    is wrong.
    """
    home = VaultHome.of(name)
    keys = unlock(home, passphrase_file)
    store = _store_of(home)
    membership = read_membership(store, keys)
    with progress("Verifying", None) as advance:
        logs = examine_logs(store, membership, advance)
    problems = [*_membership_problems(membership, keys), *_log_problems(membership, logs)]
    problems += _memory_problems(home, keys, membership, logs)
    words = {entry.id.hex(): " ".join(_words(entry)) for entry in _in_order(membership)}
    if as_json:
        segments = sum(len(log.digests) for log in logs.values())
        document({"vault": keys.vault.hex(), "words": words, "segments": segments, "problems": problems})
    else:
        _print_verdict(membership, words, logs, problems)
    return HostileStore.exit_code if problems else 0


def _print_verdict(
    membership: Membership, words: dict[str, str], logs: dict[bytes, LogEvidence], problems: list[str]
) -> None:
    for entry in _in_order(membership):
        line(f"{safe(membership.name_of(entry.id))}: {words[entry.id.hex()]}")
    statements, segments = len(membership.graph), sum(len(log.digests) for log in logs.values())
    line(f"{statements} statements and {segments} segments of {len(logs)} logs verified.")
    for problem in problems:
        line(f"PROBLEM  {safe(problem)}")


def _store_of(home: VaultHome) -> Store:
    return open_store(home.read_settings().store)


def _in_order(membership: Membership) -> list[Entry]:
    """The roster, highest role first."""
    return sorted(membership.resolved.roster.values(), key=lambda entry: (-entry.role, entry.display, entry.id))


def _described(membership: Membership, entry: Entry) -> dict[str, object]:
    own = membership.entry is not None and membership.entry.id == entry.id
    return {
        "entry": entry.id.hex(),
        "member": entry.display,
        "device": entry.device.label,
        "role": entry.role.name.lower(),
        "certificate": _expiry(entry),
        "added_by": "founder" if entry.how is None else membership.name_of(entry.adder),
        "own": own,
    }


def _expiry(entry: Entry) -> str:
    """The last day of the certificate in force, or why it is of no use."""
    try:
        return judge_pinned(entry.certs[0], dt.datetime.now(dt.UTC)).expires.strftime("%Y-%m-%d")
    except NotAllowed as err:
        return str(err)


def _words(entry: Entry) -> tuple[str, ...]:
    return fingerprint_words(fingerprint(entry.certs[0]))


def _membership_problems(membership: Membership, keys: DeviceKeys) -> list[str]:
    problems = [f"{one.count} objects: {one.reason} ({', '.join(one.names)})" for one in membership.ignored]
    problems += [f"{membership.name_of(who)}: {what}" for who, what in membership.refused]
    if membership.needs_update:
        problems.append("an administrator wrote a statement that only a newer cryptfs understands")
    if membership.entry is None:
        problems.append("this device is not in the group")
        return problems
    try:
        keys.check_entry(membership.entry.certs[0], membership.entry.device.sign_pub)
    except NotAllowed as err:
        problems.append(f"the keys of this device do not match its place in the group: {err}")
    return problems


def _log_problems(membership: Membership, logs: dict[bytes, LogEvidence]) -> list[str]:
    problems = []
    for log_id, log in logs.items():
        owner = membership.graph.log_owner(log_id)
        who = membership.name_of(owner.entry) if owner else f"log {log_id.hex()[:8]}"
        problems += [f"{who}: {problem}" for problem in log.problems]
    return problems


def _memory_problems(
    home: VaultHome, keys: DeviceKeys, membership: Membership, logs: dict[bytes, LogEvidence]
) -> list[str]:
    """What this device has seen before and the store does not show now."""
    try:
        data = home.trust_file.read_bytes()
    except FileNotFoundError:
        return []
    try:
        memory = recall(data, local_key(keys.local_secret, "memory"), keys.vault)
    except CryptfsError as err:
        return [f"what this device has seen before cannot be read: {err}"]

    def digest_at(log_id: bytes, seq: int) -> bytes | None:
        return logs[log_id].digests.get(seq) if log_id in logs else None

    sight = Sight(
        has_statement=lambda statement: statement in membership.graph,
        digest_at=digest_at,
        heads={},
        frontier=membership.frontier(),
        min_format=membership.resolved.policy.min_format,
        covered={},
    )
    return [finding.alarm.words for finding in compare(memory, sight)]
