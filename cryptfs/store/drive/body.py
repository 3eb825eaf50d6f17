"""The bytes of an upload as Google's client library takes them, a chunk at a time and never in memory as a whole."""

import threading
from collections.abc import Iterator
from typing import Final

from googleapiclient.http import MediaUpload

from cryptfs.store.base import Call
from cryptfs.store.drive.source import Source

__all__ = ["CHUNK", "SENDING", "Body", "Turn"]

CHUNK: Final = 32 << 20
"""Bytes of one request of a resumable upload, a multiple of 256 KiB. The line rests for one delay after each, and what
came of one that broke off Google mostly keeps."""
SENDING: Final = 2
"""Chunks on their way at the same time."""
_LOOK_S: Final = 0.25
"""Seconds between two looks at the time of a call that waits for its turn."""
_PIECE: Final = 256 << 10
"""Bytes read from the disk and handed to the socket at once."""


class Turn:
    """The right of one upload to send, among all of a client.

    Two send at a time and others wait for answers meanwhile. When all sent at once, they came to wait for their answers
    all at the same time, and the line rested: 1 GiB took 1.2 times what the bytes alone take.
    """

    def __init__(self, sending: threading.Semaphore) -> None:
        self._sending = sending
        self._taken = False
        self.call = Call()

    def take(self) -> None:
        """Wait for it. Raises Retry when the call is late or aborted."""
        while not self._taken:
            self.call.check()
            self._taken = self._sending.acquire(timeout=min(_LOOK_S, self.call.remaining()))

    def leave(self) -> None:
        """Let another send; also without having it."""
        if self._taken:
            self._taken = False
            self._sending.release()


class _Window:
    """A chunk of an upload as the body of a request: read piece by piece, and from its beginning whenever it is sent.

    Such a request goes again by itself when a connection drops or a token has expired.
    """

    def __init__(self, source: Source, begin: int, length: int, turn: Turn) -> None:
        self._source, self._begin, self._length, self._turn = source, begin, max(0, length), turn

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, self._length, _PIECE):
            yield self._source.read(self._begin + at, min(_PIECE, self._length - at))
        self._turn.leave()


class Body(MediaUpload):  # type: ignore[misc]
    """The bytes of an upload. Without a stream, so that a chunk can be sent twice.

    `turn` is taken before each chunk of a resumable upload and left when the last of its bytes is on the way.
    """

    def __init__(self, source: Source, turn: Turn | None = None) -> None:
        self._source = source
        self._turn = turn

    def mimetype(self) -> str:
        return "application/octet-stream"

    def size(self) -> int:
        return self._source.sums.size

    def chunksize(self) -> int:
        return CHUNK

    def resumable(self) -> bool:
        return self._turn is not None

    def has_stream(self) -> bool:
        return False

    def getbytes(self, begin: int, length: int) -> bytes | _Window:
        """At most `length` bytes from `begin`. Raises LocalDisk, Retry when it is too late for a turn."""
        if self._turn is None:
            return self._source.read(begin, length)
        self._turn.take()
        return _Window(self._source, begin, min(length, self.size() - begin), self._turn)
