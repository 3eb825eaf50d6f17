"""Reading an object from Google Drive: which of its copies, which part, and whether that part is what came.

A name may have several files behind it, of which only the reader of the bytes can tell which are right. Those that this
device has sent itself, or whose SHA-256 is in their very name, come first; among others every further reading asks
another one, so that a reader who finds damage and asks again gets the next copy.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from cryptfs.errors import Denied, Fatal, NotFound, Retry
from cryptfs.store.base import Call, split_key
from cryptfs.store.drive.client import Client
from cryptfs.store.drive.errors import TakenForHarmful
from cryptfs.store.drive.idmap import Entry, IdMap

__all__ = ["Reader", "bears_its_hash", "is_named_by_hash"]

_REMEMBERED: Final = 1024
_NAMED_BY_HASH: Final = re.compile(r"(?:p[0-9a-f]?/|j/|m/(?=.*\.crl)|w/[0-9a-f]+-)([0-9a-f]+)(?:\.crl)?")
"""Objects whose name holds (a beginning of) the SHA-256 of all their bytes (docs/format.md, "Objects")."""


class Reader:
    """Reads objects. `known` gives the copies of a key that are known, `search` those that Drive tells. Thread-safe."""

    def __init__(
        self,
        client: Client,
        ids: IdMap,
        known: Callable[[str], list[Entry]],
        search: Callable[[str, Call], list[Entry]],
    ) -> None:
        self._client = client
        self._ids = ids
        self._known = known
        self._search = search
        self._lock = threading.Lock()
        self._turn: OrderedDict[str, int] = OrderedDict()  # by key: how often one with doubtful copies was read
        self._odd: set[str] = set()  # ids that answered a range with something else

    def get(self, key: str, call: Call, start: int, length: int | None) -> bytes:
        """See Store.get. Denied, if Drive gives out no copy; Fatal, if it goes on sending something else."""
        split_key(key)
        if start < 0 or (length is not None and length < 0):
            raise ValueError("a range cannot be negative")
        refused: Denied | None = None
        for fresh in (False, True):
            copies = self._search(key, call) if fresh else self._known(key)
            for entry in self._in_turn(key, copies):
                try:
                    return self._read(entry, call, start, length)
                except NotFound:
                    self._ids.forget(entry.id)
                except Denied as error:
                    refused = error
            if refused is not None:
                raise refused
        raise NotFound(f"Google Drive has no object {key}.")

    def _in_turn(self, key: str, copies: list[Entry]) -> list[Entry]:
        """The copies in the order to be tried."""
        sure = [one for one in copies if one.proven or bears_its_hash(one)]
        doubtful = [one for one in copies if one not in sure]
        if sure or len(doubtful) < 2:
            return sure + doubtful
        with self._lock:
            turn = self._turn.pop(key, -1) + 1
            self._turn[key] = turn
            if len(self._turn) > _REMEMBERED:
                self._turn.popitem(last=False)
        at = turn % len(doubtful)
        return doubtful[at:] + doubtful[:at]

    def _read(self, entry: Entry, call: Call, start: int, length: int | None) -> bytes:
        size = entry.sums.size
        end = size if length is None else min(size, start + length)
        if start >= end and size > 0:
            return b""
        whole = (start, end) == (0, size)
        try:
            status, span, data = self._client.read(entry.id, call, None if whole else (start, end))
        except TakenForHarmful:
            if entry.mine is False:
                raise
            # Ciphertext looks like anything by chance. Its owner gets it all the same, or an organizer of the drive.
            status, span, data = self._client.read(entry.id, call, None if whole else (start, end), harmful=True)
        if whole:
            right = status == 200 and len(data) == size
        else:
            right = status == 206 and span == f"bytes {start}-{end - 1}/{size}" and len(data) == end - start
        if right:
            with self._lock:
                self._odd.discard(entry.id)
            return data
        raise self._mismatch(entry, status, call)

    def _mismatch(self, entry: Entry, status: int, call: Call) -> Retry | Fatal:
        """Something else came than was asked for: once that is chance, twice it is not."""
        file = self._client.file(entry.id, call)
        with self._lock:
            again = entry.id in self._odd
            self._odd.add(entry.id)
        if file.sums.size != entry.sums.size:
            self._ids.forget(entry.id)  # it was no hint worth having
        elif again:
            return Fatal(
                f"Google Drive keeps sending another part of {entry.key} than it is asked for (HTTP {status}).",
                "Check whether a proxy stands between; if it goes on, report it.",
            )
        return Retry(f"Google Drive sent another part of an object than it was asked for (HTTP {status}).")


def is_named_by_hash(key: str) -> bool:
    """Whether the name of an object says what its bytes are."""
    return _NAMED_BY_HASH.fullmatch(key) is not None


def bears_its_hash(entry: Entry) -> bool:
    """Whether a file has the bytes that its name says; Drive does not tell of a few old ones."""
    found = _NAMED_BY_HASH.fullmatch(entry.key)
    return found is not None and bool(entry.sums.sha256) and entry.sums.sha256.startswith(found.group(1))
