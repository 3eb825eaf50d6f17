"""`cryptfs-admin verify`: whether the store can prove what it shows, and the words to compare with the others."""

from contextlib import closing
from pathlib import Path

import click
import msgspec

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.evidence import examine_logs, read_membership
from cryptfs.cli.output import document, line, progress, safe
from cryptfs.cli.unlocking import unlock
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import local_key
from cryptfs.errors import CryptfsError, HostileStore, NotAllowed
from cryptfs.format.segment_body import LogHead
from cryptfs.format.statement import Device
from cryptfs.group.invitation import device_words, view_words
from cryptfs.group.membership import Membership
from cryptfs.group.memory import Sight, compare, recall
from cryptfs.group.roster import Entry
from cryptfs.vault.evidence import LogEvidence
from cryptfs.vault.home import VaultHome
from cryptfs.vault.people import choose, in_order
from cryptfs.vault.stores import store_beside

__all__ = ["verify"]


@click.command(short_help="Check every statement and signature, and show the words to compare.")
@vault_argument()
@click.argument("member", required=False)
@json_option()
@passphrase_option()
def verify(*, name: str, member: str | None, as_json: bool, passphrase_file: Path | None) -> int:
    """Check what the store of the vault NAME can prove, and show the words to compare with the other members.

    Verifies every statement, the signature of every segment of every log, and that nothing this device has seen before
    is missing. Compare the words of MEMBER's devices with what their owner reads out: then the name is right. Equal
    words of the whole state on two devices mean that both were shown the same. The exit code is 65 when something is
    wrong.
    """
    home = VaultHome.of(name)
    keys = unlock(home, passphrase_file)
    with closing(store_beside(home.read_settings().store, home, keys)) as store:
        membership = read_membership(store, keys)
        entries = in_order(membership) if member is None else list(choose(membership, member).entries)
        with progress("Verifying", None) as advance:
            logs = examine_logs(store, membership, advance)
    words = {entry.id.hex(): " ".join(device_words(keys.vault, _in_force(entry))) for entry in entries}
    problems = [*_membership_problems(membership, keys), *_log_problems(membership, logs)]
    problems += _memory_problems(home, keys, membership, logs)
    state = " ".join(view_words(keys.vault, membership.frontier(), _heads(logs)))
    segments = sum(len(log.digests) for log in logs.values())
    if as_json:
        found = {"vault": keys.vault.hex(), "words": words, "state": state, "segments": segments}
        document(found | {"problems": problems})
        return HostileStore.exit_code if problems else 0
    for entry in entries:
        line(f"{safe(membership.name_of(entry.id))}: {words[entry.id.hex()]}")
    line(f"The whole state: {state}")
    line(f"{len(membership.graph)} statements and {segments} segments of {len(logs)} logs verified.")
    for problem in problems:
        line(f"PROBLEM  {safe(problem)}")
    return HostileStore.exit_code if problems else 0


def _in_force(entry: Entry) -> Device:
    """The device with the certificate that counts now."""
    return msgspec.structs.replace(entry.device, cert=entry.certs[0])


def _heads(logs: dict[bytes, LogEvidence]) -> list[LogHead]:
    """The last verified segment of each log."""
    return [LogHead(one, max(log.digests), log.digests[max(log.digests)]) for one, log in logs.items() if log.digests]


def _membership_problems(membership: Membership, keys: DeviceKeys) -> list[str]:
    problems = [f"{one.count} objects: {one.reason} ({', '.join(one.names)})" for one in membership.ignored]
    problems += [f"{membership.name_of(who)}: {what}" for who, what in membership.refused]
    if membership.needs_update:
        problems.append("an administrator wrote a statement that only a newer cryptfs understands")
    if membership.entry is None:
        problems.append("this device is not in the group")
        return problems
    try:
        certs = membership.entry.certs  # several, if it was renewed twice at the same time
        keys.check_entry(keys.cert_der if keys.cert_der in certs else certs[0], membership.entry.device.sign_pub)
    except NotAllowed as err:
        problems.append(f"the keys of this device do not match its place in the group: {err}")
    return problems


def _log_problems(membership: Membership, logs: dict[bytes, LogEvidence]) -> list[str]:
    problems = []
    for log_id, log in logs.items():
        problems += [f"{membership.name_of_log(log_id)}: {problem}" for problem in log.problems]
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
