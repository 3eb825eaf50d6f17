"""Copies on this disk of what the store should have: what a missing object is put back from.

Membership objects and whole packs lie here anyway; of logs, each segment that was read or sent is kept as it was, in a
folder of the cache. A copy counts only with the hash and the signature that its name stands for, asked at the moment
when it is needed: what is put back are exactly the bytes that were there (docs/replication.md, "Healing").
"""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from cryptfs.crypto.keys import random_bytes
from cryptfs.errors import HostileStore, NeedsUpdate
from cryptfs.format.names import (
    GENESIS,
    GenesisName,
    PackName,
    SegmentName,
    StatementName,
    WrapsName,
    parse_name,
    segment_name,
)
from cryptfs.format.segment import parse_segment, verify_segment
from cryptfs.format.statement import split_statement
from cryptfs.format.wraps import parse_wraps
from cryptfs.group.membership import Membership
from cryptfs.vault.disk import local_disk
from cryptfs.vault.home import VaultHome

__all__ = ["Copies", "Copy"]

log = logging.getLogger(__name__)

_SEGMENTS_MAX: Final = 1 << 30
"""Bytes of segments kept; a million operations take a quarter of it."""
_PIECE: Final = 1 << 20

Copy = bytes | Path
"""The bytes of an object, or the local file that holds them."""


class Copies:
    """The copies of one vault. `membership`: who may have signed what, as it is known now."""

    def __init__(self, home: VaultHome, membership: Callable[[], Membership]) -> None:
        self._members = home.cache_dir / "members"
        self._segments = home.cache_dir / "segments"
        self._packs = home.cached_packs_dir
        self._membership = membership

    # ---- keeping ----------------------------------------------------------------------------------------------------

    def keep(self, name: str, data: bytes) -> None:
        """Keep a segment that verified. If the disk is full only less can be put back some day."""
        path = self._segment_file(name)
        temporary = path.with_name(f".tmp-{random_bytes(8).hex()}")
        try:
            self._segments.mkdir(mode=0o700, exist_ok=True)
            temporary.write_bytes(data)
            temporary.rename(path)
        except OSError as err:
            log.debug("a segment was not kept: %s", err)
            temporary.unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Nobody needs this segment any more."""
        with local_disk("tidying the cache"):
            self._segment_file(name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Let the oldest segments go until the others fit their bound. Raises LocalDisk."""
        if not self._segments.is_dir():
            return
        with local_disk("tidying the cache"):
            with os.scandir(self._segments) as entries:
                files = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries)
            total = sum(size for _, size, _ in files)
            for _, size, path in files:
                if total <= _SEGMENTS_MAX:
                    break
                Path(path).unlink(missing_ok=True)
                total -= size

    def _segment_file(self, name: str) -> Path:
        return self._segments / name.removeprefix("l/")

    # ---- finding ----------------------------------------------------------------------------------------------------

    def may_have(self, name: str) -> bool:
        """Whether there is a copy by its name; whether it verifies `find` says."""
        return self._file(name).exists()

    def _file(self, name: str) -> Path:
        parsed = parse_name(name)
        if isinstance(parsed, PackName):
            return self._packs / f"{parsed.id.hex()}.pack"
        return self._segment_file(name) if isinstance(parsed, SegmentName) else self._members / name.replace("/", "_")

    async def find(self, name: str) -> Copy | None:
        """The object `name` as it was in the store; None if there is no copy that verifies. Raises LocalDisk."""
        parsed = parse_name(name)
        path = self._file(name)
        if isinstance(parsed, PackName):
            digest = await trio.to_thread.run_sync(_digest_of, path)
            return path if digest == parsed.id else None
        if not isinstance(parsed, GenesisName | StatementName | WrapsName | SegmentName):
            return None
        data = _read(path)
        if data is None:
            return None
        is_sound = self._is_segment if isinstance(parsed, SegmentName) else self._is_member_object
        try:
            sound = is_sound(name, data)
        except (HostileStore, NeedsUpdate):
            return None
        return data if sound else None

    def _is_segment(self, name: str, data: bytes) -> bool:
        """Raises HostileStore if the signature does not verify."""
        membership = self._membership()
        raw = parse_segment(data, membership.vault)
        owner = membership.graph.log_owner(raw.log_id)
        if owner is None:
            return False
        verify_segment(raw, owner.sign_pub)
        return segment_name(raw.log_id, raw.seq, raw.digest) == name

    def _is_member_object(self, name: str, data: bytes) -> bool:
        """What membership was resolved from was verified then; this is that very object. Raises HostileStore."""
        membership = self._membership()
        if name in membership.damaged or not membership.has_object(name, data):
            return False
        parsed = parse_name(name)
        if isinstance(parsed, WrapsName):
            return parse_wraps(data, membership.vault).digest[:8] == parsed.h16
        ident = split_statement(data, membership.vault).id
        return ident == (membership.vault if name == GENESIS else getattr(parsed, "id", b""))

    def membership_objects(self) -> list[str]:
        """Names of the membership objects of which there are copies: the genesis, statements and wraps."""
        if not self._members.is_dir():
            return []
        with local_disk("reading the copy of the membership"):
            names = sorted(path.name.replace("_", "/") for path in self._members.iterdir())
        return [name for name in names if isinstance(parse_name(name), GenesisName | StatementName | WrapsName)]


def _read(path: Path) -> bytes | None:
    with local_disk("reading a copy"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _digest_of(path: Path) -> bytes:
    """SHA-256 of a file, empty if there is none. Raises LocalDisk."""
    digest = hashlib.sha256()
    with local_disk("reading a copy"):
        try:
            with path.open("rb") as stream:
                while piece := stream.read(_PIECE):
                    digest.update(piece)
        except FileNotFoundError:
            return b""
    return digest.digest()
