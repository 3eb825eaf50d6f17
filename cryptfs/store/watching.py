"""Waiting until something may have changed in the folders of a directory store."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptfs.store.base import Call, is_folder, is_key
from cryptfs.store.inotify import Inotify, Seen

__all__ = ["FolderWatch"]

_log: Final = logging.getLogger(__name__)


class FolderWatch:
    """Watches `root` and those of its `folders` that exist. One thread at a time.

    Where the kernel cannot tell (no inotify left, directory away) it lets the time pass: its caller polls anyway.
    """

    def __init__(self, root: Path, folders: Iterable[str]) -> None:
        self._root = root
        self._folders = ("", *folders)
        self._inotify: Inotify | None = None

    def wait(self, call: Call) -> bool:
        """True as soon as an object may have come, gone or been written since the last return; False when time is up.

        A folder that was not watched before counts as a change: nobody knows what happened in it until now.
        """
        try:
            while call.remaining() > 0:
                watched, fresh = self._watch_folders()
                if fresh:
                    return True
                if not watched:
                    break
                seen = watched.wait(call)
                if any(map(_matters, seen)):
                    return True
        except OSError as error:
            _log.debug("no change notices for %s: %s", self._root, error.strerror)
            self.close()
        call.clock.wait(call.remaining(), call.abort)
        return False

    def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _watch_folders(self) -> tuple[Inotify | None, bool]:
        """The watch, None if there is nothing to watch, and whether a folder is newly watched."""
        if self._inotify is None:
            self._inotify = Inotify()
        fresh = present = False
        for folder in self._folders:
            try:
                fresh |= self._inotify.watch(self._root / folder, folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            present = True
        return self._inotify if present else None, fresh


def _matters(seen: Seen) -> bool:
    """Temporary files, and those of other tools, come and go without meaning anything."""
    if seen.folder:
        return is_key(f"{seen.folder}/{seen.name}")
    return not seen.name or is_folder(seen.name) or is_key(seen.name)
