"""What the journal said, folded: what is pending, which packs there are, and what the store is known to have.

Made when a vault is opened (`replay.py`), before anything of it is taken in; a device that goes on in a new log puts
what it has to say again in here (`newlog.py`).
"""

from dataclasses import dataclass, field

from cryptfs.format.segment import LogHead, PackRef, parse_segment
from cryptfs.vault.chunkmap import decode_delta
from cryptfs.vault.journal import (
    Base,
    Dropped,
    Entry,
    Names,
    Opener,
    Owed,
    PackClosed,
    PackConfirmed,
    PackOpened,
    Record,
    Recovered,
    Sealed,
    SegmentConfirmed,
    Submitted,
    Wrote,
)

__all__ = ["Found"]


@dataclass(slots=True)
class Found:
    """What the journal said. `damaged`: parts of it could not be read."""

    base: Base
    damaged: bool = False
    pending: dict[int, Submitted] = field(default_factory=dict)
    names: dict[int, int] = field(default_factory=dict)
    opened: dict[int, bytes] = field(default_factory=dict)  # local pack -> key set
    closed: dict[int, PackClosed] = field(default_factory=dict)
    confirmed: set[int] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)
    sealed: list[Sealed] = field(default_factory=list)
    sent: set[int] = field(default_factory=set)
    wrote: dict[int, list[Wrote]] = field(default_factory=dict)  # st -> writes that no hand-over has taken in
    owed: dict[bytes, PackRef] = field(default_factory=dict)
    opener: Opener | None = None
    entries: list[Entry] = field(default_factory=list)
    """All that was read, a Base first: what the journal must say until something else is put in its place."""

    @classmethod
    def read(cls, recovered: Recovered | None, log_id: bytes) -> "Found | None":
        """Fold the entries; None if there are none. Without a Base the log of `log_id` begins wherever it ends now."""
        if recovered is None or not recovered.entries:
            return None
        first = recovered.entries[0]
        base = first if isinstance(first, Base) else Base(b"", log_id, 0, 0, 0, bytes(32), 0, 0)
        found = cls(base, damaged=recovered.damaged_frames > 0)
        found.entries = recovered.entries if base is first else [base, *recovered.entries]
        for entry in recovered.entries:
            found.take(entry)
        return found

    def take(self, entry: Entry) -> None:
        """Fold one more entry."""
        match entry:
            case Submitted():
                self.pending[entry.k] = entry
                if entry.delta:
                    self.wrote.pop(decode_delta(entry.delta).st, None)
            case Wrote():
                self.wrote.setdefault(entry.st, []).append(entry)
            case Dropped():
                self.wrote.pop(entry.st, None)
            case Record():
                self.records.append(entry)
            case PackOpened():
                self.opened[entry.num] = entry.ks
            case PackClosed():
                self.closed[entry.num] = entry
            case PackConfirmed():
                self.confirmed.add(entry.num)
            case Sealed():
                self.sealed.append(entry)
                self.names.update(entry.ids)
                for k in [k for k in self.pending if k <= entry.upto_k]:
                    del self.pending[k]
            case SegmentConfirmed():
                self.sent.add(entry.seq)
            case Names():
                self.names.update(entry.ids)
            case Opener():
                self.opener = entry
            case Owed():
                self.owed.update((one.id, one) for one in entry.packs)
            case Base():
                pass

    @property
    def next_seq(self) -> int:
        """Number of the segment after the last that this device made."""
        return max([self.base.next_seq, *(sealed.seq + 1 for sealed in self.sealed)])

    def head(self, vault: bytes) -> LogHead | None:
        """The last segment that this device made; None before the first."""
        if self.sealed:
            raw = parse_segment(self.sealed[-1].data, vault)
            return LogHead(raw.log_id, raw.seq, raw.digest)
        return LogHead(self.base.log, self.base.next_seq - 1, self.base.prev) if self.base.next_seq else None

    @property
    def unsent(self) -> list[Sealed]:
        """Segments of which nobody knows that the store has them: one at most."""
        return [one for one in self.sealed if one.seq not in self.sent]

    @property
    def next_k(self) -> int:
        """Number of the next local operation."""
        made = (*self.pending, *self.names, *(sealed.upto_k for sealed in self.sealed))  # one may have vanished whole
        return max([self.base.next_k, *(k + 1 for k in made)])

    @property
    def next_pack(self) -> int:
        """Number of the next local pack."""
        return max([self.base.next_pack, *(num + 1 for num in self.opened)])
