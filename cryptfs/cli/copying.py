"""Copying between a vault and this machine, whole directories too: what `cryptfs get` and `cryptfs put` do.

Names in a vault come from other members. Outside it nothing is therefore written through a link: an existing link is an
error, so that a link followed by a directory of the same name cannot lead a copy elsewhere.
"""

import os
import stat
from collections.abc import Sequence

from cryptfs.cli.output import NoInput, note, progress, safe
from cryptfs.cli.trees import Item, Tree

__all__ = ["copy_in", "copy_out"]


async def copy_out(tree: Tree, sources: Sequence[bytes], target: bytes) -> None:
    """Copy `sources` of the tree to `target` here: into it if it is a directory, else as it (one source only)."""
    into = os.path.isdir(target)
    _check_target(sources, into=into, target=target)
    for source in sources:
        item = await tree.stat(source)
        await _out(tree, source, item, _beside(target, item.name) if into and item.name != b"/" else target)


async def copy_in(tree: Tree, sources: Sequence[bytes], target: bytes) -> None:
    """Copy `sources` of this machine to `target` in the tree, by the rules of `copy_out`."""
    try:
        into = (await tree.stat(target)).is_dir
    except (NoInput, FileNotFoundError):
        into = False
    _check_target(sources, into=into, target=target)
    for source in sources:
        name = os.path.basename(os.path.abspath(source))
        await _in(tree, source, _beside(target, name) if into else target)


def _check_target(sources: Sequence[bytes], *, into: bool, target: bytes) -> None:
    if len(sources) > 1 and not into:
        raise NoInput(f"{os.fsdecode(target)}: not a directory, and there are several files to copy into it")


def _beside(directory: bytes, name: bytes) -> bytes:
    return directory.rstrip(b"/") + b"/" + name


async def _out(tree: Tree, source: bytes, item: Item, target: bytes) -> None:
    if item.is_dir:
        _make_directory(target)
        for entry in await tree.list(source):
            await _out(tree, _beside(source, entry.name), entry, _beside(target, entry.name))
    elif item.is_link:
        os.symlink(await tree.readlink(source), target)
    elif item.is_file:
        await _file_out(tree, source, item, target)
    else:
        note(f"left out: {safe(os.fsdecode(source))} is neither file, directory nor link")


def _make_directory(target: bytes) -> None:
    try:
        os.mkdir(target)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(target).st_mode):
            raise


async def _file_out(tree: Tree, source: bytes, item: Item, target: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(target, flags, stat.S_IMODE(item.mode) & 0o777)
    label = safe(os.fsdecode(item.name))
    with os.fdopen(descriptor, "wb") as stream, progress(label, item.size) as advance:

        def sink(piece: bytes | memoryview) -> None:
            stream.write(piece)
            advance(len(piece))

        await tree.read(source, sink)
        stream.flush()
        os.utime(descriptor, ns=(item.mtime_ns, item.mtime_ns))


async def _in(tree: Tree, source: bytes, target: bytes) -> None:
    found = os.lstat(source)
    if stat.S_ISDIR(found.st_mode):
        if target.strip(b"/"):
            await tree.mkdir(target, found.st_mode)
        for name in sorted(os.listdir(source)):
            await _in(tree, _beside(source, name), _beside(target, name))
    elif stat.S_ISLNK(found.st_mode):
        await tree.symlink(target, os.readlink(source))
    elif stat.S_ISREG(found.st_mode):
        await _file_in(tree, source, found, target)
    else:
        note(f"left out: {safe(os.fsdecode(source))} is neither file, directory nor link")


async def _file_in(tree: Tree, source: bytes, found: os.stat_result, target: bytes) -> None:
    label = safe(os.fsdecode(source))
    if target.endswith(b"/"):
        raise NoInput(f"{safe(os.fsdecode(target))}: there is no such directory to copy {label} into")
    with open(source, "rb", buffering=0) as stream, progress(label, found.st_size) as advance:

        def read(length: int) -> bytes:
            piece = stream.read(length)
            advance(len(piece))
            return piece

        await tree.write(target, read, found.st_mode, found.st_mtime_ns)
