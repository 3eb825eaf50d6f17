"""Bringing back: an old version as the present one, a deleted file or a whole deleted folder from the trash.

Everything is done by operations like any other (docs/history.md): `undelete` gives a deleted node a name again,
`restore` makes an old content the present one, and a rename that replaces puts a deleted file over the one that has its
name now. Whatever is replaced by that is itself a version, or in the trash. Only a copy of an old version beside the
file is written anew, since one content belongs to one file.

A content that is not sealed yet is in no history. So what the file holds now is sent first; while the store cannot be
reached, an unsent content is not replaced.
"""

import errno
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import FsError, NotAllowed, NotKept, Retry, StoreError, UsageError
from cryptfs.format.limits import NAME_MAX
from cryptfs.format.operation import KIND_DIR, KIND_FILE, Create, Rename, Replaced, Restore, Undelete, Unlink
from cryptfs.tree.ids import st_of_k
from cryptfs.tree.rows import Entry, NodeRow
from cryptfs.tree.schema import ROOT_ST
from cryptfs.vault.oldcontent import require_there, sealed_content
from cryptfs.vault.past import Past, Spot, Version, choose, in_words, parts_of

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Restored", "Restorer", "deleted_below", "prepare_to_change", "require_sent", "send_what_waits"]

log = logging.getLogger(__name__)

_PATIENCE: Final = 20.0
"""Seconds for sending what the restored files hold now."""
_TOGETHER_MS: Final = 3_600_000
"""A folder comes back with what was deleted in it at most so long before it: one removal of many files takes time."""
_SLICE: Final = 500
"""Nodes brought back between two looks at what else is to be done."""
_PIECE: Final = 1 << 20


