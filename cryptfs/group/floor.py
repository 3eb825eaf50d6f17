"""The floor F: the newest state that everybody has vouched for. At or below it nothing is revised any more.

Every device that reaches a checkpoint computes its root and says so in its next segment (`attest`). F follows from
segments and statements alone, hence it is the same wherever the same ones are (docs/replication.md, "Floor").
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptfs.group.graph import View

__all__ = ["NO_FLOOR", "Attestation", "Floor", "LogWord", "floors", "said_of", "unsaid"]


@dataclass(frozen=True, slots=True)
class Attestation:
    """What one log said of a state: its `root` (32 bytes), in a segment that cites the statements `view`."""

    root: bytes
    view: View


@dataclass(frozen=True, slots=True)
class LogWord:
    """One log, and what it has attested: by stamp S, the first time it said anything about it.

    `begun`: stamp of its first segment that counts, None before; `ended`: nothing can follow its last one. `opener`:
    bit of the statement that opens it; `exempt`: it may begin anywhere (`group/validity.py`, S6).
    """

    log: bytes
    begun: int | None
    ended: bool
    opener: int
    exempt: bool
    attested: Mapping[int, Attestation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Floor:
    """A stamp and the root of the state there."""

    stamp: int
    root: bytes


NO_FLOOR: Final = Floor(-1, b"")
"""Nobody has vouched for anything: everything may be revised."""


def floors(words: Iterable[LogWord]) -> list[Floor]:
    """Every stamp that all logs concerned have vouched for, with one and the same root; newest first.

    The first is F. Concerned is each log that has not ended and has a segment at or below the stamp; but for one that
    was exempt from beginning later, and that nobody who attests had heard of.
    """
    known = list(words)
    stamps = sorted({stamp for one in known for stamp in one.attested}, reverse=True)
    return [Floor(stamp, root) for stamp in stamps if (root := _agreed(known, stamp))]


def said_of(words: Iterable[LogWord], stamp: int) -> dict[bytes, list[bytes]]:
    """What is attested for a stamp: the logs by the root that they say. More than one root: replicas disagree."""
    said: dict[bytes, list[bytes]] = {}
    for one in words:
        if stamp in one.attested:
            said.setdefault(one.attested[stamp].root, []).append(one.log)
    return said


def unsaid(words: Iterable[LogWord], stamp: int) -> list[bytes]:
    """The logs concerned that have not attested anything for the stamp: the floor waits for them."""
    return [one.log for one in _concerned(list(words), stamp) if stamp not in one.attested]


def _agreed(words: list[LogWord], stamp: int) -> bytes:
    """The one root that every log concerned attests for the stamp; empty if there is none."""
    concerned = _concerned(words, stamp)
    roots = {one.attested[stamp].root for one in concerned if stamp in one.attested}
    everybody = all(stamp in one.attested for one in concerned)
    return roots.pop() if everybody and len(roots) == 1 else b""


def _concerned(words: list[LogWord], stamp: int) -> list[LogWord]:
    carried = 0
    for one in words:
        if stamp in one.attested:
            carried |= one.attested[stamp].view
    return [
        one for one in words
        if not one.ended and one.begun is not None and one.begun <= stamp
        and not (one.exempt and not carried & one.opener)
    ]  # fmt: skip
