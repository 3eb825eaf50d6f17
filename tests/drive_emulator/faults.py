"""Things that go wrong, and the rules that say when. Seconds are those of the machine, whatever the clock."""

import fnmatch
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.drive_emulator.answers import JSON_TYPE, USAGE, Refusal, Reply, Request, usage


@dataclass(frozen=True, slots=True)
class DropBefore:
    """The connection breaks and nothing was done; with `after_bytes` as soon as that much of the body has come."""

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DropAfter:
    """All was done, then the connection breaks without an answer."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """The answer is broken off after so many bytes of its body, though its header announced all."""

    keep: int = 0


@dataclass(frozen=True, slots=True)
class Drip:
    """The body of the answer comes in small pieces, `pause` seconds apart."""

    piece: int = 1
    pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Stall:
    """All was done, and the answer does not come for so many seconds."""

    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Nothing is done; this is the answer. `refusal` gives those of the API, `html` those of the machines before it."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class FlipBit:
    """One bit of the answer's body is wrong. `at` counts bytes; None: by chance."""

    at: int | None = None


@dataclass(frozen=True, slots=True)
class OldVersion:
    """Contents as they were before the last replacement (see `Emulator.replace`)."""


@dataclass(frozen=True, slots=True)
class Vanish:
    """The file named in the request is gone from now on; no feed tells."""


@dataclass(frozen=True, slots=True)
class IgnoreRange:
    """The whole body and 200 though a part was asked for."""


@dataclass(frozen=True, slots=True)
class LoseTail:
    """The session loses the last bytes it has after this chunk, and the answer is lost too."""

    count: int = 256 * 1024


Fault = (
    DropBefore | DropAfter | Truncate | Drip | Stall | Answer | FlipBit | OldVersion | Vanish | IgnoreRange | LoseTail
)


def refusal(
    status: int,
    reason: str,
    message: str = "",
    *,
    retry_after: float | None = None,
    new_shape: bool = False,
) -> Answer:
    """An error of the API with this status and reason, in the usual shape of its body or the new one."""
    if reason in USAGE:
        return Answer(usage(reason, status, retry_after, new_shape).reply())
    made = Refusal(status, reason, message or f"Emulated: {reason}.", retry_after=retry_after, new_shape=new_shape)
    return Answer(made.reply())


def html(status: int = 502) -> Answer:
    """A page instead of JSON."""
    page = f"<!DOCTYPE html><html><title>Error {status} (Server Error)!!1</title><p>That's an error.</html>\n"
    return Answer(Reply(status, page.encode(), {"Content-Type": "text/html; charset=UTF-8"}))


def garbage(status: int = 200) -> Answer:
    """JSON that is none."""
    return Answer(Reply(status, b'{"kind": "drive#fi', {"Content-Type": JSON_TYPE}))


@dataclass(slots=True)
class Rule:
    """Which requests a fault meets: calls by name or pattern ("files.*"), from the `nth` match on, `times` of them."""

    fault: Fault
    call: str = "*"
    nth: int = 1
    times: int | None = 1  # None: always
    chance: float = 1.0
    email: str | None = None
    where: Callable[[Request], bool] | None = None  # sees the request before its body has come
    seen: int = 0  # matching requests so far
    hits: int = 0  # of which so many were met
    struck: threading.Event = field(default_factory=threading.Event)  # set with the first hit

    def meets(self, request: Request, chance: random.Random) -> bool:
        if not fnmatch.fnmatchcase(request.call, self.call):
            return False
        if self.email is not None and self.email != request.email:
            return False
        if self.where is not None and not self.where(request):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times is not None and self.hits >= self.times):
            return False
        if self.chance < 1 and chance.random() >= self.chance:
            return False
        self.hits += 1
        self.struck.set()
        return True