@dataclass(slots=True)
class Restored:
    """What was done: the path, how many files and folders came back, how many stayed in the trash below it."""

    path: bytes
    version: str
    files: int = 0
    folders: int = 0
    bytes: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something is to be: a directory, which may be in the trash itself, a name, and what has it now."""

    parent: int
    name: bytes
    held: Entry | None


class Restorer:
    """Brings back in one vault; made for one request."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._replica = vault.replica
        self.past = Past(vault)

    async def restore(
        self, path: bytes, *, version: str = "", before_ms: int = 0, to: bytes = b"", everything: bool = False
    ) -> Restored:
        """Bring back what `path` was: that version, the one before a time, or the newest that is not there now.

        `to` names where it shall be instead. `everything`: a folder with all that was ever deleted in it. Raises
        UsageError, FsError, NotAllowed, Retry while an unsent content would be lost, Damaged if bytes are missing.
        """
        await prepare_to_change(self._vault)
        spot = self.past.spot(path)
        chosen = choose(await self._restorable(spot), id_=version, before_ms=before_ms)
        done = Restored(spot.path, chosen.id)
        if chosen.standing == "present" and not to:
            return done
        place = self._place(spot, to, chosen)
        done.path = b"/".join(parts_of(to)) if to else spot.path
        if chosen.kind == KIND_DIR:
            await self._folder(chosen, place, done, before_ms=before_ms, everything=everything)
        elif chosen.standing != "deleted" and to:
            await self._copy(chosen, place)
            done.files, done.bytes = 1, chosen.size
        else:
            await self._file(chosen, place)
            done.files, done.bytes = 1, chosen.size
        await self._vault.commit()
        return done

    async def _restorable(self, spot: Spot) -> list[Version]:
        """The versions of the spot; a living folder has none, only what was deleted under its name."""
        found = await self.past.versions(spot)
        if spot.entry is not None and found and found[0].standing == "present" and found[0].kind == KIND_DIR:
            found = found[1:]
            if not found:
                raise UsageError(
                    f"{in_words(spot.path)} is a folder that is there.",
                    f"`cryptfs trash` lists what was deleted in it: {in_words(spot.path)}.",
                )
        return found

    def _place(self, spot: Spot, to: bytes, chosen: Version) -> _Place:
        if not to:
            if spot.parent is not None:
                return _Place(spot.parent, spot.name, self._replica.lookup(spot.parent, spot.name))
            node = self._row(chosen.st)
            return _Place(node.last_parent or ROOT_ST, spot.name, None)  # comes back with it
        parts = parts_of(to)
        live, _ = self.past.directories(b"/".join(parts[:-1]))
        if live is None or not parts:
            raise NotKept(f"{in_words(b'/'.join(parts[:-1]))}: there is no such folder.", "Make it first.")
        if self._replica.lookup(live, parts[-1]) is not None:
            raise UsageError(f"{in_words(b'/'.join(parts))} is there already.", "Name a path that is free.")
        if len(parts[-1]) > NAME_MAX:
            raise FsError(errno.ENAMETOOLONG)
        return _Place(live, parts[-1], None)

    def _row(self, st: int) -> NodeRow:
        node = self._replica.rows.node(st)
        if node is None:
            raise UsageError("It is no longer kept.")
        return node

    # ---- one file -------------------------------------------------------------------------------------------------

    async def _file(self, chosen: Version, place: _Place) -> None:
        vault = self._vault
        content = self.past.content_of(chosen)
        if content is not None:
            await require_there(vault, sealed_content(vault, chosen, content))
        # No waiting from here on: what was looked at is what is changed.
        node = self._row(chosen.st)
        held = self._replica.lookup(place.parent, place.name) if node.gone_l is not None else None
        if held is not None and held.kind == KIND_DIR:
            raise UsageError("A folder has this name now.", "Bring it back beside it: --to PATH.")
        for st in (chosen.st, *(() if held is None else (held.st,))):
            require_sent(vault, st)
        vault.exchange.show(lambda: self.bring_back(chosen, node, place.parent, place.name, held))

    def bring_back(self, chosen: Version, node: NodeRow, parent: int, name: bytes, held: Entry | None) -> None:
        """Submit what makes `chosen` what `node` is, as `name` in `parent` if it has no name, in place of `held`."""
        vault, replica = self._vault, self._replica
        place = _Place(parent, name, held)
        ino = replica.ino_of(chosen.st)
        if node.gone_l is not None:
            for_now = name if held is None else self._free_name(place)
            vault.submit(Undelete(ino, replica.ino_of(parent), for_now))
            if held is not None:
                self._put_over(ino, chosen.st, place, held)
        if chosen.standing == "old":
            vault.submit(Restore(ino, replica.extern_ver(node.cver), replica.extern_ver(chosen.ver)))

    def _put_over(self, ino: bytes, st: int, place: _Place, held: Entry) -> None:
        """Give a node that is back in the directory the name that another has there, which goes to the trash."""
        replica = self._replica
        link = next(one for one in replica.links(st) if one.parent == place.parent)
        other = self._row(held.st)
        replaced = Replaced(replica.ino_of(held.st), replica.extern_ver(held.lver), replica.extern_ver(other.cver))
        parent = replica.ino_of(place.parent)
        self._vault.submit(Rename(ino, replica.extern_ver(link.lver), parent, place.name, replaced, 0))

    def _free_name(self, place: _Place) -> bytes:
        """A name for a moment: between two operations of one segment."""
        number = 0
        while True:
            name = b".%s.%d" % (place.name[: NAME_MAX - 16], number)
            if self._replica.lookup(place.parent, name) is None:
                return name
            number += 1

    async def _copy(self, chosen: Version, place: _Place) -> None:
        """An old version as a new file: sealed anew, as one content belongs to one file."""
        vault, node = self._vault, self._row(chosen.st)
        if chosen.kind != KIND_FILE:
            raise UsageError("Only files are copied from what is there.")
        if self.past.unsent(chosen):
            raise Retry("What the file holds now has not been sent yet.", "Try again when the store can be reached.")
        sealed = self.past.content_of(chosen)
        reading = None if sealed is None else sealed_content(vault, chosen, sealed)
        if reading is not None:
            await require_there(vault, reading)
        made = Create(
            self._replica.ino_of(place.parent), place.name, KIND_FILE, node.mode, node.uid, node.gid, 0,
            chosen.mtime_ns, b"", None,
        )  # fmt: skip
        born: list[int] = []
        vault.exchange.show(lambda: born.append(st_of_k(vault.submit(made))))
        st = born[0]
        writing = vault.open_file(st)
        try:
            offset = 0
            while reading is not None and offset < chosen.size:
                piece = bytes(await reading.read(offset, _PIECE))
                await writing.write(offset, piece, chosen.mtime_ns)
                offset += len(piece)
        except BaseException:
            writing.detached = True  # half a copy is no use to anybody
            self._unmake(st)
            raise
        finally:
            vault.exchange.show(lambda: vault.release_file(writing))

    def _unmake(self, st: int) -> None:
        replica = self._replica
        for link in replica.links(st):
            node = self._row(st)
            gone = Unlink(replica.ino_of(st), replica.extern_ver(link.lver), replica.extern_ver(node.cver))
            self._vault.exchange.show(partial(self._vault.submit, gone))

    # ---- folders --------------------------------------------------------------------------------------------------

    async def _folder(
        self, chosen: Version, place: _Place, done: Restored, *, before_ms: int, everything: bool
    ) -> None:
        if place.held is not None:
            raise UsageError(
                f"{in_words(done.path)} is there now.", "Bring the deleted folder back beside it: --to PATH."
            )
        gone_ms = (await self.past.authors.of_drop(self._row(chosen.st))).wall_ms
        since_ms = before_ms or (0 if everything else gone_ms - _TOGETHER_MS)
        todo = [(chosen.st, place.parent, place.name)]
        for node, parent in await self._below(chosen.st, since_ms, done):
            todo.append((node.st, parent, node.last_name or b"?"))
        for at in range(0, len(todo), _SLICE):
            part = todo[at : at + _SLICE]
            self._vault.exchange.show(partial(self._undelete, part, done))
            await trio.lowlevel.checkpoint()

    def _undelete(self, nodes: list[tuple[int, int, bytes]], done: Restored) -> None:
        replica = self._replica
        for st, parent, name in nodes:
            node = replica.rows.node(st)
            if node is None or node.gone_l is None:
                continue  # somebody was quicker
            self._vault.submit(Undelete(replica.ino_of(st), replica.ino_of(parent), name))
            if node.kind == KIND_DIR:
                done.folders += 1
            else:
                done.files += 1
                done.bytes += node.size

    async def _below(self, top: int, since_ms: int, done: Restored) -> list[tuple[NodeRow, int]]:
        """What comes back in a deleted folder, with the directory of each, folders before what is in them."""
        found: list[tuple[NodeRow, int]] = []
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            await trio.lowlevel.checkpoint()
            names: set[bytes | None] = set()
            for node in self.past.gone_in(directory):
                made = await self.past.authors.of_drop(node)
                if node.last_name in names or 0 < made.wall_ms < since_ms:
                    done.left += 1
                    continue
                names.add(node.last_name)
                found.append((node, directory))
                if node.kind == KIND_DIR:
                    waiting.append(node.st)
        return found


