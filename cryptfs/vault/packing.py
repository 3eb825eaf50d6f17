"""A local pack becomes an object of the store: dead records out, index and header in, hash of the whole.

Runs in a worker thread on files that nobody appends to any more; reading from them goes on meanwhile.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptfs.crypto.keys import PurposeKey
from cryptfs.faults import Faults
from cryptfs.format.pack import (
    PACK_SHARED,
    PACK_SOLO,
    RECORD_CHUNK,
    PackHint,
    PackIndex,
    PackKey,
    PackRecord,
    pack_header,
    seal_index,
)
from cryptfs.format.pack import index_len as sealed_index_len
from cryptfs.vault.containers import PACK_HEADER_LEN
from cryptfs.vault.disk import local_disk, sync_directory

__all__ = ["Finished", "LiveRecord", "PackJob", "finish_pack"]

_COPY: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """A chunk record that stays: where it lies in the source, and what the index says of it."""

    fid: bytes
    fkv: int
    index: int
    off: int
    length: int
    plain_len: int
    hash: bytes


@dataclass(slots=True)
class PackJob:
    """What a worker thread needs to finish a pack; plain values only.

    `target` differs from `source` when dead records have to go. `live` is sorted by offset.
    """

    vault: bytes
    ks: bytes
    pack_key: PurposeKey = field(repr=False)
    source: Path
    target: Path
    live: list[LiveRecord]
    keys: tuple[PackKey, ...]
    hints: tuple[PackHint, ...]
    faults: Faults


@dataclass(frozen=True, slots=True)
class Finished:
    """A pack ready for the store. `moves`: old to new offset of every record, empty when nothing moved."""

    id: bytes
    size: int
    path: Path
    moves: dict[int, int]


def finish_pack(job: PackJob) -> Finished:
    """Make the object. The file is durable on return. Raises LocalDisk, LocalDiskFull."""
    with local_disk("finishing a pack"):
        job.faults.step("pack.finish")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(job.target, flags, 0o600)
        try:
            moves = _copy_live(fd, job) if job.target != job.source else {}
            size, digest = _write_frame(fd, job, moves)
            job.faults.step("pack.fsync")
            os.fsync(fd)
            sync_directory(job.target.parent)
        except BaseException:
            if job.target != job.source:
                job.target.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
    return Finished(digest, size, job.target, moves)


def _copy_live(fd: int, job: PackJob) -> dict[int, int]:
    moves: dict[int, int] = {}
    source = os.open(job.source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, 0)
        at = PACK_HEADER_LEN + len(job.ks)
        for start, length in _ranges(job.live, moves, at):
            done = 0
            while done < length:
                data = os.pread(source, min(_COPY, length - done), start + done)
                if not data:
                    raise OSError(5, "a pack file is shorter than its records")
                at += os.pwrite(fd, data, at)
                done += len(data)
    finally:
        os.close(source)
    return moves


def _ranges(live: list[LiveRecord], moves: dict[int, int], at: int) -> list[tuple[int, int]]:
    """Back-to-back live records as ranges; fills `moves`."""
    ranges: list[tuple[int, int]] = []
    for record in live:
        moves[record.off] = at
        at += record.length
        if ranges and ranges[-1][0] + ranges[-1][1] == record.off:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + record.length)
        else:
            ranges.append((record.off, record.length))
    return ranges


def _write_frame(fd: int, job: PackJob, moves: dict[int, int]) -> tuple[int, bytes]:
    """Write index and header around the records; returns size and SHA-256 of the whole."""
    records = tuple(
        PackRecord(r.fid, RECORD_CHUNK, r.fkv, b"", r.index, moves.get(r.off, r.off), r.length, r.plain_len, 0, r.hash)
        for r in job.live
    )
    kind = PACK_SOLO if len({r.fid for r in job.live}) == 1 else PACK_SHARED
    index = PackIndex(1, kind, job.keys, job.hints, records, ())
    header = pack_header(job.vault, job.ks, sealed_index_len(index))
    end = max((r.off + r.len for r in records), default=len(header))
    sealed = seal_index(job.pack_key, header, index)
    os.ftruncate(fd, end)
    os.pwrite(fd, sealed, end)
    os.pwrite(fd, header, 0)
    return end + len(sealed), _hash_file(fd)


def _hash_file(fd: int) -> bytes:
    digest = hashlib.sha256()
    at = 0
    while data := os.pread(fd, _COPY, at):
        digest.update(data)
        at += len(data)
    return digest.digest()
