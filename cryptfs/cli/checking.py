"""What `cryptfs fsck` checks: that the store has every object the tree names, and that objects are what they claim.

Three passes: the signatures of all logs; for every file the packs and segments it names; and of a share of the packs,
or all, the bytes themselves (the name of a pack is its SHA-256). A broken object is reported once, with the files it
harms.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from cryptfs.cli.evidence import examine_logs
from cryptfs.crypto.keys import chance
from cryptfs.errors import HostileStore, NeedsUpdate, NotFound, StoreError
from cryptfs.format.content import WHERE_BODY2, WHERE_PACK, Loc
from cryptfs.format.names import PackName, RollupName, SegmentName, pack_name, parse_name
from cryptfs.format.operation import KIND_FILE
from cryptfs.store import Call, Store
from cryptfs.tree.merge_containers import RETIRED
from cryptfs.vault.containers import Ref
from cryptfs.vault.records import locate
from cryptfs.vault.vault import Vault

__all__ = ["Problem", "Report", "check_vault"]

_LIST_SECONDS = 600.0
_GET_SECONDS = 300.0

Seen = Callable[[int], None]
"""Is told how many bytes more have been read."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with `subject` (an object, or a file's path), and the paths it harms."""

    subject: str
    text: str
    paths: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What was looked at, and what was wrong."""

    segments: int = 0
    files: int = 0
    objects: int = 0
    objects_read: int = 0
    unsent: int = 0
    unused: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Packs in the store that no present file needs, (number, bytes), by why they are there."""
    problems: list[Problem] = field(default_factory=list)


async def check_vault(vault: Vault, store: Store, percent: float, seen: Seen) -> Report:
    """Check an open vault against `store`; reads `percent` of its packs to the last byte. Raises StoreError."""
    report = Report()
    await trio.to_thread.run_sync(_check_logs, vault, store, seen, report)
    users = await _objects_in_use(vault, report)
    there = await trio.to_thread.run_sync(_packs_and_segments, store)
    report.unused = _unused(vault, {key: size for key, size in there.items() if key not in users})
    for key in sorted(users.keys() - there.keys()):
        report.problems.append(Problem(key, "is missing in the store", _paths(users, key)))
    packs = sorted(key for key in users.keys() & there.keys() if isinstance(parse_name(key), PackName))
    chosen = sorted(chance().sample(packs, round(len(packs) * percent / 100)))
    for key in chosen:
        await trio.to_thread.run_sync(_check_pack, store, key, _paths(users, key), seen, report)
    return report


def _check_logs(vault: Vault, store: Store, seen: Seen, report: Report) -> None:
    for log_id, log in examine_logs(store, vault.membership, seen).items():
        report.segments += len(log.digests)
        who = vault.membership.name_of_log(log_id)
        report.problems += [Problem(f"log of {who}", text) for text in log.problems]


async def _objects_in_use(vault: Vault, report: Report) -> dict[str, set[bytes]]:
    """Keys of all objects that hold a present file, each with the paths it serves."""
    users: dict[str, set[bytes]] = defaultdict(set)
    for path, st in list(vault.replica.walk()):
        node = vault.replica.node(st)
        if node is None or node.kind != KIND_FILE:
            continue
        report.files += 1
        try:
            keys, unsent = await _objects_of(vault, st)
        except (HostileStore, NeedsUpdate, NotFound) as err:
            report.problems.append(Problem(os.fsdecode(path), str(err), (os.fsdecode(path),)))
            continue
        report.unsent += unsent
        for key in keys:
            users[key].add(path)
    report.objects = len(users)
    return users


async def _objects_of(vault: Vault, st: int) -> tuple[set[str], bool]:
    """Keys of the objects that hold one file, and whether a part of it is not sent yet. Raises as reading does."""
    content = vault.open_file(st)
    try:
        await content.load_all()
        refs = [content.map.get(index) for index in content.present_chunks()]
        holders = [locate(ref)[0] for ref in refs if ref is not None]
        places = [Loc(holder.where, holder.id, 0) for holder in holders]
        base = content.map.base
        if base.manifest is not None and base.root is not None:
            manifests = [base.manifest, *(page for page in base.root.pages if page is not None)]
            holders = [locate(Ref(vault.container(one.loc), one.loc.off, 0, one.hash))[0] for one in manifests]
            places += [Loc(holder.where, holder.id, 0) for holder in holders]
    finally:
        vault.release_file(content)
    keys = {_key_of(vault, place) for place in places}
    return keys - {""}, "" in keys


def _key_of(vault: Vault, place: Loc) -> str:
    """The object at a place; empty for one that is only on this machine so far."""
    if place.where == WHERE_BODY2:
        return vault.cache.segments.name(place.id) or f"segment {place.id.hex()}"
    return pack_name(place.id) if place.id else ""


def _packs_and_segments(store: Store) -> dict[str, int]:
    """Keys and sizes of packs (as if they lay in one folder) and segments; a rollup stands for the segments in it."""
    found = {}
    for stat in store.list("", Call.within(_LIST_SECONDS)):
        name = parse_name(stat.key)
        if isinstance(name, PackName):
            found[pack_name(name.id)] = stat.size
        elif isinstance(name, SegmentName | RollupName):
            found[stat.key] = stat.size
    return found


def _unused(vault: Vault, sizes: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What packs that no present file needs are there for: number and bytes."""
    found: dict[str, tuple[int, int]] = {}
    for key, size in sizes.items():
        name = parse_name(key)
        if not isinstance(name, PackName):
            continue
        container = vault.replica.rows.container(WHERE_PACK, name.id)
        if container is None:
            why = "no segment names them: left by a crash, or on their way"
        elif container.state == RETIRED:
            why = "retired: deleted once every device has acknowledged it"
        else:
            why = "kept for old versions and the trash, or not looked at yet"
        count, amount = found.get(why, (0, 0))
        found[why] = count + 1, amount + size
    return found


def _check_pack(store: Store, key: str, paths: tuple[str, ...], seen: Seen, report: Report) -> None:
    try:
        data = store.get(key, Call.within(_GET_SECONDS))
    except StoreError as err:
        report.problems.append(Problem(key, str(err), paths))
        return
    report.objects_read += 1
    seen(len(data))
    if hashlib.sha256(data).hexdigest() != key.removeprefix("p/"):
        report.problems.append(Problem(key, "does not hold what its name promises", paths))


def _paths(users: dict[str, set[bytes]], key: str) -> tuple[str, ...]:
    return tuple(os.fsdecode(path) for path in sorted(users[key]))
