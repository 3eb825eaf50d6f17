"""Drives a file system the way the kernel does: names by path, references counted."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from cryptfs.errors import CryptfsError
from cryptfs.mount.changing import Change
from cryptfs.mount.filesystem import FileSystem, Rules
from cryptfs.mount.inodes import ROOT


class Caller(NamedTuple):
    uid: int = 1000
    gid: int = 100


class Kernel:
    """Names files by path and counts references, as the kernel would."""

    def __init__(self, vault, rules=None):
        self.vault = vault
        self.fs = FileSystem(vault, rules or Rules())
        self.caller = Caller()

    def split(self, path):
        *above, name = path.strip("/").encode().split(b"/")
        parent = ROOT
        for part in above:
            found = self.fs.names.lookup(parent, part)
            assert found is not None, path
            parent = found.st
        return parent, name

    def st(self, path):
        found = self.stat(path)
        return found.st

    def stat(self, path):
        if path == "/":
            return self.fs.getattr(ROOT)
        found = self.fs.names.lookup(*self.split(path))
        if found is None:
            raise FileNotFoundError(path)
        return found

    def exists(self, path):
        return self.fs.names.lookup(*self.split(path)) is not None

    def mkdir(self, path, mode=0o755):
        return self.fs.names.mkdir(*self.split(path), mode, self.caller).st

    def touch(self, path, mode=0o644):
        return self.fs.names.mknod(*self.split(path), 0o100000 | mode, 0, self.caller).st

    def symlink(self, target, path):
        return self.fs.names.symlink(*self.split(path), target, self.caller).st

    def link(self, old, new):
        return self.fs.names.link(self.st(old), *self.split(new))

    def unlink(self, path):
        self.fs.names.unlink(*self.split(path))

    def rmdir(self, path):
        self.fs.names.rmdir(*self.split(path))

    def rename(self, old, new, flags=0):
        self.fs.rename(self.split(old), self.split(new), flags)

    def create(self, path, mode=0o644, flags=os.O_RDWR):
        opened, attributes = self.fs.files.create(*self.split(path), mode, flags, self.caller)
        return opened.fh, attributes.st

    async def write(self, path, data=b"data", mode=0o644):
        fh, st = self.create(path, mode)
        await self.fs.files.write(fh, 0, data)
        await self.close(fh)
        return st

    async def read(self, path_or_st, length=1 << 20):
        st = self.st(path_or_st) if isinstance(path_or_st, str) else path_or_st
        fh = self.fs.files.open(st, os.O_RDONLY).fh
        data = bytes(await self.fs.files.read(fh, 0, length))
        await self.close(fh)
        return data

    async def close(self, fh):
        await self.fs.files.flush(fh)
        await self.fs.files.release(fh)

    async def set(self, st, **fields):
        return await self.fs.setattr(st, Change(**fields))

    def forget_all(self):
        self.fs.inodes.forget(list(self.fs.inodes.lookups.items()))

    def list(self, path="/"):
        st = ROOT if path == "/" else self.st(path)
        fh = self.fs.listings.opendir(st)
        names = [entry.name.decode() for entry in self.fs.listings.list_from(fh, 0)]
        self.fs.listings.releasedir(fh)
        return [name for name in names if name not in (".", "..")]


@contextmanager
def refused(code: int) -> Iterator[None]:
    with pytest.raises(CryptfsError) as caught:
        yield
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]
