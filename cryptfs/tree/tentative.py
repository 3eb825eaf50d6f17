"""Which local operations are applied but not sealed, and the units of the undo log where each begins."""

from cryptfs.tree.database import Database

__all__ = ["Tentative"]


class Tentative:
    """Table `tentative`; new rows are buffered until `flush`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._buffer: list[tuple[int, int, bool]] = []

    def add(self, k: int, u: int, *, clean: bool) -> None:
        """Operation `k` was applied as unit `u`; `clean`: with the plain outcome."""
        self._buffer.append((k, u, clean))

    def flush(self) -> None:
        """Write what is buffered. Called before every commit; the questions below do it themselves."""
        if self._buffer:
            self._db.many("INSERT INTO tentative VALUES(?, ?, ?)", self._buffer)
            self._buffer.clear()

    def first_unit(self, after_k: int = -1) -> int | None:
        """Unit of the first operation above `after_k`."""
        self.flush()
        first: int | None = self._db.all("SELECT min(u) FROM tentative WHERE k > ?", (after_k,))[0][0]
        return first

    def units(self, upto_k: int) -> dict[int, int]:
        """Unit by k of the operations up to `upto_k`, ascending."""
        self.flush()
        return dict(self._db.all("SELECT k, u FROM tentative WHERE k <= ? ORDER BY k", (upto_k,)))

    def clean(self, upto_k: int) -> bool:
        """Whether all operations up to `upto_k` had the plain outcome."""
        self.flush()
        dirty = self._db.all("SELECT 1 FROM tentative WHERE k <= ? AND NOT clean LIMIT 1", (upto_k,))
        return not dirty

    def drop(self, upto_k: int | None = None) -> None:
        """Operations up to `upto_k`, or all, are not tentative any more."""
        self.flush()
        self._db.run("DELETE FROM tentative WHERE k <= ?", (1 << 62 if upto_k is None else upto_k,))
