"""What the store should have and does not show: membership objects, segments, and packs that are in use.

Absence from one listing proves nothing, so nothing here acts; it says what is absent now, whom it harms, and who could
put it back (docs/replication.md, "Missing objects").
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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
from cryptfs.group.ends import HeldSegment
from cryptfs.tree.merge_containers import IN_USE
from cryptfs.tree.places import Place
from cryptfs.vault.info import path_of
from cryptfs.vault.outlived import Outlived

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Harm", "absent_objects", "harm_of", "in_order", "name_class", "unshown", "waiting_words", "words_of"]

_PATHS_SHOWN: Final = 3
_PACKS_IN_USE: Final = "SELECT id FROM container WHERE place = ? AND state = ? ORDER BY id"
_RANK: Final = {GenesisName: 0, StatementName: 1, WrapsName: 2, PackName: 3, SegmentName: 4}
"""Decisions before what rests on them, data before what refers to them."""


@dataclass(frozen=True, slots=True)
class Harm:
    """What the absence of an object means: paths of files whose contents it has, and devices that may have a copy."""

    name: str
    paths: tuple[bytes, ...]
    devices: tuple[str, ...]


def absent_objects(
    vault: "Vault", listed: Iterable[str], *, holds: Callable[[RollupName, int], bool] | None = None, packs: bool = True
) -> list[str]:
    """Names of objects that should be in the store and are not in `listed`, in the order to put them back in.

    `listed` holds the names in `m/`, `w/`, `l/` and, with `packs`, in all folders of packs, and the genesis; `holds`
    says whether a rollup has the segment of that number, by its name if nobody knows better.
    """
    there, rolled_up = set[str](), dict[bytes, list[RollupName]]()
    for name in listed:
        parsed = parse_name(name)
        if isinstance(parsed, PackName):
            there.add(pack_name(parsed.id))  # as if all lay in one folder
        elif isinstance(parsed, RollupName):
            rolled_up.setdefault(parsed.log_id, []).append(parsed)
        else:
            there.add(name)
    expected = [*vault.copies.membership_objects(), *_segments(vault, rolled_up, holds or _by_name)]
    if packs:
        rows = vault.replica.question(_PACKS_IN_USE, (WHERE_PACK, IN_USE))
        expected += [pack_name(bytes(row[0])) for row in rows]
    sent_later = vault.unconfirmed.name if vault.unconfirmed is not None else ""
    return in_order(name for name in expected if name not in there and name != sent_later)


def unshown(vault: "Vault", listed: Iterable[str]) -> dict[bytes, list[int]]:
    """Numbers, by log, of the segments that should be in the store and do not lie there by themselves."""
    there, found = set(listed), dict[bytes, list[int]]()
    for log_id, one in _expected(vault):
        if segment_name(log_id, one.seq, one.digest) not in there:
            found.setdefault(log_id, []).append(one.seq)
    return found


def _segments(
    vault: "Vault", rolled_up: dict[bytes, list[RollupName]], holds: Callable[[RollupName, int], bool]
) -> Iterator[str]:
    for log_id, one in _expected(vault):
        if not any(holds(rollup, one.seq) for rollup in rolled_up.get(log_id, ())):
            yield segment_name(log_id, one.seq, one.digest)


def _by_name(rollup: RollupName, seq: int) -> bool:
    return rollup.first <= seq <= rollup.last


def _expected(vault: "Vault") -> Iterator[tuple[bytes, HeldSegment]]:
    """Segments that were read here, by log, but for those whose time is over."""
    logs, outlived = vault.standing.logs, Outlived(vault)
    for log_id in logs.ids():
        for one in logs.held(log_id):
            if one.prev and not outlived(log_id, one):  # one without was told of by a checkpoint
                yield log_id, one


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order in which objects are put back."""
    return sorted(names, key=lambda name: (_RANK.get(type(parse_name(name)), len(_RANK)), name))


def harm_of(vault: "Vault", name: str) -> Harm:
    """Whom the absence of `name` harms, and who could end it. No waiting; large files may be found only later."""
    parsed = parse_name(name)
    graph, membership = vault.membership.graph, vault.membership
    if isinstance(parsed, PackName):
        row = vault.replica.rows.container(WHERE_PACK, parsed.id)
        devices = {membership.name_of_log(row.holder)} if row is not None else set()
        return Harm(name, _paths(vault, Place(WHERE_PACK, parsed.id)), tuple(sorted(devices)))
    if isinstance(parsed, SegmentName):
        digest = vault.standing.logs.digest_at(parsed.log_id, parsed.seq)
        paths = _paths(vault, Place(WHERE_BODY2, digest)) if digest is not None else ()
        return Harm(name, paths, (membership.name_of_log(parsed.log_id),))
    if isinstance(parsed, StatementName) and parsed.id in graph:
        return Harm(name, (), (membership.name_of(graph.node(parsed.id).author.entry),))
    return Harm(name, (), ())


def _paths(vault: "Vault", place: Place) -> tuple[bytes, ...]:
    replica = vault.replica
    while not replica.uses.catch_up(1000):
        pass
    found = (path_of(replica, st) for st in replica.uses.nodes_of(place))
    return tuple(sorted(path for path in found if path))


def words_of(harm: Harm, *, here: bool) -> str:
    """One sentence for people. `here`: this device has a copy."""
    who = ", ".join(harm.devices) or "who wrote it"
    back = (
        "This device has them and puts them back by itself, or at once: `cryptfs fsck --heal`."
        if here
        else f"They return when a device that has them comes online: {who}."
    )
    if harm.paths:
        shown = ", ".join(path.decode(errors="backslashreplace") for path in harm.paths[:_PATHS_SHOWN])
        more = len(harm.paths) - _PATHS_SHOWN
        what = f"The contents of {shown}" + (f" and {more} other files" if more > 0 else "")
        return f"{what} are missing in the folder. {back}"
    return f"Data that no present file needs are missing in the folder ({name_class(harm.name)}). {back}"


def name_class(name: str) -> str:
    """What kind of object a name stands for, in a word or two."""
    kinds = {
        GenesisName: "the beginning of the vault", StatementName: "a decision about the group", WrapsName: "a key",
        SegmentName: "a part of a log", PackName: "a pack",
    }  # fmt: skip
    return kinds.get(type(parse_name(name)), "an object")


def waiting_words(vault: "Vault", log_ids: Iterable[bytes], *, long: bool) -> list[str]:
    """Sentences about logs that have segments which are not in the folder (yet)."""
    said = []
    for who in sorted({vault.membership.name_of_log(one) for one in log_ids}):
        if long:
            said.append(
                f"Some recent changes from {who} are missing. If someone tidied up the folder, restore them from its "
                f"trash, or open cryptfs on {who}: `cryptfs fsck --heal` there puts them back."
            )
        else:
            said.append(f"Some recent changes from {who} are not in the folder yet.")
    return said
