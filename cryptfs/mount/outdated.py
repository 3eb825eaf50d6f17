"""When a file that stays open shows what others have made of it: after a minute, if nobody here may write to it.

Who reads a file sees one version from beginning to end, as far as that can be: while he has it open it is the one that
he opened. Who has it open for a long time only to read it (`tail -f`, a player, a viewer) gets the newest one after a
minute; who may write keeps his base, and the merge rules say what comes of it (docs/mount.md, "POSIX notes").
"""

from typing import Final

import trio

from cryptfs.mount.inodes import Inodes

__all__ = ["keep_current"]

_EVERY: Final = 2.0
"""Seconds between two looks at the files that are open and outdated; usually there are none."""


async def keep_current(inodes: Inodes) -> None:
    """Go over to newer versions when it is time, until cancelled."""
    while True:
        await trio.sleep(_EVERY)
        inodes.go_over_late(trio.current_time())
