"""Whether the account has room: after Drive has said it has none, nothing is sent before Drive says it has some."""

from collections.abc import Iterator
from contextlib import contextmanager

from cryptfs.errors import Quota
from cryptfs.store.base import Call
from cryptfs.store.drive.client import Client

__all__ = ["Room"]


class Room:
    """The storage of one account. Thread-safe: it holds one value."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._full: Quota | None = None

    @contextmanager
    def for_bytes(self, size: int, call: Call) -> Iterator[None]:
        """Inside, an object of `size` bytes is sent. Raises Quota, at once while the account is known to be full."""
        if self._full is not None:
            space = self._client.about(call)[1]
            if space is not None and space.free < size:
                raise Quota(str(self._full), self._full.advice, state=self._full.state)
            self._full = None
        try:
            yield
        except Quota as error:
            if not error.state:  # of storage, not of a day
                self._full = error
            raise
