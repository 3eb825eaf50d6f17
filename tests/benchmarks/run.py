"""Side by side: the same workloads on several file systems, one after the other, round by round.

    python tests/benchmarks/run.py [--fs cryptfs,gocryptfs,bare] [--rounds 3] [--only sequential,small]

See README.md beside this file.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from filesystems import FILE_SYSTEMS, FileSystem, drop_caches
from workloads import WORKLOADS, Figure, Session

REFERENCE = "gocryptfs"
VERSIONS = {
    "gocryptfs": ["gocryptfs", "-version"],
    "encfs": ["encfs", "--version"],
    "securefs": ["securefs", "version"],
}


def measure(name: str, base: Path, chosen: list[str], scale: float) -> tuple[list[Figure], dict[str, float]]:
    """One round on one file system, made new. Returns its figures, and what its last daemon took."""
    place = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=base))
    fs: FileSystem = FILE_SYSTEMS[name](place)
    try:
        fs.start()
        session = Session(fs, scale)
        for workload in chosen:
            WORKLOADS[workload](session)
        return session.figures, fs.figures()
    finally:
        fs.stop()
        shutil.rmtree(place, ignore_errors=True)


def table(results: dict[str, dict[str, list[float]]], units: dict[str, str], names: list[str]) -> str:
    """Medians, and beside each its ratio to the reference: above 1 is better, also where the unit is s."""
    width = max(map(len, units), default=10)
    head = f"{'median of rounds':<{width}}  {'unit':<5}" + "".join(f"{name:>20}" for name in names)
    lines = [head, "-" * len(head)]
    for row, unit in units.items():
        reference = results.get(REFERENCE, {}).get(row)
        cells = ""
        for name in names:
            values = results[name].get(row)
            if not values:
                cells += f"{'-':>20}"
                continue
            value = statistics.median(values)
            ratio = ""
            if reference and name != REFERENCE:
                quotient = value / statistics.median(reference)
                ratio = f" x{1 / quotient if unit == 's' else quotient:.2f}"
            cells += f"{value:>13,.4g}{ratio:<7}" if value < 1000 else f"{value:>13,.0f}{ratio:<7}"
        lines.append(f"{row:<{width}}  {unit:<5}{cells}")
    return "\n".join(lines)


def machine(base: Path) -> dict[str, object]:
    """What a reader needs to judge the figures."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    versions = {}
    for name, command in VERSIONS.items():
        with contextlib.suppress(OSError):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            versions[name] = (done.stdout + done.stderr).strip().splitlines()[0]
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "base": str(base),
        "kernel_caches_dropped": drop_caches(),
        "load_before": os.getloadavg()[0],
        "versions": versions,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fs", default="cryptfs,gocryptfs,bare", help=f"of {','.join(FILE_SYSTEMS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(WORKLOADS), help=f"of {','.join(WORKLOADS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="sizes and counts; 0.05 is a quick look")
    parser.add_argument("--base", type=Path, help="where everything is kept (default: a tmpfs, /dev/shm)")
    parser.add_argument("--disk", action="store_true", help="on a real disk: the directory for temporary files")
    parser.add_argument("--json", type=Path, default=Path("benchmark.json"))
    args = parser.parse_args()
    args.fs, args.only = args.fs.split(","), args.only.split(",")
    for word, known in ((args.fs, FILE_SYSTEMS), (args.only, WORKLOADS)):
        if unknown := set(word) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}")
    args.base = args.base or Path("/var/tmp" if args.disk else "/dev/shm")
    return args


def main() -> int:
    args = arguments()
    for name in list(args.fs):
        missing = FILE_SYSTEMS[name].missing() if isinstance(FILE_SYSTEMS[name], type) else []
        if missing:
            print(f"{name} is left out: install {' '.join(missing)}", file=sys.stderr)
            args.fs.remove(name)
    about = machine(args.base)
    results: dict[str, dict[str, list[float]]] = {name: {} for name in args.fs}
    daemons: dict[str, list[dict[str, float]]] = {name: [] for name in args.fs}
    units: dict[str, str] = {}
    failed = False
    for number in range(args.rounds):
        # Turned each round, so that nobody is always first.
        for name in args.fs[number % len(args.fs) :] + args.fs[: number % len(args.fs)]:
            start = time.perf_counter()
            try:
                figures, daemon = measure(name, args.base, args.only, args.scale)
            except Exception as err:  # the others are still worth measuring
                print(f"round {number + 1} {name} FAILED: {err}", file=sys.stderr)
                failed = True
                continue
            daemons[name].append(daemon)
            for figure in figures:
                units[figure.row] = figure.unit
                results[name].setdefault(figure.row, []).append(figure.value)
            print(f"round {number + 1} {name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    print(table(results, units, args.fs))
    load = os.getloadavg()[0]
    if load > (os.cpu_count() or 1) + 1:
        print(f"The machine was busy (load {load:.1f}): compare columns, and run again when it is quiet.")
    document = {"machine": about, "scale": args.scale, "units": units, "results": results, "daemons": daemons}
    args.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
