"""The small objects of a store that anybody may have put there: fetched within bounds, never believed.

What lies in `m/`, `w/` and `j/` may be cut off, enormous, or a million files of noise. So no object is read beyond the
length that an honest one has, and no more join requests than a person could look at.
"""

from typing import Final

from cryptfs.errors import NotFound
from cryptfs.format.limits import JOIN_MAX, STATEMENT_MAX, WRAPS_MAX
from cryptfs.format.names import GENESIS, CrlName, JoinName, parse_name
from cryptfs.vault.upload import Sender

__all__ = ["MEMBERSHIP_OBJECT_MAX", "REQUESTS_MAX", "join_requests", "membership_objects"]

_AROUND: Final = 4096
"""Bytes; more than header and signatures take."""
MEMBERSHIP_OBJECT_MAX: Final = max(STATEMENT_MAX, WRAPS_MAX) + _AROUND
_REQUEST_OBJECT_MAX: Final = JOIN_MAX + _AROUND
REQUESTS_MAX: Final = 500
"""Requests looked at in one go."""

Objects = list[tuple[str, bytes]]


async def membership_objects(sender: Sender) -> Objects:
    """(name, bytes) of the genesis and of everything in `m/` and `w/`. Raises StoreError."""
    names = [GENESIS, *await sender.list("m/"), *await sender.list("w/")]
    # Revocation lists are longer, and of no use before there are keys to hand on.
    names = [name for name in names if not isinstance(parse_name(name), CrlName)]
    return await _fetch(sender, names, MEMBERSHIP_OBJECT_MAX)


async def join_requests(sender: Sender) -> tuple[Objects, list[tuple[str, str]]]:
    """(name, bytes) of the join requests, and (name, reason) of what was not even read. Raises StoreError."""
    names = await sender.list("j/")
    ours = [name for name in names if isinstance(parse_name(name), JoinName)]
    skipped = [(name, "is no join request") for name in names if name not in set(ours)]
    skipped += [(name, f"there are more than {REQUESTS_MAX} requests") for name in ours[REQUESTS_MAX:]]
    return await _fetch(sender, ours[:REQUESTS_MAX], _REQUEST_OBJECT_MAX), skipped


async def _fetch(sender: Sender, names: list[str], limit: int) -> Objects:
    objects: Objects = []
    for name in names:
        try:
            objects.append((name, await sender.get(name, 0, limit)))
        except NotFound:
            continue  # removed between listing and reading
    return objects
