"""Two real accounts, a fresh folder of the first one's that both may write to, and the table of answers."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

VARIABLE: Final = "CRYPTFS_LIVE_DRIVE"
REASON: Final = f"asks a real Google account; set {VARIABLE} to a directory of logins (tests/live/README.md)"

ANSWERS: list[tuple[str, str, str]] = []
"""Question, what cryptfs assumes, what the account did."""

collect_ignore_glob = [] if os.environ.get(VARIABLE) else ["test_live_*.py"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    if not ANSWERS:
        return
    terminalreporter.section("answers of Google Drive")
    terminalreporter.line("| question | assumed | answer |")
    terminalreporter.line("|---|---|---|")
    for row in ANSWERS:
        terminalreporter.line("| " + " | ".join(one.replace("|", "/") for one in row) + " |")


@dataclass
class Account:
    """One login: the store's client, and the bare API for what a store never asks."""

    access: Any
    client: Any
    http: Any
    api: Any

    def run(self, request: Any) -> Any:
        return request.execute(http=self.http, num_retries=3)


@dataclass
class Live:
    """`a` owns `folder`, `b` may write to it. `shared_drive` is empty if there is none to be tried."""

    a: Account
    b: Account
    folder: str
    shared_drive: str
    made: list[str] = field(default_factory=list)

    def new_folder(self, parent: str = "") -> str:
        """A folder for one test."""
        body = {"name": f"t-{uuid.uuid4().hex[:8]}", "mimeType": "application/vnd.google-apps.folder"}
        body["parents"] = [parent or self.folder]
        made = self.a.run(self.a.api.files().create(body=body, fields="id", supportsAllDrives=True))
        return str(made["id"])


def account(path: Path) -> Account:
    import json

    from google_auth_httplib2 import AuthorizedHttp
    from googleapiclient.discovery import build_from_document
    from googleapiclient.discovery_cache import get_static_doc
    from googleapiclient.http import build_http

    from cryptfs.store.drive.access import DriveAccess
    from cryptfs.store.drive.client import Client
    from cryptfs.store.drive.transport import Credentials

    access = DriveAccess.from_json(path.read_bytes())
    document = json.loads(get_static_doc("drive", "v3"))
    if access.endpoint:
        document["rootUrl"] = access.endpoint.rstrip("/") + "/"
        document.pop("mtlsRootUrl", None)
    http = AuthorizedHttp(Credentials(access), http=build_http())
    return Account(access, Client(access), http, build_from_document(document, http=http))


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    directory = Path(os.environ[VARIABLE])
    a, b = account(directory / "a.json"), account(directory / "b.json")
    name = time.strftime("cryptfs live test %Y-%m-%d %H:%M:%S")
    made = a.run(a.api.files().create(body={"name": name, "mimeType": "application/vnd.google-apps.folder"}))
    drive = directory / "shared-drive"
    world = Live(a, b, made["id"], drive.read_text().strip() if drive.exists() else "")
    address = b.run(b.api.about().get(fields="user(emailAddress)"))["user"]["emailAddress"]
    grant = {"type": "user", "role": "writer", "emailAddress": address}
    a.run(a.api.permissions().create(fileId=world.folder, body=grant, sendNotificationEmail=False))
    try:
        yield world
    finally:
        for one in (b, a):  # what b made is b's; the folder takes a's with it
            for file in one.run(one.api.files().list(q="'me' in owners and trashed = false", pageSize=1000)).get(
                "files", []
            ):
                if file["id"] in world.made:
                    one.run(one.api.files().delete(fileId=file["id"]))
        a.run(a.api.files().delete(fileId=world.folder))
        for one in (a, b):
            one.client.close()
            one.http.close()


@pytest.fixture
def answer() -> Callable[[str, str, object], None]:
    """Note an answer: question, what is assumed, what was seen."""
    return lambda question, assumed, seen: ANSWERS.append((question, assumed, str(seen)))
