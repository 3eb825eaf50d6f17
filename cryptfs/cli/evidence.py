"""The membership of a vault and the signatures of its logs, straight from the store: nothing local is believed.

What `cryptfs-admin` shows and verifies. Only the keys of this device are needed, to know which vault is meant and which
place in it is its own.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import ConfigError, HostileStore, NeedsUpdate, NotFound
from cryptfs.format.limits import ROLLUP_MAX, SEGMENT_MAX
from cryptfs.format.names import GENESIS, CrlName, RollupName, SegmentName, parse_name
from cryptfs.format.rollup import parse_rollup
from cryptfs.format.segment import RawSegment, parse_segment
from cryptfs.format.statement import genesis_vault
from cryptfs.group.membership import Membership, open_membership
from cryptfs.store import Call, Store
from cryptfs.vault.evidence import LogEvidence
from cryptfs.vault.folder import MEMBERSHIP_OBJECT_MAX

__all__ = ["examine_logs", "read_membership"]

_CALL_SECONDS: Final = 60.0
_LIST_SECONDS: Final = 600.0
_LOG_OBJECT_MAX: Final = max(SEGMENT_MAX, ROLLUP_MAX)
"""More of an object is never read, however long the store says it is."""


def read_membership(store: Store, keys: DeviceKeys) -> Membership:
    """Everything in `m/` and `w/`, resolved. Raises ConfigError if the folder holds another vault, or none."""
    try:
        genesis = store.get(GENESIS, Call.within(_CALL_SECONDS), 0, MEMBERSHIP_OBJECT_MAX)
    except NotFound as err:
        raise ConfigError("There is no vault in this folder.", "Check the line `store` in NAME.toml.") from err
    if genesis_vault(genesis) != keys.vault:
        raise ConfigError(
            "The folder holds another vault than the one this device has keys for.",
            "Check the line `store` in NAME.toml.",
        )
    objects = [(GENESIS, genesis)]
    for prefix in ("m/", "w/"):
        for stat in list(store.list(prefix, Call.within(_LIST_SECONDS))):
            if isinstance(parse_name(stat.key), CrlName):
                continue  # longer than these, and read by who judges certificates
            with contextlib.suppress(NotFound):
                objects.append((stat.key, store.get(stat.key, Call.within(_CALL_SECONDS), 0, MEMBERSHIP_OBJECT_MAX)))
    return open_membership(objects, keys.vault, keys)


def examine_logs(store: Store, membership: Membership, seen: Callable[[int], None]) -> dict[bytes, LogEvidence]:
    """Verify the signature of every segment in the store, by log id. `seen` is told the bytes of each object read."""
    logs: dict[bytes, LogEvidence] = {}
    for stat in store.list("l/", Call.within(_LIST_SECONDS)):
        name = parse_name(stat.key)
        if not isinstance(name, SegmentName | RollupName):
            continue
        log = logs.setdefault(name.log_id, LogEvidence(name.log_id))
        owner = membership.graph.log_owner(name.log_id)
        if owner is None:
            log.problems.append(f"{stat.key}: no statement opens this log")
            continue
        data = store.get(stat.key, Call.within(_CALL_SECONDS), 0, _LOG_OBJECT_MAX + 1)
        seen(len(data))
        try:
            for raw in _segments(data, membership.vault):
                if raw.log_id != name.log_id:
                    log.problems.append(f"{stat.key}: holds a segment of another log")
                else:
                    log.take(raw, owner.sign_pub)
        except (HostileStore, NeedsUpdate) as err:
            log.problems.append(f"{stat.key}: {err}")
    for log in logs.values():
        log.problems += [f"segment {seq} is missing" for seq in log.missing()]
    return logs


def _segments(data: bytes, vault: bytes) -> Iterator[RawSegment]:
    """The segments in an object of `l/`. Raises Damaged, NeedsUpdate."""
    if data[:8] == b"CFSROLL1":
        yield from parse_rollup(data, vault).segments
    else:
        yield parse_segment(data, vault)
