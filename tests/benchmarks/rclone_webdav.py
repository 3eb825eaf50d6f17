"""How fast rclone's crypt mount is on a WebDAV server as far away as the Drive of drive.py: the same files, beside it.

    python tests/benchmarks/rclone_webdav.py                       # 500 files of 20 KB, and 256 MiB in one file
    python tests/benchmarks/rclone_webdav.py --only small --creates 0 --transfers 16
    python tests/benchmarks/drive.py --only small --files 500      # cryptfs, to be read beside it

Prints seconds until all is at the server, the calls that took, and how that compares with the time of the bytes alone.
`rclone serve webdav` keeps what it gets in a directory; a proxy in front of it makes every call late, all bytes share
one line each way, and what writes waits for its turn (Drive would refuse it, which WebDAV clients do not expect). The
mount has a cache of writes, else programs could not write as they like; everything else is as rclone has it by itself.
"""

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))

from mounting import is_mounted, scratch, wait_until

from tests.drive_emulator.clock import RealClock
from tests.drive_emulator.server import Link

MIB = 1 << 20
PIECE = 64 * 1024
BURST = 10  # writes that go through at once after a rest, as on the emulated Drive
PASSWORD = "benchmark"  # protects nothing: the files are random and deleted afterwards
WRITES = (
    "PUT",
    "MOVE",
    "COPY",
    "DELETE",
)  # not MKCOL: rclone asks for its folder before each file, which makes nothing
OF_ONE_HOP = ("connection", "keep-alive", "transfer-encoding", "expect", "host")


class Pace:
    """Lets `rate` calls a second through, in the order they came; 0 is no bound."""

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate if rate else 0.0
        self._lock, self._next = threading.Lock(), 0.0

    def delay(self) -> float:
        """Seconds until the turn of one more."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now - BURST * self._step) + self._step
            return max(0.0, self._next - now)


class FarAway(ThreadingHTTPServer):
    """A proxy that puts the server at `port` far away, and counts the calls that were answered well."""

    daemon_threads = True

    def __init__(self, port: int, args: argparse.Namespace) -> None:
        self.backend, self.latency, self.mbit = port, args.latency, args.mbit
        self.up, self.down, self.pace = Link(RealClock()), Link(RealClock()), Pace(args.creates)
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Passing)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that the client leaves are no error; others are told."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def count(self, method: str, status: int) -> None:
        with self._lock:
            self.calls[method if status < 400 else f"{method} {status}"] += 1


class Passing(BaseHTTPRequestHandler):
    """One connection of the client, with one of its own to the server."""

    protocol_version = "HTTP/1.1"
    server: FarAway

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._behind = HTTPConnection("127.0.0.1", self.server.backend)

    def finish(self) -> None:
        self._behind.close()
        super().finish()

    def log_message(self, *_: object) -> None:
        """Calls are counted, not told."""

    def _body(self, left: int) -> Iterator[bytes]:
        while left and (piece := self.rfile.read(min(left, PIECE))):
            left -= len(piece)
            time.sleep(self.server.up.delay(len(piece), self.server.mbit))
            yield piece

    def pass_on(self) -> None:
        """One call, of any method."""
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.send_error(411)
            return
        time.sleep(self.server.latency + (self.server.pace.delay() if self.command in WRITES else 0))
        length = int(self.headers.get("Content-Length", 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OF_ONE_HOP}
        self._behind.request(self.command, self.path, self._body(length) if length else None, headers)
        answer = self._behind.getresponse()
        content = answer.read()
        self.server.count(self.command, answer.status)
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*OF_ONE_HOP, "content-length"):
                self.send_header(name, value)
        # what HEAD is told is the length of a body that does not come
        told = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        if answer.status != 204:
            self.send_header("Content-Length", told)
        self.end_headers()
        for at in range(0, len(content), PIECE):
            piece = content[at : at + PIECE]
            time.sleep(self.server.down.delay(len(piece), self.server.mbit))
            self.wfile.write(piece)


for _method in ("GET", "HEAD", "OPTIONS", "PROPFIND", "PROPPATCH", "LOCK", "UNLOCK", "MKCOL", *WRITES):
    setattr(Passing, f"do_{_method}", Passing.pass_on)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


class Measured:
    """An rclone crypt mount at `point` on the server that `far` makes late."""

    def __init__(self, base: Path, args: argparse.Namespace, stack: ExitStack) -> None:
        self.point, self.kept, self._config = base / "mnt", base / "kept", base / "rclone.conf"
        self.point.mkdir()
        self.kept.mkdir()
        self._config.touch()
        self._base = base
        port = free_port()
        server = self._start(stack, "serve", "webdav", str(self.kept), "--addr", f"127.0.0.1:{port}")
        if not wait_until(lambda: answers(port), seconds=30, daemon=server):
            raise SystemExit("rclone serve webdav did not start")
        self.far = FarAway(port, args)
        threading.Thread(target=self.far.serve_forever, daemon=True).start()
        stack.callback(self.far.shutdown)
        self._configure(self.far.server_address[1])
        mount = self._start(
            stack, "mount", "crypt:", str(self.point), "--vfs-cache-mode", "writes", "--cache-dir", str(base / "cache"),
            "--vfs-write-back", f"{args.write_back}s", "--transfers", str(args.transfers),
        )  # fmt: skip
        if not wait_until(lambda: is_mounted(self.point), seconds=60, daemon=mount):
            raise SystemExit("rclone mount did not start")

    def _configure(self, port: int) -> None:
        hidden = self.rclone("obscure", PASSWORD).strip()
        self._config.write_text(
            f"[dav]\ntype = webdav\nurl = http://127.0.0.1:{port}\nvendor = other\n"
            f"[crypt]\ntype = crypt\nremote = dav:vault\npassword = {hidden}\n"
            f"[behind]\ntype = crypt\nremote = {self.kept}/vault\npassword = {hidden}\n"
        )

    def _environ(self) -> dict[str, str]:
        return os.environ | {"RCLONE_CONFIG": str(self._config), "HOME": str(self._base)}

    def _start(self, stack: ExitStack, *line: str) -> "subprocess.Popen[bytes]":
        """A program that is ended with the measurement; SIGTERM makes a mount unmount itself."""
        process = subprocess.Popen(["rclone", *line], env=self._environ(), stdout=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        return process

    def rclone(self, *line: str) -> str:
        """What a command of rclone prints. Raises CalledProcessError."""
        return subprocess.run(["rclone", *line], env=self._environ(), check=True, capture_output=True, text=True).stdout

    def there(self) -> tuple[int, int]:
        """Files and bytes of plaintext that the server's directory holds, read without a proxy."""
        told = json.loads(self.rclone("size", "--json", "behind:"))
        return told["count"], told["bytes"]


