"""Which bytes of a file changed since they were last put down durably: what a small `fsync` writes instead of chunks.

A program that appends a line or changes a page and asks for durability needs these bytes safe, not the whole chunk
sealed anew. They go into the journal's next frame (sealed like everything in it); the chunk is sealed later, once, when
the file is handed over. Replayed after a crash they give the same bytes again.
"""

from typing import Final

__all__ = ["WriteLog"]

_BYTES_MAX: Final = 2 << 20
_PIECES_MAX: Final = 2048
"""Beyond either a hand-over is cheaper than logging."""


class WriteLog:
    """Changed pieces, none across a chunk border: offset to length in bytes. `broken`: something else changed, too.

    One lasts from a change to the hand-over that takes it in.
    """

    __slots__ = ("_bytes", "broken", "pieces")

    def __init__(self) -> None:
        self.pieces: dict[int, int] = {}
        self._bytes = 0
        self.broken = False

    def note(self, offset: int, length: int) -> None:
        """`length` bytes at `offset` changed."""
        known = self.pieces.get(offset, 0)
        if length <= known or self.broken:
            return
        self.pieces[offset] = length
        self._bytes += length - known
        if self._bytes > _BYTES_MAX or len(self.pieces) > _PIECES_MAX:
            self.abandon()

    def abandon(self) -> None:
        """Only a hand-over tells all now."""
        self.broken = True
        self.pieces.clear()

    def put_down(self) -> None:
        """The pieces are in the journal."""
        self.pieces.clear()
        self._bytes = 0
