"""What a person may ask of a vault's past, by name: for the commands, and for the control socket of a mount.

Arguments and answers are JSON values, paths as `os.fsdecode` makes them. Long answers come in pieces through `say`.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import UsageError
from cryptfs.format.operation import KIND_DIR, KIND_FILE
from cryptfs.tree.past import all_gone
from cryptfs.tree.rows import Entry, NodeRow
from cryptfs.vault.conflicts import conflicts, keep, path_to, version_of
from cryptfs.vault.oldcontent import require_there, sealed_content, whereabouts
from cryptfs.vault.past import Past, Version, choose, in_words, parts_of
from cryptfs.vault.people import instant
from cryptfs.vault.restoring import Restorer, deleted_below, prepare_to_change, send_what_waits
from cryptfs.vault.undoing import Undoing

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["PIECE", "look_back"]

Arguments = Mapping[str, object]
Answer = dict[str, object]
Say = Callable[[Answer], Awaitable[None]]

PIECE: Final = 512 << 10
"""Bytes of a version in one answer."""
_ROWS: Final = 200
"""Rows of a long answer in one piece."""
_KINDS: Final = ("file", "directory", "symlink", "fifo", "socket", "character device", "block device")


async def look_back(vault: "Vault", act: str, arguments: Arguments, say: Say) -> Answer:
    """Do `act`. Raises UsageError for what nobody can do, and whatever the act raises."""
    known = _ACTS.get(act)
    if known is None:
        raise UsageError(f"There is no act '{act}'.", "Are command and mount process of one version?")
    return await known(vault, arguments, say)


# ---- arguments -------------------------------------------------------------------------------------------------------


def _path(arguments: Arguments, key: str = "path") -> bytes:
    value = arguments.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"'{key}' must be a path.")
    return value.encode(errors="surrogateescape")


def _text(arguments: Arguments, key: str) -> str:
    value = arguments.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"'{key}' must be text.")
    return value


def _number(arguments: Arguments, key: str) -> int:
    value = arguments.get(key, 0)
    if not isinstance(value, int) or value < 0:
        raise UsageError(f"'{key}' must be a number.")
    return value


# ---- versions --------------------------------------------------------------------------------------------------------


async def _versions(vault: "Vault", arguments: Arguments, say: Say) -> Answer:
    if not vault.read_only:
        await send_what_waits(vault)
    past = Past(vault)
    spot = past.spot(_path(arguments))
    found = await past.versions(spot)
    if found[0].standing == "present" and found[0].kind == KIND_DIR and len(found) == 1:
        raise UsageError(
            f"{in_words(spot.path)} is a folder: folders have no versions.", "`cryptfs trash` lists what is gone in it."
        )
    for at in range(0, len(found), _ROWS):
        await say({"rows": [await _version_row(vault, past, one) for one in found[at : at + _ROWS]]})
    return {"path": in_words(spot.path)}


async def _version_row(vault: "Vault", past: Past, one: Version) -> Answer:
    row: Answer = {
        "version": one.id,
        "time": instant(one.made.wall_ms) if one.made.wall_ms else None,
        "by": one.made.by,
        "kind": _KINDS[one.kind],
        "size": one.size,
        "mtime_ns": one.mtime_ns,
        "state": one.standing,
        "contents": str(whereabouts(vault, past, one)) if one.kind == KIND_FILE else None,
    }
    node = vault.replica.rows.node(one.st) if one.standing == "deleted" else None
    if node is not None:
        gone = await past.authors.of_drop(node)
        row |= {"deleted": instant(gone.wall_ms) if gone.wall_ms else None, "deleted_by": gone.by}
    return row


async def _read(vault: "Vault", arguments: Arguments, _: Say) -> Answer:
    """A piece of a version. The caller comes again with the id that the first answer named."""
    past = Past(vault)
    versions = [one for one in await past.versions(past.spot(_path(arguments))) if one.kind == KIND_FILE]
    if not versions:
        raise UsageError("That is no file.")
    chosen = choose(versions, id_=_text(arguments, "version"), before_ms=_number(arguments, "before_ms"))
    offset = _number(arguments, "offset")
    sealed = past.content_of(chosen)
    data: bytes | memoryview = b""
    if past.unsent(chosen):
        content = vault.open_file(chosen.st)
        try:
            data = bytes(await content.read(offset, PIECE))
        finally:
            vault.release_file(content)
    elif sealed is not None:
        reading = sealed_content(vault, chosen, sealed)
        if offset == 0:
            await require_there(vault, reading)
        data = await reading.read(offset, PIECE)
    node = vault.replica.rows.node(chosen.st)
    return {
        "version": chosen.id,
        "size": chosen.size,
        "mtime_ns": chosen.mtime_ns,
        "mode": node.mode if node is not None else 0o600,
        "data": base64.b64encode(data).decode(),
    }


# ---- trash -----------------------------------------------------------------------------------------------------------


async def _trash(vault: "Vault", arguments: Arguments, say: Say) -> Answer:
    if not vault.read_only:
        await send_what_waits(vault)
    past = Past(vault)
    below = b"/".join(parts_of(_path(arguments)))
    everything = bool(arguments.get("all"))
    _, known = past.directories(below)
    rows: list[Answer] = []
    count = 0
    for node in list(all_gone(vault.replica)):
        count += 1
        if count % _ROWS == 0:
            await trio.lowlevel.checkpoint()
        if not _is_shown(vault, node, known, everything=everything):
            continue
        path = past.path_of_gone(node)
        if below and not path.startswith(below + b"/"):
            continue
        rows.append(await _trash_row(past, node, path))
    rows.sort(key=lambda row: (str(row["deleted"] or "~"), str(row["path"])), reverse=True)
    await _say_rows(say, rows)
    return {"path": in_words(below)}


def _is_shown(vault: "Vault", node: NodeRow, asked: list[int], *, everything: bool) -> bool:
    """A deleted folder stands for what is in it, unless it is the one asked for; what was replaced is a version."""
    if everything or node.last_parent is None:
        return True
    state = vault.replica.state
    parent = vault.replica.rows.node(state.res(node.last_parent))
    if parent is not None and parent.gone_l is not None:
        return parent.st in asked
    return parent is None or vault.replica.lookup(parent.st, node.last_name or b"") is None


async def _trash_row(past: Past, node: NodeRow, path: bytes) -> Answer:
    gone = await past.authors.of_drop(node)
    inside = list(deleted_below(past, node.st)) if node.kind == KIND_DIR else []
    files = [one for one in inside if one.kind != KIND_DIR]
    version = next(iter(past.of_node(node)))
    return {
        "path": in_words(path),
        "kind": _KINDS[node.kind],
        "deleted": instant(gone.wall_ms) if gone.wall_ms else None,
        "by": gone.by,
        "size": sum(one.size for one in files) if node.kind == KIND_DIR else node.size,
        "files": len(files) if node.kind == KIND_DIR else 1,
        "version": version.id,
    }


# ---- bringing back ---------------------------------------------------------------------------------------------------


async def _restore(vault: "Vault", arguments: Arguments, _: Say) -> Answer:
    done = await Restorer(vault).restore(
        _path(arguments),
        version=_text(arguments, "version"),
        before_ms=_number(arguments, "before_ms"),
        to=_path(arguments, "to"),
        everything=bool(arguments.get("all")),
    )
    return {
        "path": in_words(done.path), "version": done.version, "files": done.files, "folders": done.folders,
        "bytes": done.bytes, "left": done.left,
    }  # fmt: skip


# ---- conflicts -------------------------------------------------------------------------------------------------------


async def _conflicts(vault: "Vault", _: Arguments, say: Say) -> Answer:
    past = Past(vault)
    rows: list[Answer] = [
        {
            "copy": _side(vault, past, one.copy),
            "original": None if one.original is None else _side(vault, past, one.original),
        }
        for one in conflicts(vault)
    ]
    await _say_rows(say, rows)
    return {}


def _side(vault: "Vault", past: Past, entry: Entry) -> Answer:
    version = version_of(past, vault, entry)
    return {
        "path": in_words(path_to(vault, entry)),
        "kind": _KINDS[entry.kind],
        "by": version.made.by if version is not None else "",
        "time": instant(version.made.wall_ms) if version is not None and version.made.wall_ms else None,
        "size": version.size if version is not None else 0,
        "version": version.id if version is not None else "",
    }


async def _keep(vault: "Vault", arguments: Arguments, _: Say) -> Answer:
    which = _text(arguments, "which")
    if which not in ("this", "other", "both"):
        raise UsageError("'which' must be this, other or both.")
    done = await keep(vault, _path(arguments), which, _path(arguments, "name"))
    return {"kept": list(map(in_words, done.kept)), "trashed": list(map(in_words, done.trashed))}


# ---- undoing ---------------------------------------------------------------------------------------------------------


async def _undo(vault: "Vault", arguments: Arguments, say: Say) -> Answer:
    """What would be undone; with `do`, it is."""
    if arguments.get("do"):
        await prepare_to_change(vault)
    else:
        await vault.exchange.pull()
    undoing = Undoing(vault, _text(arguments, "device"), _number(arguments, "since_ms"))
    plan = await undoing.plan()
    if arguments.get("do"):
        await undoing.carry_out(plan)
    rows: list[Answer] = [
        {"what": one.what, "path": in_words(one.path), "version": one.version.id if one.version is not None else None}
        for one in plan.repairs
    ]
    left: list[Answer] = [{"path": in_words(path), "why": why} for path, why in plan.left]
    await _say_rows(say, rows + left)
    return {"devices": plan.devices, "made": plan.made}


async def _say_rows(say: Say, rows: Sequence[Answer]) -> None:
    for at in range(0, len(rows), _ROWS):
        await say({"rows": list(rows[at : at + _ROWS])})


_ACTS: Final[dict[str, Callable[["Vault", Arguments, Say], Awaitable[Answer]]]] = {
    "versions": _versions,
    "read": _read,
    "trash": _trash,
    "restore": _restore,
    "conflicts": _conflicts,
    "keep": _keep,
    "undo": _undo,
}
