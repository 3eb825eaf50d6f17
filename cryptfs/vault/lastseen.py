"""When each device was last heard of, as its own clock says in its last segment. For people; nothing rests on it."""

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import HostileStore, NeedsUpdate, NotAllowed, NotFound
from cryptfs.format.limits import BODY2_MAX, SEGMENT_MAX
from cryptfs.format.names import SegmentName, parse_name
from cryptfs.format.segment import open_segment, parse_segment, verify_segment
from cryptfs.group.membership import Membership
from cryptfs.vault.upload import Sender

__all__ = ["last_seen"]

_OBJECT_MAX = SEGMENT_MAX + BODY2_MAX + 4096
"""Bytes; more is no segment and not read to its end."""


async def last_seen(sender: Sender, membership: Membership) -> dict[bytes, int]:
    """Log id -> ms since 1970 in the last segment that verifies. Raises StoreError.

    Only the newest object of each log is looked at; if that is noise, the one before it, and so on.
    """
    names: dict[bytes, list[tuple[int, str]]] = {}
    for key in await sender.list("l/"):
        name = parse_name(key)
        if isinstance(name, SegmentName) and membership.graph.log_owner(name.log_id) is not None:
            names.setdefault(name.log_id, []).append((name.seq, key))
    found: dict[bytes, int] = {}
    for log_id, keys in names.items():
        for _, key in sorted(keys, reverse=True):
            clock = await _clock_in(sender, membership, log_id, key)
            if clock is not None:
                found[log_id] = clock
                break
    return found


async def _clock_in(sender: Sender, membership: Membership, log_id: bytes, key: str) -> int | None:
    owner = membership.graph.log_owner(log_id)
    try:
        raw = parse_segment(await sender.get(key, 0, _OBJECT_MAX), membership.vault)
        if owner is None or raw.log_id != log_id:
            return None
        verify_segment(raw, owner.sign_pub)
        return open_segment(raw, membership.keyring.key(KeyLabel.LOG, raw.ks)).wall_ms
    except (NotFound, HostileStore, NotAllowed, NeedsUpdate):
        return None
