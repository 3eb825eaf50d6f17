"""What the store can prove of one log: the signatures of its segments, and that none is missing."""

from dataclasses import dataclass, field

from cryptfs.errors import HostileStore
from cryptfs.format.segment import RawSegment, verify_segment

__all__ = ["LogEvidence"]


@dataclass(slots=True)
class LogEvidence:
    """What the store has of one log: digests of its segments by number, and what is wrong with it."""

    log_id: bytes
    digests: dict[int, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, raw: RawSegment, sign_pub: bytes) -> None:
        """Count in a segment if its signature verifies."""
        try:
            verify_segment(raw, sign_pub)
        except HostileStore:
            self.problems.append(f"segment {raw.seq}: its signature does not verify")
            return
        if self.digests.setdefault(raw.seq, raw.digest) != raw.digest:
            self.problems.append(f"segment {raw.seq}: two different ones were signed")

    def missing(self) -> list[int]:
        """Numbers up to the highest one that are not here."""
        return [seq for seq in range(max(self.digests, default=-1) + 1) if seq not in self.digests]
