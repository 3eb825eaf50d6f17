"""An emulated Drive started by hand: prints where it listens and what to log in with, and runs until it is stopped."""

import argparse
import json
import signal
import sys
import tempfile
import threading
from pathlib import Path

from tests.drive_emulator.emulator import Emulator
from tests.drive_emulator.settings import MiB, Settings, realistic


def main() -> int:
    """Run it until SIGINT or SIGTERM."""
    given = arguments()
    settings = settings_of(given)
    with Emulator(settings=settings, seed=given.seed, host=given.host, port=given.port, secure=given.tls) as emulator:
        over = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: over.set())
        place = Path(given.files or tempfile.mkdtemp(prefix="drive-emulator-"))
        place.mkdir(parents=True, exist_ok=True)
        introduce(emulator, given, place)
        over.wait()
        counted = emulator.count()
    print(f"stopped after {counted} requests; all contents are gone")
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.drive_emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8555)
    parser.add_argument("--user", action="append", metavar="E-MAIL", help="an account; may be repeated")
    parser.add_argument("--folder", default="vault", help="made by the first account, shared with the others")
    parser.add_argument("--shared-drive", metavar="NAME", help="make one with all accounts, the first its organizer")
    parser.add_argument("--files", metavar="DIR", help="where credential files go (else a new folder below /tmp)")
    parser.add_argument("--realistic", action="store_true", help="published limits, and ordinary delays and lags")
    parser.add_argument("--latency", type=float, metavar="SECONDS", help="of every call")
    parser.add_argument("--create-latency", type=float, metavar="SECONDS", help="on top, of what writes")
    parser.add_argument("--mbit", type=float, metavar="MBIT", help="speed of the line, each way")
    parser.add_argument("--creates-per-second", type=float, metavar="N", help="writes an account and second")
    parser.add_argument("--listing-lag", type=float, metavar="SECONDS", help="how late listings are")
    parser.add_argument("--feed-lag", type=float, metavar="SECONDS", help="how late the changes feed is")
    parser.add_argument("--storage", type=float, metavar="GiB", help="of each account (15)")
    parser.add_argument("--multipart-limit", type=float, metavar="MiB", help="of uploads in one call (5)")
    parser.add_argument("--token-seconds", type=float, metavar="SECONDS", help="life of access tokens (3600)")
    parser.add_argument("--tls", action="store_true", help="serve TLS by a throw-away authority")
    parser.add_argument("--seed", type=int, default=0, help="of everything that happens by chance")
    return parser.parse_args()


def settings_of(given: argparse.Namespace) -> Settings:
    """What was asked for, over the realistic or the plain defaults."""
    settings = realistic() if given.realistic else Settings()
    wanted = (
        (settings.network, "latency", given.latency),
        (settings.network, "create_latency", given.create_latency),
        (settings.network, "up_mbit", given.mbit),
        (settings.network, "down_mbit", given.mbit),
        (settings.limits, "writes_per_second", given.creates_per_second),
        (settings.listing, "lag_seconds", given.listing_lag),
        (settings.feed, "lag_seconds", given.feed_lag),
        (settings.behaviour, "token_seconds", given.token_seconds),
        (settings.limits, "multipart_bytes", given.multipart_limit and int(given.multipart_limit * MiB)),
    )
    for group, name, value in wanted:
        if value is not None:
            setattr(group, name, value)
    return settings


def introduce(emulator: Emulator, given: argparse.Namespace, place: Path) -> None:
    """Make accounts and folders, write the files, say what there is."""
    people = given.user or ["anna@example.org"]
    storage = int(given.storage * (1 << 30)) if given.storage is not None else 15 << 30
    for email in people:
        emulator.user(email, storage=storage)
    folder = emulator.folder(people[0], given.folder)
    for email in people[1:]:
        emulator.share(folder, email, "writer")
    print(f"endpoint       {emulator.url}")
    if emulator.authority is not None:
        print(f"authority      {emulator.authority}  (HTTPLIB2_CA_CERTS, SSL_CERT_FILE)")
    client = place / "client_secret.json"
    client.write_text(json.dumps(emulator.client_config(), indent=1))
    print(f"client secret  {client}")
    print(f"folder         gdrive:{folder}  ({given.folder}, of {people[0]}, shared with the others)")
    if given.shared_drive:
        roles = dict.fromkeys(people, "writer") | {people[0]: "organizer"}
        print(f"shared drive   gdrive:{emulator.shared_drive(given.shared_drive, roles)}  ({given.shared_drive})")
    for email in people:
        kept = place / f"{email}.json"
        kept.touch(mode=0o600)
        credentials = emulator.credentials(email)
        kept.write_text(json.dumps(credentials, indent=1))
        print(f"account        {email}\n  credentials  {kept}\n  token        {credentials['token']}")
    print("stop it with Ctrl-C; everything is kept in memory only", flush=True)


if __name__ == "__main__":
    sys.exit(main())