@contextmanager
def mounted(args: argparse.Namespace) -> Iterator[Measured]:
    """A new folder on the server, mounted."""
    with scratch(args.base) as base, ExitStack() as stack:
        yield Measured(base, args, stack)


def measure(args: argparse.Namespace, title: str, sizes: list[int]) -> None:
    """Write files of these sizes as drive.py does, wait until the server has answered for each, print what it took."""
    block = random.Random(4711).randbytes(MIB)
    total = sum(sizes)
    with mounted(args) as there:
        there.far.calls.clear()
        began = time.monotonic()
        for number, size in enumerate(sizes):
            with (there.point / f"{number:05}").open("wb", buffering=0) as file:
                for at in range(0, size, MIB):
                    file.write((number.to_bytes(8, "big") + at.to_bytes(8, "big") + block)[: min(MIB, size - at)])
        written = time.monotonic() - began
        if not wait_until(lambda: there.far.calls["PUT"] >= len(sizes), seconds=args.patience):
            print(f"only {there.far.calls['PUT']} of {len(sizes)} files were there after {args.patience} s", flush=True)
        took = time.monotonic() - began
        calls = dict(there.far.calls)
        time.sleep(2 + 5 * args.latency)  # rclone looks at what it has just sent
        if there.there() != (len(sizes), total):
            print(f"at the server are, in files and bytes, {there.there()}", flush=True)
    line = total * 8 / (args.mbit * 1e6)
    print(
        f"rclone, {title}: written in {written:.1f} s, at the server in {took:.1f} s ({took / line:.2f} x the line, "
        f"{line:.1f} s), calls {calls}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["small", "big"])
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--size", type=int, default=20_000, help="bytes of each of the small files")
    parser.add_argument("--mib", type=int, default=256, help="size of the big file")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds a call")
    parser.add_argument("--creates", type=float, default=3.0, help="writes a second that the server takes; 0: any")
    parser.add_argument("--mbit", type=float, default=100.0)
    parser.add_argument("--transfers", type=int, default=4, help="rclone's own default is 4")
    parser.add_argument("--write-back", type=float, default=5.0, help="seconds rclone waits first; its default is 5")
    parser.add_argument("--patience", type=float, default=1200, help="seconds to wait at most")
    parser.add_argument("--base", type=Path, default=Path("/dev/shm"), help="where all state lies")
    args = parser.parse_args()
    if shutil.which("rclone") is None:
        raise SystemExit("rclone is not installed")
    if args.only in (None, "small"):
        measure(args, f"{args.files} files of {args.size} bytes", [args.size] * args.files)
    if args.only in (None, "big"):
        measure(args, f"one file of {args.mib} MiB", [args.mib * MIB])


if __name__ == "__main__":
    main()
