"""The cloud folder of a simulated group, and each device's way to it; both remember what happened, for the judges.

What is recorded here is independent of what the devices believe: every object that ever lay in the folder, who deleted
what, and what each device has been shown.
"""

import random
from collections.abc import Callable

from cryptfs.faults import Faults
from cryptfs.store import Call, Knobs, SimStore, SimWorld
from cryptfs.store.base import Buffer, Stat
from tests.simulation.clockwork import true_ms

__all__ = ["Deletion", "DeviceStore", "Folder"]

Deletion = tuple[str, str]
"""Name of the device, key of the object."""


class Folder(SimWorld):
    """What the provider holds, with true dates. `ever`: all objects there ever were; `deleted`: who deleted what."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.ever = dict(objects)
        self.deleted: list[Deletion] = []
        self.put_by: dict[str, str] = {}
        """Name of the device that put an object there first."""
        self.restore(objects)

    def put(self, key: str, data: Buffer, call: Call, *, if_absent: bool = False) -> Stat:
        self._births = max(self._births, true_ms())  # a birth is the number and the date of an object
        stat = super().put(key, data, call, if_absent=if_absent)
        self.ever.setdefault(key, bytes(data))
        return stat

    def beside(self, objects: dict[str, bytes]) -> "Folder":
        """Another folder, for a device that is shown these objects; what is put there is recorded here as well."""
        other = Folder(objects)
        other.ever, other.deleted, other.put_by = self.ever, self.deleted, self.put_by
        return other

    def give_back(self, objects: dict[str, bytes]) -> None:
        """Have these objects there again, beside what is there."""
        self.restore({**objects, **self.snapshot()})


class DeviceStore(SimStore):
    """One device's view of the folder.

    `shown`: log and membership objects that the device has read or written, so that it knows that they exist; `tried`:
    all it wanted to write.
    `before_put` is called with the key of every new object, and may object.
    """

    def __init__(self, world: Folder, seed: int, knobs: Knobs, account: str) -> None:
        super().__init__(world, seed, knobs, account=account)
        self.shown: set[str] = set()
        self.tried: set[str] = set()
        self.before_put: Callable[[str], None] = lambda _: None

    def use_faults(self, faults: Faults) -> None:
        """Pass the steps of calls to these from now on."""
        self._faults = faults

    def draw_from(self, seed: int) -> None:
        """What goes wrong from now on depends on this seed, and not on what went before."""
        self._rng = random.Random(seed)

    def put(self, key: str, data: Buffer, call: Call, *, if_absent: bool = False) -> Stat:
        if self.world.stat(key, call) is None:
            self.before_put(key)
            self.tried.add(key)
        if isinstance(self.world, Folder) and key not in self.world.ever:
            self.world.put_by.setdefault(key, self.account)
        stat = super().put(key, data, call, if_absent=if_absent)
        if key[:2] in ("l/", "m/"):
            self.shown.add(key)
        return stat

    def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        data = super().get(key, call, start, length)
        if key[:2] in ("l/", "m/"):
            self.shown.add(key)
        return data

    def delete(self, key: str, call: Call) -> None:
        there = self.world.stat(key, call) is not None
        super().delete(key, call)
        if there and isinstance(self.world, Folder):
            self.world.deleted.append((self.account, key))
