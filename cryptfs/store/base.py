"""What cryptfs asks of a place that keeps its objects (docs/format.md, "Objects").

A store holds immutable objects under keys such as `l/<hex>`. It is synchronous and may be called from any thread; every
call carries a `Call`, which says until when an answer is wanted and lets another thread give up on it. A store never
tries twice by itself: that is `retry.py`. All errors are the store family of `cryptfs/errors.py`.

The protocol of the vault is right without any of the capabilities: keys are unique by construction and every object
proves itself by its bytes. A capability only makes something cheaper, or guards it once more.
"""

import contextlib
import enum
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from cryptfs.errors import Retry

__all__ = [
    "MONOTONIC",
    "Abort",
    "Access",
    "Buffer",
    "Call",
    "Cap",
    "Change",
    "Changes",
    "Clock",
    "Owning",
    "Sharing",
    "Space",
    "Stat",
    "Store",
    "check_key",
    "is_folder",
    "is_key",
    "split_key",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

_FOLDER: Final = re.compile(r"[a-z][0-9a-f]?")
_NAME: Final = re.compile(r"[0-9a-f]+(?:-r?[0-9a-f]+)*(?:\.crl)?")
_TOP: Final = frozenset({"genesis", "README.txt"})


class Cap(enum.Enum):
    """What a store can do beyond the least."""

    ATOMIC_PUT = "a reader sees a whole object or none"
    IF_ABSENT = "of several puts of one key one wins and the others are told"
    CAS = "a change can be made conditional on what is there"
    CHANGES = "`changes` asks a feed instead of comparing listings"
    STRONG_LIST = "a listing shows every finished put"
    TWINS = "several objects may bear one key"
    OWNERS = "objects of others cannot be deleted"
    COPY = "objects can be copied inside the store"


class Clock(Protocol):
    """Time that only runs forward."""

    def now(self) -> float:
        """Seconds since some fixed moment."""

    def wait(self, seconds: float, abort: "Abort | None") -> None:
        """Let `seconds` pass; return earlier when `abort` is set."""


class Abort:
    """A flag one thread sets to make the calls of another return soon, with `Retry`."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._wakes: list[Callable[[], None]] = []

    def set(self) -> None:
        """Give up on every call that carries this flag. Final."""
        with self._lock:
            self._event.set()
            wakes = list(self._wakes)
        for wake in wakes:
            wake()

    def is_set(self) -> bool:
        """Whether it was given up."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep until set, at most `seconds` (may be infinite). Returns whether it is set."""
        return self._event.wait(min(max(0.0, seconds), threading.TIMEOUT_MAX))

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """While inside, `set` calls `wake`, from its own thread: for waits on something other than this flag.

        `wake` must not block. Already set: it is called at once.
        """
        with self._lock:
            self._wakes.append(wake)
            late = self._event.is_set()
        if late:
            wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakes.remove(wake)


class _Monotonic:
    """The time of the machine."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float, abort: Abort | None) -> None:
        (abort or Abort()).wait(seconds)


MONOTONIC: Final[Clock] = _Monotonic()


@dataclass(frozen=True, slots=True)
class Call:
    """How long one call may take. `deadline` is in seconds of `clock`; infinite by default."""

    deadline: float = math.inf
    abort: Abort | None = None
    clock: Clock = field(default=MONOTONIC, repr=False)

    @classmethod
    def within(cls, seconds: float, abort: Abort | None = None, clock: Clock = MONOTONIC) -> "Call":
        """A call that wants its answer `seconds` from now."""
        return cls(clock.now() + seconds, abort, clock)

    @property
    def aborted(self) -> bool:
        """Whether another thread gave up on it."""
        return self.abort is not None and self.abort.is_set()

    def remaining(self) -> float:
        """Seconds left; 0 when late or aborted."""
        return 0.0 if self.aborted else max(0.0, self.deadline - self.clock.now())

    def check(self) -> None:
        """Raise `Retry` when late or aborted. Long work asks between its pieces."""
        if self.aborted:
            raise Retry("the call was given up")
        if self.deadline <= self.clock.now():
            raise Retry("the store did not answer in time")


class Stat(NamedTuple):
    """One object as the store describes it. `id` is the store's own name for this very object, no promise of ours."""

    key: str
    size: int  # bytes
    mtime_ms: int  # milliseconds since 1970, by the store's clock: for people only
    id: str


class Change(NamedTuple):
    """Something the store says happened to a key. `stat` None: gone, which is a hint and never a deletion by itself."""

    key: str
    stat: Stat | None


Changes: TypeAlias = tuple[list[Change], str]  # and the cursor to continue from


class Space(NamedTuple):
    """Room in the store, bytes. `free` is what this account may still use."""

    total: int
    free: int


class Store(Protocol):
    """Where the objects of a vault lie. Thread-safe; opening one does no I/O, so it works offline.

    Every method may raise `Retry`, `StoreGone`, `Auth`, `Denied`, `Fatal`, and ValueError for a key outside the grammar
    of docs/format.md (our own bug).
    """

    @property
    def caps(self) -> frozenset[Cap]:
        """What this store can do; may shrink after the first contact."""

    def put(self, key: str, data: Buffer, call: Call, *, if_absent: bool = False) -> Stat:
        """Store an object, whole or not at all; on return it is as durable as this store makes things.

        Equal bytes under the same key succeed, so a put whose answer was lost can be repeated. `Exists` when other
        bytes lie there and the store can tell; `if_absent` asks a store with `Cap.IF_ABSENT` to make sure of that, the
        others ignore it. `Quota` when full.
        """

    def put_file(self, key: str, path: Path, call: Call, *, if_absent: bool = False) -> Stat:
        """As `put`, the bytes being those of the local file `path`, which never lie in memory as a whole.

        `LocalDisk` when the file cannot be read or changes meanwhile.
        """

    def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        """The bytes from `start`, at most `length`; fewer at the end of the object, none beyond it. `NotFound`."""

    def stat(self, key: str, call: Call) -> Stat | None:
        """The object under this key, None if there is none."""

    def delete(self, key: str, call: Call) -> None:
        """Remove an object; one that is missing is fine. `Denied` for another owner's."""

    def list(self, prefix: str, call: Call, after: str = "") -> Iterator[Stat]:
        """Objects whose key starts with `prefix` and is greater than `after`, by ascending key.

        Things that are no objects of ours are left out. Errors may come while iterating.
        """

    def changes(self, cursor: str, call: Call) -> Changes:
        """What happened since `cursor`, and the next cursor. "" or a cursor that has died gives everything there is.

        Nothing is lost between two calls, but things may be told twice, and packs (`p/`) need not be told at all:
        nobody looks for one before a segment has named it.
        """

    def space(self, call: Call) -> Space | None:
        """Room left, None if the store does not say."""

    def close(self) -> None:
        """Let go of descriptors and connections. No call may be running; none may follow."""


@runtime_checkable
class Owning(Protocol):
    """What a store with `Cap.OWNERS` can do besides: its objects belong to accounts, and only an owner deletes his.

    Several accounts may each own an object under one key (`Cap.TWINS`); readers use any of them that verifies.
    """

    def take_over(self, key: str, call: Call) -> bool:
        """Have an object of this account's own under `key`, with the bytes of the one that is there.

        Copied inside the store if it can (`Cap.COPY`); on return the copy has size and sum of the original. Returns
        whether that was necessary. `NotFound`, `Quota`.
        """

    def hand_over(self, key: str, call: Call) -> bool:
        """Delete this account's own object under `key`, if another account has one of the same size and sum there.

        Returns whether one was deleted.
        """


class Access(NamedTuple):
    """Somebody whom the provider lets into the folder. `person`: `account` is an address of one, and of no group.

    `owner`: it is theirs, which nobody can withdraw; `inherited`: by something above the folder, to be withdrawn there.
    """

    account: str
    writes: bool
    owner: bool
    inherited: bool
    person: bool


@runtime_checkable
class Sharing(Protocol):
    """What a store can do besides whose provider lets accounts into a folder: beside the group, and not part of it."""

    def access(self, call: Call) -> tuple[Access, ...]:
        """Whom the provider lets into the folder, as far as this account may know. `Denied` if it may not."""

    def grant(self, account: str, call: Call, *, letter: bool) -> bool:
        """Let an account read and write; returns whether that was necessary. `letter`: the provider writes to it.

        `Denied` where the account, or those who rule over one of both, forbid it.
        """

    def withdraw(self, account: str, call: Call) -> bool:
        """Let an account in no more; returns whether it was let in. `Denied` for its owner, and for what is inherited.

        What the account has sent may stay its own: see `Owning`.
        """

    def senders(self, folder: str, call: Call) -> dict[str, str]:
        """The account that sent each object in a folder such as "l", by key. It is the provider's word."""


def split_key(key: str) -> tuple[str, str]:
    """Folder ("" at the top) and name of a key. ValueError outside the grammar."""
    folder, slash, name = key.rpartition("/")
    if slash:
        if _FOLDER.fullmatch(folder) and _NAME.fullmatch(name):
            return folder, name
    elif name in _TOP:
        return "", name
    raise ValueError(f"not a key of a store: {key!r}")


def check_key(key: str) -> str:
    """The key itself. ValueError outside the grammar, so that nothing odd ever reaches a path or an address."""
    split_key(key)
    return key


def is_folder(name: str) -> bool:
    """Whether a folder of ours can bear this name."""
    return _FOLDER.fullmatch(name) is not None


def is_key(key: str) -> bool:
    """Whether an object of ours can bear this name; conflict copies and temporary files of any tool do not."""
    try:
        split_key(key)
    except ValueError:
        return False
    return True
