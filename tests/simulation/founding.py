"""The group that every simulated history begins with: keys of its people, and the store after each was let in.

Certificates are never made alike twice, so the group is made once by the real acts and kept in `group.json`
(`python -m tests.simulation.founding` makes it anew). A history with n devices begins with the first n of them.
"""

import functools
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import trio

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import LocalSecret
from cryptfs.group.authority import Tier
from tests.vault.administration_world import Device, World

GROUP_FILE = Path(__file__).parent / "group.json"
MEMBERS = (("Bob", Tier.WRITER), ("Carol", Tier.ADMIN), ("Dave", Tier.WRITER), ("Eve", Tier.READER))
"""Who was let in after Anna, the founder, in this order."""
STRANGERS = 3
"""Devices with keys that nobody has let in yet."""

_KEY_FIELDS = ("vault", "entry", "key", "cert", "seed", "local")


@dataclass(frozen=True)
class Founded:
    """Members' keys, those of strangers, all objects of the store by how many members it has, when that was, ns."""

    keys: list[DeviceKeys]
    strangers: list[DeviceKeys]
    objects: list[dict[str, bytes]]
    made_ns: int

    def store_of(self, members: int) -> dict[str, bytes]:
        """The objects that the store of a group of so many members begins with."""
        return {name: data for some in self.objects[:members] for name, data in some.items()}


@functools.cache
def founded() -> Founded:
    """The group of all runs."""
    told = json.loads(GROUP_FILE.read_text())

    def keys(people: str) -> list[DeviceKeys]:
        return [
            DeviceKeys(
                *(bytes.fromhex(one[name]) for name in _KEY_FIELDS[:-1]), LocalSecret(bytes.fromhex(one["local"]))
            )
            for one in told[people]
        ]

    objects = [{name: bytes.fromhex(data) for name, data in some.items()} for some in told["objects"]]
    return Founded(keys("members"), keys("strangers"), objects, told["made_ns"])


def make_group() -> None:
    """Found a vault anew and have its members let in by the real acts."""
    base = Path(tempfile.mkdtemp(prefix="cryptfs-simulated-"))
    try:
        world = World(base)
        seen: set[str] = set()
        objects = [_new_objects(world.folder, seen)]

        async def admit() -> list[Device]:
            people = [world.anna]
            for name, role in MEMBERS:
                people.append(await world.admit(name, role))
                objects.append(_new_objects(world.folder, seen))
            return people

        people = trio.run(admit)
        told = {
            "made_ns": time.time_ns(),
            "members": [_told(person.keys) for person in people],
            "strangers": [_told(world.device(f"Stranger {n}").keys) for n in range(STRANGERS)],
            "objects": objects,
        }
        GROUP_FILE.write_text(json.dumps(told, indent=1) + "\n")
    finally:
        shutil.rmtree(base)


def _new_objects(folder: Path, seen: set[str]) -> dict[str, str]:
    """What has appeared in the folder since the last look; requests to be let in are over by then."""
    names = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    new = {name: path.read_bytes().hex() for name, path in names.items() if name not in seen and name[:2] != "j/"}
    seen.update(new)
    return new


def _told(one: DeviceKeys) -> dict[str, str]:
    parts = (one.vault, one.entry, one.cert_key_pkcs8, one.cert_der, one.sign_seed, one.local_secret)
    return dict(zip(_KEY_FIELDS, [part.hex() for part in parts], strict=True))


if __name__ == "__main__":
    make_group()
