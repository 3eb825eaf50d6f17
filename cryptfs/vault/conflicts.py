"""Conflicted copies: listing them beside their originals, and deciding which stays.

A conflict explains itself by a name (docs/replication.md, "Conflict names") and could be settled with `mv` and `rm`;
this does the same and says who made which version. What is not kept goes to the trash.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptfs.errors import FsError, NotKept, UsageError
from cryptfs.format.limits import NAME_MAX
from cryptfs.format.operation import KIND_DIR, Rename, Replaced, Rmdir, Unlink
from cryptfs.tree.conflict_name import Copied, copied_from
from cryptfs.tree.past import marked_entries
from cryptfs.tree.rows import Entry, NodeRow
from cryptfs.vault.info import path_of
from cryptfs.vault.past import Past, Version, in_words, parts_of
from cryptfs.vault.restoring import prepare_to_change, require_sent

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Conflict", "Settled", "conflicts", "keep"]

_TRIES: Final = 1000


@dataclass(frozen=True, slots=True)
class Conflict:
    """A conflicted copy, and what has the name it was meant to have, if anything has."""

    copied: Copied
    copy: Entry
    original: Entry | None


@dataclass(slots=True)
class Settled:
    """What was decided: paths that are there now, and paths that went to the trash."""

    kept: list[bytes]
    trashed: list[bytes]


def conflicts(vault: "Vault") -> Iterator[Conflict]:
    """All conflicted copies in the tree, by directory and name."""
    for entry in marked_entries(vault.replica):
        copied = copied_from(entry.name)
        if copied is not None:
            yield Conflict(copied, entry, vault.replica.lookup(entry.parent, copied.name))


def path_to(vault: "Vault", entry: Entry) -> bytes:
    """From the root, without leading slash."""
    above = path_of(vault.replica, entry.parent)
    return above + b"/" + entry.name if above else entry.name


def version_of(past: Past, vault: "Vault", entry: Entry) -> Version | None:
    """The present version behind an entry."""
    node = vault.replica.rows.node(entry.st)
    return None if node is None else next(iter(past.of_node(node)))


async def keep(vault: "Vault", path: bytes, which: str, name: bytes = b"") -> Settled:
    """Settle the conflict of which `path` is a side, the copy or the original: keep `this`, the `other`, or `both`.

    What stays alone has the original's name. With `both` the copy gets the normal name `name`, or one made of whose it
    is. Raises NotKept, UsageError, NotAllowed, Retry while a content that would go is not sent.
    """
    await prepare_to_change(vault)
    found, is_copy = _side(vault, path)
    done = Settled([], [])
    if which == "both":
        for one in found:
            _rename(vault, one, _normal_name(vault, one, name if len(found) == 1 else b""), done)
    elif (which == "this") == is_copy:
        if len(found) > 1:
            raise UsageError("Several copies could be meant.", "Name the copy to keep, with --this.")
        _take_over(vault, found[0], done)
    else:
        for one in found:
            if one.original is None:
                raise UsageError("There is no other side: nothing has the original's name.", "Use --this or --both.")
            _trash(vault, one.copy, done)
        done.kept = [path_to(vault, one.original) for one in found[:1] if one.original is not None]
    await vault.commit()
    return done


def _side(vault: "Vault", path: bytes) -> tuple[list[Conflict], bool]:
    """The conflicts that a path is part of, and whether it is the copy."""
    parts = parts_of(path)
    if not parts:
        raise UsageError("Name one side of the conflict.")
    live, _ = Past(vault).directories(b"/".join(parts[:-1]))
    entry = None if live is None else vault.replica.lookup(live, parts[-1])
    if entry is None:
        raise NotKept(f"{in_words(b'/'.join(parts))}: there is no such file.", "`cryptfs conflicts` lists them.")
    of_copy = [one for one in conflicts(vault) if one.copy[:2] == entry[:2]]
    if of_copy:
        return of_copy, True
    of_original = [one for one in conflicts(vault) if one.original is not None and one.original[:2] == entry[:2]]
    if not of_original:
        raise UsageError(f"{in_words(b'/'.join(parts))} is in no conflict.", "`cryptfs conflicts` lists them.")
    return of_original, False


def _row(vault: "Vault", entry: Entry) -> NodeRow:
    node = vault.replica.rows.node(entry.st)
    if node is None:
        raise FsError(errno.ESTALE)
    return node


def _take_over(vault: "Vault", one: Conflict, done: Settled) -> None:
    """The copy gets the original's name; what had it goes to the trash."""
    original = one.original
    if original is None:
        _rename(vault, one, one.copied.name, done)
        return
    path = path_to(vault, original)
    if KIND_DIR in (one.copy.kind, original.kind):
        _trash(vault, original, done)
        _rename(vault, one, original.name, done)
        return
    require_sent(vault, original.st)
    replica, node = vault.replica, _row(vault, original)
    replaced = Replaced(replica.ino_of(original.st), replica.extern_ver(original.lver), replica.extern_ver(node.cver))
    _submit_rename(vault, one.copy, original.name, replaced)
    done.trashed.append(path)
    done.kept.append(path)


def _rename(vault: "Vault", one: Conflict, name: bytes, done: Settled) -> None:
    _submit_rename(vault, one.copy, name, None)
    done.kept.append(path_to(vault, one.copy._replace(name=name)))


def _submit_rename(vault: "Vault", copy: Entry, name: bytes, replaced: Replaced | None) -> None:
    replica = vault.replica
    op = Rename(replica.ino_of(copy.st), replica.extern_ver(copy.lver), replica.ino_of(copy.parent), name, replaced, 0)
    vault.exchange.show(lambda: vault.submit(op))


def _trash(vault: "Vault", entry: Entry, done: Settled) -> None:
    replica, node = vault.replica, _row(vault, entry)
    ino, lver = replica.ino_of(entry.st), replica.extern_ver(entry.lver)
    if entry.kind == KIND_DIR:
        if not replica.is_empty(entry.st):
            path = in_words(path_to(vault, entry))
            raise UsageError(f"{path} is a folder with something in it.", "Move what is in it, then decide.")
        vault.exchange.show(lambda: vault.submit(Rmdir(ino, lver)))
    else:
        require_sent(vault, entry.st)
        vault.exchange.show(lambda: vault.submit(Unlink(ino, lver, replica.extern_ver(node.cver))))
    done.trashed.append(path_to(vault, entry))


def _normal_name(vault: "Vault", one: Conflict, wanted: bytes) -> bytes:
    """A free name that is none of a conflict: the one wanted, or `STEM (whose)EXT`."""
    parent = one.copy.parent
    if wanted:
        if b"/" in wanted or wanted in (b".", b"..") or len(wanted) > NAME_MAX:
            raise UsageError("That is no name.", "Give a name, not a path.")
        if vault.replica.lookup(parent, wanted) is not None:
            raise UsageError("That name is taken.", "Give another.")
        return wanted
    if one.original is None:
        return one.copied.name
    whose = one.copied.label.replace(b" (", b", ").replace(b"(", b"").replace(b")", b"")
    for number in range(1, _TRIES):
        mark = b" (%s)" % whose if number == 1 else b" (%s %d)" % (whose, number)
        name = one.copied.stem[: NAME_MAX - len(mark) - len(one.copied.ext)] + mark + one.copied.ext
        if len(name) <= NAME_MAX and vault.replica.lookup(parent, name) is None:
            return name
    raise UsageError("No name is free for the copy.", "Give one: --as NAME.")
