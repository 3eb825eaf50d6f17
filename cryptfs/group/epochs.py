"""How epoch secrets travel: wraps to certificates, and history boxes from an epoch to earlier ones (docs/format.md).

Neither proves anything by itself: anybody can make a wrap. A secret is accepted only if its recomputed commit is one
that a statement signed; then it does not matter who handed it over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptfs.crypto.keys import EpochSecret, eid, epoch_commit, history_ctx, history_key
from cryptfs.crypto.seal import open_sealed, seal
from cryptfs.errors import AuthError, Invalid
from cryptfs.format.codec import decode, encode
from cryptfs.format.form import ascending
from cryptfs.format.limits import HISTORY_MAX

__all__ = ["KnownSecrets", "box_history", "open_history", "worth_boxing"]

_HISTORY_BYTES: Final = 64 * HISTORY_MAX


def box_history(vault: bytes, es: EpochSecret, earlier: Mapping[bytes, EpochSecret]) -> bytes:
    """Seal `earlier` epoch secrets by id for whoever holds `es`; empty for none.

    Raises ValueError for more than 256.
    """
    if not earlier:
        return b""
    if len(earlier) > HISTORY_MAX:
        raise ValueError("a history box holds at most 256 epochs")
    epoch = eid(epoch_commit(vault, es))
    return seal(history_key(vault, epoch, es), history_ctx(vault, epoch), encode(tuple(sorted(earlier.items()))))


def open_history(vault: bytes, es: EpochSecret, box: bytes) -> dict[bytes, EpochSecret]:
    """The secrets in the box of the epoch with secret `es`, by claimed id, not yet checked against any commit.

    Raises AuthError, or Invalid for a box that opens but holds something else.
    """
    if not box:
        return {}
    epoch = eid(epoch_commit(vault, es))
    plain = open_sealed(history_key(vault, epoch, es), history_ctx(vault, epoch), box)
    found = decode(tuple[tuple[bytes, bytes], ...], plain, _HISTORY_BYTES)
    ascending((one for one, _ in found), "epochs of a history box")
    if len(found) > HISTORY_MAX or any(len(one) != 16 or len(secret) != 32 for one, secret in found):
        raise Invalid("a history box is out of range")
    return {one: EpochSecret(secret) for one, secret in found}


@dataclass(slots=True)
class KnownSecrets:
    """Collects epoch secrets and lets in only those that fit a signed commit.

    `commits`: all commits that statements announce, by epoch id. `boxes`: the history boxes in those statements, with
    the id of the statement, by epoch id. `refused`: what did not fit and where it came from.
    """

    vault: bytes
    commits: Mapping[bytes, frozenset[bytes]]
    boxes: Mapping[bytes, Iterable[tuple[bytes, bytes]]]
    secrets: dict[bytes, EpochSecret] = field(default_factory=dict, repr=False)
    refused: list[tuple[bytes, str]] = field(default_factory=list)

    def offer(self, epoch: bytes, secret: bytes, source: bytes) -> bool:
        """Take in the secret of `epoch` (16 bytes) if it fits, with all it opens. `source`: id of what it came from."""
        offered = [(epoch, secret, source)]
        taken = False
        while offered:
            one, candidate, origin = offered.pop()
            if one in self.secrets:
                continue
            es = EpochSecret(candidate)
            if epoch_commit(self.vault, es) not in self.commits.get(one, ()):
                self.refused.append((origin, "an epoch secret does not match its commit"))
                continue
            self.secrets[one] = es
            taken = True
            for statement, box in self.boxes.get(one, ()):
                offered += [(old, old_secret, statement) for old, old_secret in self._open(es, box, statement).items()]
        return taken

    def _open(self, es: EpochSecret, box: bytes, statement: bytes) -> dict[bytes, EpochSecret]:
        try:
            return open_history(self.vault, es, box)
        except (AuthError, Invalid):
            self.refused.append((statement, "a history box does not open"))
            return {}


def worth_boxing(known: KnownSecrets, current: Iterable[bytes]) -> dict[bytes, EpochSecret]:
    """What a new epoch boxes: the current epochs held, and every other one that their boxes do not lead to."""
    chosen = {one: known.secrets[one] for one in current if one in known.secrets}
    reached = KnownSecrets(known.vault, known.commits, known.boxes)
    for one, secret in chosen.items():
        reached.offer(one, secret, b"")
    for one in sorted(set(known.secrets) - set(reached.secrets)):
        if one not in reached.secrets and len(chosen) < HISTORY_MAX:
            chosen[one] = known.secrets[one]
            reached.offer(one, known.secrets[one], b"")
    return chosen
