"""The membership objects of a vault, from the store and from a copy on this disk.

They are immutable and prove themselves, so a copy is as good as the store; only whether there are *more* of them must
be asked. Without the store the copy serves: a mount starts offline with the members it knew.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import ConfigError, HostileStore, NotFound, StoreError
from cryptfs.format.limits import STATEMENT_MAX, WRAPS_MAX
from cryptfs.format.names import GENESIS
from cryptfs.format.statement import split_statement
from cryptfs.group.membership import Membership, open_membership
from cryptfs.vault.disk import local_disk
from cryptfs.vault.upload import Sender

__all__ = ["load_membership", "refresh"]

log = logging.getLogger(__name__)

_OBJECT_MAX = max(STATEMENT_MAX, WRAPS_MAX) + 4096
"""Bytes; more is junk and not fetched to the end."""


async def load_membership(sender: Sender, copies: Path, keys: DeviceKeys) -> Membership:
    """What the group looks like now, for the owner of `keys`.

    Raises ConfigError if the store holds another vault or none, StoreError if it does not answer and there is no copy,
    HostileStore, NeedsUpdate.
    """
    kept = dict(_read_copies(copies))
    try:
        objects = await _fetch(sender, kept)
    except StoreError as err:
        if GENESIS not in kept or isinstance(err, NotFound):
            raise
        log.warning("starting without the store: %s", err)
        return open_membership(kept.items(), keys.vault, keys)
    _check_vault(objects.get(GENESIS), keys.vault)
    _write_copies(copies, objects, kept)
    for ignored in (membership := open_membership(objects.items(), keys.vault, keys)).ignored:
        log.warning("%d objects in the store are ignored: one %s (%s)", ignored.count, ignored.reason, ignored.names[0])
    return membership


async def refresh(sender: Sender, copies: Path, membership: Membership) -> Membership | None:
    """The membership with objects that have appeared since; None if there are none. Raises StoreError, HostileStore."""
    names = [*await sender.list("m/"), *await sender.list("w/")]
    new = [name for name in names if not membership.has_object(name)]
    objects: dict[str, bytes] = {}
    for name in new:
        with contextlib.suppress(NotFound):
            objects[name] = await sender.get(name, 0, _OBJECT_MAX)
    if not objects:
        return None
    _write_copies(copies, objects, {})
    return membership.with_objects(objects.items())


async def _fetch(sender: Sender, kept: dict[str, bytes]) -> dict[str, bytes]:
    names = [*await sender.list("m/"), *await sender.list("w/")]
    objects: dict[str, bytes] = {}
    for name in [GENESIS, *names]:
        # The genesis is compared even if there is a copy: the folder may hold another vault by now.
        if name in kept and name != GENESIS:
            objects[name] = kept[name]
            continue
        try:
            objects[name] = await sender.get(name, 0, _OBJECT_MAX)
        except NotFound:
            if name in kept:
                objects[name] = kept[name]
    return objects


def _check_vault(genesis: bytes | None, vault: bytes) -> None:
    if genesis is None:
        raise ConfigError(
            "There is no vault in this folder.", "Check the address of the store in the settings of the vault."
        )
    try:
        split_statement(genesis, vault)
    except HostileStore as err:
        raise ConfigError(
            "The folder holds another vault than the one these keys belong to.",
            "Check the address of the store in the settings of the vault.",
        ) from err


def _read_copies(copies: Path) -> Iterator[tuple[str, bytes]]:
    with local_disk("reading the copy of the membership"):
        if copies.is_dir():
            for path in sorted(copies.iterdir()):
                yield path.name.replace("_", "/"), path.read_bytes()


def _write_copies(copies: Path, objects: dict[str, bytes], kept: dict[str, bytes]) -> None:
    with local_disk("keeping a copy of the membership"):
        copies.mkdir(mode=0o700, exist_ok=True)
        for name, data in objects.items():
            if kept.get(name) != data:
                temporary = copies.parent / ".tmp-member"
                temporary.write_bytes(data)
                temporary.rename(copies / name.replace("/", "_"))
