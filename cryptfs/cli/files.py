"""`cryptfs ls cat get put info`: a vault's files, mounted or not (servers, containers, a quick look)."""

import os
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.control import Daemon
from cryptfs.cli.copying import copy_in, copy_out
from cryptfs.cli.oldversions import copy_version, version_option, write_version
from cryptfs.cli.opening import open_here, open_tree
from cryptfs.cli.output import cell, document, fields, line, moment, safe, table
from cryptfs.cli.trees import DirectTree, Item, Tree
from cryptfs.mount.filesystem import FileSystem, Rules
from cryptfs.vault.home import VaultHome

T = TypeVar("T")

__all__ = ["cat", "get", "info", "ls", "put"]

_KIND = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@click.command(short_help="List a directory, mounted or not.")
@vault_argument()
@click.argument("path", default="/")
@click.option("-l", "long", is_flag=True, help="With mode, size and time.")
@json_option()
@passphrase_option()
def ls(*, name: str, path: str, long: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """List the directory PATH of the vault NAME, or the one file PATH."""
    where = os.fsencode(path)

    async def listing(tree: Tree) -> list[Item]:
        found = await tree.stat(where)
        return await tree.list(where) if found.is_dir else [found]

    items = _with_tree(name, passphrase_file, listing)
    if as_json:
        document([_as_json(item) for item in items])
    elif long:
        rows = [
            [stat.filemode(item.mode), str(item.size), moment(item.mtime_ns), os.fsdecode(item.name)] for item in items
        ]
        table(("Mode", "Size", "Changed", "Name"), rows, right=frozenset({1}))
    else:
        for item in items:
            _name_line(item)


@click.command(short_help="Write a file's contents to standard output.")
@vault_argument()
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@version_option()
@passphrase_option()
def cat(*, name: str, paths: tuple[str, ...], version: str, passphrase_file: Path | None) -> None:
    """Write the contents of the files PATH… of the vault NAME to standard output.

    With --version, that old version of the one file PATH, which may be deleted by now.
    """
    if version:
        write_version(VaultHome.of(name), passphrase_file, paths, version)
        return

    async def writing(tree: Tree) -> None:
        for path in paths:
            await tree.read(os.fsencode(path), sys.stdout.buffer.write)

    sys.stdout.flush()
    _with_tree(name, passphrase_file, writing)
    sys.stdout.buffer.flush()


@click.command(short_help="Copy out of a vault.")
@vault_argument()
@click.argument("paths", metavar="PATH… [TARGET]", nargs=-1, required=True)
@version_option()
@passphrase_option()
def get(*, name: str, paths: tuple[str, ...], version: str, passphrase_file: Path | None) -> None:
    """Copy files and whole directories PATH… out of the vault NAME to TARGET on this machine.

    With one PATH only, TARGET is the current directory. An existing directory TARGET is copied into. With --version,
    that old version of the one file PATH, which may be deleted by now.
    """
    sources, target = (paths[:-1], paths[-1]) if len(paths) > 1 else (paths, ".")
    if version:
        copy_version(VaultHome.of(name), passphrase_file, sources, target, version)
        return

    async def copying(tree: Tree) -> None:
        await copy_out(tree, [os.fsencode(source) for source in sources], os.fsencode(target))

    _with_tree(name, passphrase_file, copying)


@click.command(short_help="Copy into a vault.")
@vault_argument()
@click.argument("paths", metavar="FILE… [TARGET]", nargs=-1, required=True)
@passphrase_option()
def put(*, name: str, paths: tuple[str, ...], passphrase_file: Path | None) -> None:
    """Copy files and whole directories FILE… of this machine to TARGET in the vault NAME.

    With one FILE only, TARGET is the root of the vault. An existing directory TARGET is copied into. What was copied is
    safe on this machine when the command ends; `cryptfs sync NAME` waits until it is in the store.
    """
    sources, target = (paths[:-1], paths[-1]) if len(paths) > 1 else (paths, "/")

    async def copying(tree: Tree) -> None:
        await copy_in(tree, [os.fsencode(source) for source in sources], os.fsencode(target))

    _with_tree(name, passphrase_file, copying)


@click.command(short_help="Show the objects that hold a file.")
@vault_argument()
@click.argument("path")
@json_option()
@passphrase_option()
def info(*, name: str, path: str, as_json: bool, passphrase_file: Path | None) -> None:
    """Show which objects of the store hold the file PATH of the vault NAME."""
    home = VaultHome.of(name)
    home.require()
    daemon = Daemon.find(home)
    if daemon is not None:
        with daemon:
            found = daemon.ask("info", path=path)
            found.pop("ok")
    else:
        found = trio.run(_info_here, home, passphrase_file, os.fsencode(path))
    if as_json:
        document(found)
    else:
        fields({key: value for key, value in found.items() if not isinstance(value, list)})
        objects = found.get("objects")
        if objects:
            line()
            table(
                [str(title).capitalize() for title in objects[0]], [[cell(v) for v in one.values()] for one in objects]
            )


async def _info_here(home: VaultHome, passphrase_file: Path | None, path: bytes) -> dict[str, object]:
    async with open_here(home, passphrase_file, read_only=True) as vault:
        tree = DirectTree(FileSystem(vault, Rules(atime="noatime")))
        return await vault.info(tree.inode(path))


def _with_tree(name: str, passphrase_file: Path | None, action: Callable[[Tree], Awaitable[T]]) -> T:
    home = VaultHome.of(name)

    async def main() -> T:
        async with open_tree(home, passphrase_file) as tree:
            return await action(tree)

    return trio.run(main)


def _as_json(item: Item) -> dict[str, object]:
    return {
        "name": os.fsdecode(item.name),
        "kind": _KIND.get(stat.S_IFMT(item.mode), "other"),
        "mode": stat.S_IMODE(item.mode),
        "size": item.size,
        "mtime_ns": item.mtime_ns,
        "links": item.nlink,
    }


def _name_line(item: Item) -> None:
    """A name of its own bytes into a pipe, harmless on a terminal."""
    if sys.stdout.isatty():
        line(safe(os.fsdecode(item.name)) + ("/" if item.is_dir else ""))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(item.name + b"\n")
