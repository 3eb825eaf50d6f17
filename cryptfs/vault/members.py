"""The membership objects of a vault, from the store and from a copy on this disk.

They are immutable and prove themselves, so a copy is as good as the store; only whether there are *more* of them must
be asked. Without the store the copy serves: a mount starts offline with the members it knew.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import chance
from cryptfs.errors import ConfigError, HostileStore, NotFound, StoreError
from cryptfs.format.names import GENESIS, CrlName, parse_name
from cryptfs.format.statement import split_statement
from cryptfs.group.membership import Membership, open_membership
from cryptfs.vault.disk import local_disk
from cryptfs.vault.folder import MEMBERSHIP_OBJECT_MAX
from cryptfs.vault.news import News
from cryptfs.vault.upload import Sender

__all__ = ["load_membership", "read_copies", "refresh"]

log = logging.getLogger(__name__)

_BYTES_MAX: Final = 128 << 20
"""Of all membership objects together, kept in memory; a thousand members with a hundred rotations need half of it."""
_FIRST_ANSWER: Final = 15.0
"""Seconds for the first listing of a start that goes on without it; some hundred names, a page or two."""
_AT_ONCE: Final = 8
"""Objects that are asked for at the same time."""
_READ_AGAIN: Final = 8
"""Damaged objects that one refresh reads once more."""


async def load_membership(sender: Sender, copies: Path, keys: DeviceKeys, news: News) -> Membership:
    """What the group looks like now, for the owner of `keys`; `news` hears what changed since the copies were made.

    Raises ConfigError if the store holds another vault or none, StoreError if it does not answer and there is no copy,
    HostileStore, NeedsUpdate.
    """
    kept = dict(read_copies(copies))
    try:
        objects = await _fetch(sender, kept)
    except StoreError as err:
        if GENESIS not in kept or isinstance(err, NotFound):
            raise
        log.warning("starting without the store: %s", err)
        return open_membership(kept.items(), keys.vault, keys)
    _check_vault(objects.get(GENESIS), keys.vault)
    membership = open_membership(objects.items(), keys.vault, keys)
    spoiled = membership.damaged & kept.keys()
    if spoiled:  # the copies here, or what the store showed when they were made
        again = {name: objects[name] for name in spoiled} | await _read(sender, sorted(spoiled))
        membership, objects = membership.with_objects(again.items()), objects | again
    known = kept | {GENESIS: objects[GENESIS]}
    news.learn(membership, open_membership(known.items(), keys.vault, keys) if kept else None)
    _write_copies(copies, objects, kept, membership)
    return membership


async def refresh(
    sender: Sender, copies: Path, membership: Membership, listed: list[str], news: News, *, again: bool
) -> Membership | None:
    """The membership with objects that have appeared since; None if there are none. Raises StoreError, HostileStore.

    `listed`: names in `m/` and `w/` that the store has told of; `again`: read some more times what did not verify.
    """
    names = _without_lists(listed)
    new = [name for name in names if not membership.has_object(name)]
    objects = await _read(sender, new, _BYTES_MAX - membership.size)
    # A tool that synchronises the folder may have shown half of an object.
    damaged = sorted(membership.damaged.intersection(names)) if again else []
    some = chance().sample(damaged, min(len(damaged), _READ_AGAIN))
    objects |= {
        name: data for name, data in (await _read(sender, some)).items() if not membership.has_object(name, data)
    }
    if not objects:
        return None
    later = membership.with_objects(objects.items())
    _write_copies(copies, objects, {}, later)
    news.learn(later, membership)
    return later


async def _read(sender: Sender, names: list[str], room: int = _BYTES_MAX) -> dict[str, bytes]:
    """The objects of these names that are still there, none to a greater length than an honest one has.

    In all no more than a group can need: whoever floods the folder may keep newer decisions from arriving, as by
    deleting them, but does not take the machine's memory.
    """
    objects: dict[str, bytes] = {}
    for at in range(0, len(names), _AT_ONCE):
        if sum(map(len, objects.values())) >= room:
            log.warning(
                "%d membership objects are left unread: there are more in the folder than can be", len(names) - at
            )
            break
        objects |= await _read_some(sender, names[at : at + _AT_ONCE])
    return objects


async def _read_some(sender: Sender, names: list[str]) -> dict[str, bytes]:
    """Those of these few that are there, asked for at once: far away, each call in a row is felt at the start."""
    found: dict[str, bytes] = {}
    failures: list[StoreError] = []

    async def read(name: str) -> None:
        try:
            found[name] = await sender.get(name, 0, MEMBERSHIP_OBJECT_MAX)
        except NotFound:
            pass
        except StoreError as err:  # one by one, not as a group: callers ask what went wrong
            failures.append(err)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(read, name)
    if failures:
        raise failures[0]
    return {name: found[name] for name in names if name in found}


async def _fetch(sender: Sender, kept: dict[str, bytes]) -> dict[str, bytes]:
    """What store and copies have together: a decision that was seen once does not become undone by vanishing."""
    # With what is kept a vault opens without the store; whoever waits for that shall not wait for a dead line.
    listed = await (sender.list("m/", seconds=_FIRST_ANSWER) if GENESIS in kept else sender.list("m/"))
    names = [*_without_lists(listed), *await sender.list("w/")]
    # The genesis is compared even if there is a copy: the folder may hold another vault by now.
    objects = await _read(sender, [GENESIS, *(name for name in names if name not in kept)])
    vanished = sorted(kept.keys() - {GENESIS, *names})
    if vanished:
        log.warning("%d membership objects have disappeared from the store (%s …)", len(vanished), vanished[0])
    if GENESIS not in objects:
        kept.pop(GENESIS, None)  # an empty folder, perhaps a disk that is not mounted: nothing may be written there
    return kept | objects


def _without_lists(names: list[str]) -> list[str]:
    """Revocation lists lie among the statements, and have a reader of their own."""
    return [name for name in names if not isinstance(parse_name(name), CrlName)]


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


def read_copies(copies: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the copies in a directory. Raises LocalDisk."""
    with local_disk("reading the copy of the membership"):
        if copies.is_dir():
            for path in sorted(copies.iterdir()):
                yield path.name.replace("_", "/"), path.read_bytes()


def _write_copies(copies: Path, objects: dict[str, bytes], kept: dict[str, bytes], membership: Membership) -> None:
    """Keep what is new in `objects` and verifies: a copy is never read from the store again."""
    with local_disk("keeping a copy of the membership"):
        copies.mkdir(mode=0o700, exist_ok=True)
        for name, data in objects.items():
            if kept.get(name) != data and name not in membership.damaged:
                temporary = copies.parent / ".tmp-member"
                temporary.write_bytes(data)
                temporary.rename(copies / name.replace("/", "_"))
