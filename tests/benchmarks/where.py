"""Where a process spends its CPU time, by kind of code, as perf(1) samples it.

A Python program's time shows as the interpreter's: functions of cryptfs are not told apart (cProfile does that, and
distorts what it measures). What is told apart is what could be made faster by other means than less Python.
"""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["KINDS", "Where"]

KINDS = ("kernel", "Python", "binding", "SQLite", "crypto", "rest")


def kind_of(dso: str, symbol: str) -> str:
    """The kind of one sampled function."""
    if dso == "[kernel.kallsyms]":
        return "kernel"
    if dso.startswith(("libpython", "python")):
        return "Python"
    if dso.startswith("libfuse") or symbol.startswith(("__pyx", "__Pyx")) or "pyfuse3" in symbol:
        return "binding"
    if dso.startswith("_rust"):
        return "crypto"
    return "SQLite" if dso.startswith("__init__") else "rest"  # the two extensions have one file name


class Where:
    """Samples the process `pid` while the block runs; then `shares` says which part of its time went where."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid, self._data = pid, folder / "perf.data"
        self.shares: dict[str, float] = {}

    @staticmethod
    def missing() -> bool:
        """Whether perf is not installed, or nobody may use it."""
        return shutil.which("perf") is None or os.geteuid() != 0

    def __enter__(self) -> Self:
        command = ["perf", "record", "-e", "cpu-clock", "-F", "5000", "-o", str(self._data), "-p", str(self._pid)]
        self._perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)  # it says nowhere when it has begun
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._perf.send_signal(signal.SIGINT)
        self._perf.wait()
        command = ["perf", "script", "-i", str(self._data), "-F", "ip,sym,dso"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        counted: Counter[str] = Counter()
        for line in lines:
            if "(" in line:
                function, _, dso = line.strip().rpartition(" (")
                counted[kind_of(Path(dso.rstrip(")")).name or dso, function.partition(" ")[2])] += 1
        total = sum(counted.values()) or 1
        self.shares = {kind: counted[kind] / total for kind in KINDS}
