"""Runs a cryptfs command that is killed, or fails, at a chosen step: `faulty_daemon.py mount NAME DIR --foreground`.

The fault points are those of cryptfs/faults.py, counted over the whole process whoever owns them.

FAULT_AT=N       the N-th step (from 1); 0 only counts
FAULT_ACT=die    SIGKILL (the default); eio, enospc: that OSError
FAULT_STICKY=1   every step from the N-th on
FAULT_TRACE=F    append the name of each step passed to the file F
"""

import errno
import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cryptfs.cli.main import run
from cryptfs.faults import Faults

AT = int(os.environ.get("FAULT_AT", "0"))
ACT = os.environ.get("FAULT_ACT", "die")
STICKY = bool(os.environ.get("FAULT_STICKY"))
TRACE = (
    os.open(os.environ["FAULT_TRACE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if "FAULT_TRACE" in os.environ else -1
)

_lock = threading.Lock()
_passed = 0


def step(_: Faults, name: str) -> None:
    """Stands for `Faults.step` in this process: one counter for all."""
    global _passed  # noqa: PLW0603
    with _lock:
        _passed += 1
        due = AT and (_passed == AT or (STICKY and _passed > AT))
        if TRACE >= 0:
            os.write(TRACE, f"{name}\n".encode())
    if not due:
        return
    if ACT == "die":
        os.write(2, f"dies at step {AT}: {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
    code = {"eio": errno.EIO, "enospc": errno.ENOSPC}[ACT]
    raise OSError(code, f"planted at {name}")


Faults.step = step  # type: ignore[method-assign]

if __name__ == "__main__":
    run()