async def prepare_to_change(vault: "Vault") -> None:
    """Send what waits, as far as that is possible now. Raises NotAllowed where nothing may be changed."""
    if vault.read_only:
        reason = vault.standing.objection or vault.trust.stops or "This mount is read-only"
        raise NotAllowed(reason.rstrip(".") + ".", "Who may only read can copy old versions out: `cryptfs get`.")
    await send_what_waits(vault)


def require_sent(vault: "Vault", st: int) -> None:
    """Raise Retry if what the node holds now is in no segment, and would be lost."""
    content = vault.files.get(st)
    unsent = content is not None and (content.changed or content.pending > 0 or content.map.sealing is not None)
    if unsent or vault.replica.has_pending_content(st):
        raise Retry(
            "What the file holds now has not been sent yet, and would be lost.",
            "Try again when the store can be reached, or restore beside it: --to PATH.",
        )


async def send_what_waits(vault: "Vault") -> None:
    """Have what was written sealed and sent, so that it has its place in the history; a store may be out of reach."""
    try:
        await vault.sync(_PATIENCE)
    except (StoreError, trio.TooSlowError, NotAllowed) as err:
        log.info("what waits stays unsent for now: %s", err)


def deleted_below(past: Past, top: int) -> Iterator[NodeRow]:
    """Everything in the trash below a deleted folder."""
    waiting = [top]
    while waiting:
        for node in past.gone_in(waiting.pop()):
            yield node
            if node.kind == KIND_DIR:
                waiting.append(node.st)
