"""The model a crash is judged by: which states of the tree may be there afterwards, given what was acknowledged.

The same calls go to the mount and to a plain directory. After each one the plain directory's tree is noted. After the
crash the tree (names, kinds, modes, owners, links, xattrs) must be one of the noted ones, not older than the last
acknowledged; each file's content must be one that this very file had, not older than its own last acknowledgement.
"""

import os
import random
from pathlib import Path

from randomcalls import CLOSED, World, choose, result, short
from snapshot import Entry, snapshot

__all__ = ["Play", "Verdict"]

TRIES = 12
SYNCS = 0.15
Tree = dict[bytes, tuple[object, ...]]


class Verdict(AssertionError):
    """What was found after the crash is none of the allowed states."""


def _outline(found: dict[bytes, Entry]) -> Tree:
    """All but the contents of regular files."""
    return {
        path: tuple(entry._replace(size=0, content="", mtime_ns=0) if entry.kind == "-" else entry._replace(mtime_ns=0))
        for path, entry in found.items()
    }


class Play:
    """Random calls on a mount, with a plain directory beside it that knows what may remain."""

    def __init__(self, top: Path, model: Path, seed: int) -> None:
        self.top, self.model, self.rng = top, model, random.Random(seed)
        self.stage, self.shadow = World(top), World(model)
        self.trees: list[Tree] = []
        self.inodes: list[dict[bytes, int]] = []  # of the model, by path, at each moment
        self.contents: dict[int, list[tuple[int, str]]] = {}  # by model inode: (moment, digest)
        self.acknowledged = 0  # moment of the tree
        self.settled: dict[int, int] = {}  # by model inode: moment of its content
        self.history: list[str] = []
        self._held: list[int] = []  # keeps model inodes from being used again
        self._note()

    def _note(self) -> None:
        found = snapshot(self.model)
        moment = len(self.trees)
        self.trees.append(_outline(found))
        where = {path: os.lstat(os.fsencode(self.model) + b"/" + path).st_ino for path in found}
        self.inodes.append(where)
        for path, entry in found.items():
            if entry.kind == "-":
                log = self.contents.setdefault(where[path], [])
                if not log:
                    self._held.append(os.open(os.fsencode(self.model) + b"/" + path, os.O_PATH))
                if not log or log[-1][1] != entry.content:
                    log.append((moment, entry.content))

    def step(self) -> bool:
        """One call on both. False when the mount does not answer any more (the call may or may not have counted)."""
        for _ in range(TRIES):
            name, args = choose(self.rng)
            if self.rng.random() < SYNCS:
                name, args = "do_fsync", (self.rng.randrange(len(self.stage.open)),)
            theirs = result(self.shadow, name, args)
            if not isinstance(theirs, str):
                break  # calls that fail change nothing: few of them are enough
        mine = result(self.stage, name, args)
        self.history.append(f"{name[3:]}({short(args)}) = {mine!r:.40}")
        self._note()
        if mine != theirs:
            if mine in ("ENOTCONN", "ECONNABORTED", "EIO", "ETIMEDOUT"):
                return False
            raise Verdict(f"{self.history[-1]} but {theirs!r:.60} on a plain directory")
        if name == "do_fsync" and mine is None:
            self.acknowledge(self.shadow.open[args[0]])
        return True

    def acknowledge(self, fd: int | None) -> None:
        """fsync of `fd` came back: its content, and every change of the tree so far, are promised (one journal).

        None: everything. An fsync of a file without a name promises nothing about the tree.
        """
        now = len(self.trees) - 1
        if fd is None or os.fstat(fd).st_nlink:
            self.acknowledged = now
        for inode in self.contents if fd is None else [os.fstat(fd).st_ino]:
            self.settled[inode] = now

    def end(self) -> None:
        """Close what is open on the mount (errors of a dead one do not count) and on the model."""
        for slot, fd in enumerate(self.stage.open):
            if fd != CLOSED:
                result(self.stage, "do_close", (slot,))
        self.stage.open = [CLOSED] * len(self.stage.open)
        self.shadow.close()
        self.shadow.open = [CLOSED] * len(self.shadow.open)

    def release(self) -> None:
        """Let go of the model."""
        for fd in self._held:
            os.close(fd)
        self._held.clear()

    def _allowed(self, path: bytes, moment: int, digest: str) -> bool:
        """Whether the file that `path` named at `moment` may show this content."""
        inode = self.inodes[moment][path]
        floor, log = self.settled.get(inode, 0), self.contents[inode]
        current = [entry for entry in log if entry[0] <= floor][-1:]
        later = [entry for entry in log if entry[0] > floor]
        return digest in {content for _, content in (*current, *later)} or (not current and not later)

    def judge(self, top: Path) -> None:
        """Raises Verdict unless what is below `top` is an allowed state."""
        found = snapshot(top)
        outline = _outline(found)
        moments = [moment for moment in range(self.acknowledged, len(self.trees)) if self.trees[moment] == outline]
        if not moments:
            raise Verdict(self._story(outline))
        for moment in moments:
            wrong = [
                path
                for path, entry in found.items()
                if entry.kind == "-" and not self._allowed(path, moment, entry.content)
            ]
            if not wrong:
                return
        raise Verdict(f"contents of {wrong} are not what these files had since their last fsync\n" + self.told())

    def told(self) -> str:
        """The calls so far, for messages."""
        return "\n".join(f"{number + 1} {call}" for number, call in enumerate(self.history))[-6000:]

    def _story(self, outline: Tree) -> str:
        last = self.trees[self.acknowledged]
        fits = [moment for moment, tree in enumerate(self.trees) if tree == outline]
        old = f"it is the state of call {fits[-1]}" if fits else "it never was in this state"
        lines = [f"the tree must be that after call {self.acknowledged} or later; {old}"]
        lines += [
            f"  {path!r}: acknowledged {last.get(path)}, found {outline.get(path)}"
            for path in sorted(last.keys() | outline.keys())
            if last.get(path) != outline.get(path)
        ]
        return "\n".join(lines[:20]) + "\n" + self.told()
