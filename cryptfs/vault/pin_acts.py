"""What a person may ask of the pins, by name: for the commands, and for the control socket of a mount.

Arguments and answers are JSON values, paths as `os.fsdecode` makes them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import LocalDiskFull, NotKept, UsageError
from cryptfs.format.operation import KIND_DIR, KIND_FILE
from cryptfs.vault.info import path_of
from cryptfs.vault.past import in_words, parts_of
from cryptfs.vault.pins import Pin

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["change_pins"]

Arguments = Mapping[str, object]
Answer = dict[str, object]
Say = Callable[[Answer], Awaitable[None]]

_PINS_MAX: Final = 1_000
_PROGRESS_SECONDS: Final = 0.5


async def change_pins(vault: "Vault", act: str, arguments: Arguments, say: Say) -> Answer:
    """Do `act`. Raises UsageError for what nobody can do, and whatever the act raises."""
    if act not in _ACTS:
        raise UsageError(f"There is no act '{act}'.", "Are command and mount process of one version?")
    return await _ACTS[act](vault, arguments, say)


async def _list(vault: "Vault", _: Arguments, __: Say) -> Answer:
    """`pins`: a row for each; `state` and `problems` as in `status`."""
    keeper = vault.keeper
    if not keeper.looked:
        await keeper.look()
    return {
        "pins": [_row(vault, pin) for pin in keeper.pins.all],
        "state": keeper.state,
        "problems": keeper.problems(),
    }


def _row(vault: "Vault", pin: Pin) -> Answer:
    st = vault.keeper.node(pin)
    node = None if st is None else vault.replica.rows.node(st)
    if st is None or node is None:
        return {"path": in_words(pin.path), "kind": "deleted", "files": 0, "bytes": 0, "bytes_here": 0}
    amount = vault.keeper.amount([pin])
    return {
        "path": in_words(path_of(vault.replica, st)),
        "kind": "folder" if node.kind == KIND_DIR else "file",
        "files": amount.files,
        "bytes": amount.bytes,
        "bytes_here": amount.here,
    }


async def _add(vault: "Vault", arguments: Arguments, say: Say) -> Answer:
    """Pin `paths`; `wait`: until all of it is here. Raises NotKept, LocalDiskFull: then nothing is pinned of it."""
    keeper, before = vault.keeper, vault.keeper.pins.all
    new = [pin for pin in (_pin_at(vault, path) for path in _paths(arguments)) if pin not in before]
    pins = tuple(dict.fromkeys((*before, *new)))
    if len(pins) > _PINS_MAX:
        raise UsageError(f"More than {_PINS_MAX} pins are too many.", "Pin the folders that hold them.")
    if pins != before:
        await keeper.look(pins)
        try:
            keeper.require_room(keeper.lacking)
            keeper.pins.replace(pins)
        except LocalDiskFull:
            await keeper.look()
            raise
        keeper.stir()
    if arguments.get("wait"):
        async with _telling(vault, say):
            await keeper.bring()
    return await _list(vault, arguments, say)


async def _remove(vault: "Vault", arguments: Arguments, say: Say) -> Answer:
    """Unpin `paths`; what is here of it stays while the cache has room. Raises NotKept for what is not pinned."""
    left = list(vault.keeper.pins.all)
    for path in _paths(arguments):
        left.remove(_pin_of(vault, left, path))
    vault.keeper.pins.replace(tuple(left))
    await vault.keeper.look()
    return await _list(vault, arguments, say)


def _pin_at(vault: "Vault", path: bytes) -> Pin:
    st = vault.replica.find(path)
    node = None if st is None else vault.replica.rows.node(st)
    if st is None or node is None:
        raise NotKept(f"There is no '{in_words(path)}'.", "Check the path; it begins at the root of the vault.")
    if node.kind not in {KIND_DIR, KIND_FILE}:
        raise UsageError(f"'{in_words(path)}' is neither a file nor a folder.", "All the rest is here anyhow.")
    known = next((pin for pin in vault.keeper.pins.all if vault.keeper.node(pin) == st), None)
    return known or Pin(vault.replica.ino_of(st), path_of(vault.replica, st))


def _pin_of(vault: "Vault", pins: Sequence[Pin], path: bytes) -> Pin:
    """The pin of what is at a path, or was there before it was deleted."""
    st = vault.replica.find(path)
    for pin in pins:
        node = vault.keeper.node(pin)
        if node == st if node is not None else pin.path == path:
            return pin
    above = next((pin for pin in pins if _holds(vault, pin, st)), None)
    if above is not None:
        raise NotKept(
            f"'{in_words(path)}' is not pinned by itself, but with '{in_words(above.path)}'.",
            "Unpin that folder, and pin what you want to keep of it.",
        )
    raise NotKept(f"'{in_words(path)}' is not pinned.", "`cryptfs pin NAME` lists what is.")


def _holds(vault: "Vault", pin: Pin, st: int | None) -> bool:
    """Whether the node lies somewhere below what is pinned."""
    node = vault.keeper.node(pin)
    if node is None or st is None:
        return False
    parents = {link.parent for link in vault.replica.links(st)}
    return any(node == at or vault.replica.is_ancestor(node, at) for at in parents)


def _paths(arguments: Arguments) -> list[bytes]:
    paths = arguments.get("paths")
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise UsageError("`paths` must be a list of paths.")
    return [b"/".join(parts_of(path.encode(errors="surrogateescape"))) for path in paths]


@asynccontextmanager
async def _telling(vault: "Vault", say: Say) -> AsyncIterator[None]:
    """Say how far it is while the block runs."""

    async def progress() -> None:
        while True:
            status = vault.keeper.status()
            await say({"progress": {"bytes": status["bytes_here"], "of": status["bytes"]}})
            await trio.sleep(_PROGRESS_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress)
        yield
        nursery.cancel_scope.cancel()


_ACTS: Final[Mapping[str, Callable[["Vault", Arguments, Say], Awaitable[Answer]]]] = {
    "list": _list,
    "add": _add,
    "remove": _remove,
}
