"""The calls of the Drive API that a store needs, each typed, paced, and with Google's errors turned into ours.

Built on google-api-python-client: its static description of the API, patched where another endpoint is wanted, since
`client_options.api_endpoint` does not reach uploads. Nothing is tried twice in here (`num_retries=0`): the library's
own retries sleep where nobody can wake them and ignore Retry-After.
"""

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc

from cryptfs.errors import Fatal, Retry, StoreError
from cryptfs.store.base import MONOTONIC, Call, Clock, Space
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.body import SENDING, Body, Turn
from cryptfs.store.drive.idmap import Sums
from cryptfs.store.drive.quota import Kind, Pace
from cryptfs.store.drive.source import Source
from cryptfs.store.drive.throttle import Throttle
from cryptfs.store.drive.transport import Lines, NewLogin

__all__ = ["FOLDER_TYPE", "Api", "Client", "File", "FileChange", "Session"]

FOLDER_TYPE: Final = "application/vnd.google-apps.folder"
_PAGE: Final = 1000
_FIELDS: Final = "id,name,parents,mimeType,size,md5Checksum,sha256Checksum,modifiedTime,createdTime,ownedByMe,trashed"
_RIGHTS: Final = "capabilities(canDelete,canAddChildren),driveId"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class File:
    """A file or folder as Drive describes it. `mine` and the rights are None where it says nothing."""

    id: str
    name: str
    parent: str
    folder: bool
    sums: Sums
    mtime_ms: int
    made: str
    mine: bool | None
    trashed: bool
    may_delete: bool | None
    may_add: bool | None
    drive: str

    @classmethod
    def of(cls, answer: Json) -> "File":
        """Read an answer. Raises Retry for one that is none of Drive's."""
        try:
            rights = answer.get("capabilities", {})
            return cls(
                str(answer["id"]), str(answer.get("name", "")), str((answer.get("parents") or [""])[0]),
                answer.get("mimeType") == FOLDER_TYPE, sums_of(answer), _ms(answer.get("modifiedTime")),
                str(answer.get("createdTime", "")), answer.get("ownedByMe"), bool(answer.get("trashed")),
                rights.get("canDelete"), rights.get("canAddChildren"), str(answer.get("driveId", "")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise Retry("Something else than Google Drive answered.") from error


@dataclass(frozen=True, slots=True)
class FileChange:
    """Something that happened to a file; `file` None: it is gone for this account."""

    id: str
    file: File | None


def sums_of(answer: Json) -> Sums:
    """Size and hashes; MD5 is empty for what has no bytes, such as a folder."""
    return Sums(int(answer.get("size", -1)), str(answer.get("md5Checksum", "")), str(answer.get("sha256Checksum", "")))


def _ms(text: Any) -> int:
    return int(dt.datetime.fromisoformat(str(text)).timestamp() * 1000) if text else 0


class Client:
    """One account at Google Drive. Thread-safe. Every method raises the store family, `Retry` when late or aborted."""

    def __init__(
        self,
        access: DriveAccess,
        clock: Clock = MONOTONIC,
        pace: Pace | None = None,
        reload: Callable[[], DriveAccess] | None = None,
    ) -> None:
        """`reload`: see `Lines`."""
        self._clock = clock
        self.pace = pace or Pace(clock.now())
        self._throttle = Throttle()
        self._lines = Lines(access, reload)
        self._sending = threading.Semaphore(SENDING)
        self._api = _api(access.endpoint)

    def close(self) -> None:
        """Close all connections. No call may be running."""
        self._lines.close()

    @property
    def api(self) -> "Api":
        """The methods of the API, for requests that `run` then executes."""
        return self._api

    # ---- files -------------------------------------------------------------------------------------------------------

    def file(self, file_id: str, call: Call) -> File:
        """What Drive knows of a file. NotFound."""
        request = self._api.files.get(fileId=file_id, fields=f"{_FIELDS},{_RIGHTS}", supportsAllDrives=True)
        return File.of(self._execute(Kind.METADATA, request, call))

    def listing(self, parent: str, drive: str, call: Call, *, name: str = "", folders: bool = False) -> Iterator[File]:
        """What lies in the folder `parent`, the trash left out, in no order; `name` (ASCII) as a further condition.

        One folder a query: of several Drive gives an arbitrary part.
        """
        query = f"{_quoted(parent)} in parents and trashed = false"
        if name:
            query += f" and name = {_quoted(name)}"
        if folders:
            query += f" and mimeType = {_quoted(FOLDER_TYPE)}"
        page, seen = "", set[str]()
        while True:
            request = self._api.files.list(
                q=query, pageSize=_PAGE, fields=f"nextPageToken,files({_FIELDS},{_RIGHTS})", supportsAllDrives=True,
                includeItemsFromAllDrives=True, **_given(pageToken=page),
                **(_given(corpora="drive", driveId=drive) if drive else {}),
            )  # fmt: skip
            answer = self._execute(Kind.LISTING, request, call)
            for row in _rows(answer, "files"):
                file = File.of(row)
                if file.id not in seen and not file.trashed and (file.parent in ("", parent) or parent == "root"):
                    seen.add(file.id)
                    yield replace(file, parent=file.parent or parent)
            page = str(answer.get("nextPageToken", ""))
            if not page:
                return

    def new_ids(self, count: int, call: Call) -> list[str]:
        """Ids for files to come, minted for this account."""
        request = self._api.files.generateIds(count=count, space="drive", type="files", fields="ids")
        return [str(one) for one in self._execute(Kind.METADATA, request, call).get("ids", [])]

    def create_folder(self, file_id: str, name: str, parent: str, call: Call) -> File:
        """Make a folder. Exists if the id is taken."""
        body = {"id": file_id, "name": name, "mimeType": FOLDER_TYPE, "parents": [parent]}
        request = self._api.files.create(body=body, fields=_FIELDS, supportsAllDrives=True)
        return File.of(self._execute(Kind.WRITE, request, call))

    def create(self, file_id: str, name: str, parent: str, source: Source, call: Call) -> File:
        """Make a file in one request; for little ones. Exists if the id is taken."""
        return File.of(self._execute(Kind.WRITE, self._creation(file_id, name, parent, Body(source)), call))

    def session(self, file_id: str, name: str, parent: str, source: Source, address: str = "") -> "Session":
        """A resumable upload; `address`: of one that was begun, to be gone on with."""
        turn = Turn(self._sending)
        request = self._creation(file_id, name, parent, Body(source, turn))
        if address:
            request.resumable_uri = address
            request._in_error_state = True  # noqa: SLF001 - no public way; a test guards it. Asks for the offset first
        return Session(self, request, turn)

    def _creation(self, file_id: str, name: str, parent: str, body: Body) -> Any:
        metadata = {"id": file_id, "name": name, "parents": [parent]}
        return self._api.files.create(body=metadata, media_body=body, fields=_FIELDS, supportsAllDrives=True)

    def copy(self, source_id: str, file_id: str, name: str, parent: str, call: Call) -> File:
        """Copy a file inside Drive, so that it becomes this account's. Exists if the id is taken."""
        body = {"id": file_id, "name": name, "parents": [parent]}
        request = self._api.files.copy(fileId=source_id, body=body, fields=_FIELDS, supportsAllDrives=True)
        return File.of(self._execute(Kind.WRITE, request, call))

    def delete(self, file_id: str, call: Call) -> None:
        """Delete for good: what lies in the trash still counts. NotFound."""
        self._execute(Kind.WRITE, self._api.files.delete(fileId=file_id, supportsAllDrives=True), call)

    def read(
        self, file_id: str, call: Call, span: tuple[int, int] | None = None, *, harmful: bool = False
    ) -> tuple[int, str, bytes]:
        """Status, Content-Range and bytes of a file, or of `span` (first, end; end > first) of it.

        TakenForHarmful: it is given only to an owner who calls it `harmful` himself.
        """
        seen: dict[str, Any] = {}
        known = {"acknowledgeAbuse": True} if harmful else {}
        request = self._api.files.get_media(fileId=file_id, supportsAllDrives=True, **known)
        request.headers["accept-encoding"] = "identity"  # a compressed part would be of no use
        if span is not None:
            request.headers["range"] = f"bytes={span[0]}-{span[1] - 1}"
        request.add_response_callback(lambda head: seen.update(status=head.status, span=head.get("content-range", "")))
        data = self._execute(Kind.DOWNLOAD, request, call)
        return seen["status"], seen["span"], data

    # ---- account -----------------------------------------------------------------------------------------------------

    def start_token(self, drive: str, call: Call) -> str:
        """Where the feed of changes stands now."""
        request = self._api.changes.getStartPageToken(supportsAllDrives=True, **_given(driveId=drive))
        return str(self._execute(Kind.LISTING, request, call).get("startPageToken", ""))

    def changes(self, token: str, drive: str, call: Call) -> tuple[list[FileChange], str, bool]:
        """One page of the feed from `token`: what it tells, the next token, and whether there is more already."""
        request = self._api.changes.list(
            pageToken=token, pageSize=_PAGE, includeRemoved=True, restrictToMyDrive=False, supportsAllDrives=True,
            includeItemsFromAllDrives=True, **_given(driveId=drive),
            fields=f"nextPageToken,newStartPageToken,changes(fileId,removed,file({_FIELDS}))",
        )  # fmt: skip
        answer = self._execute(Kind.LISTING, request, call)
        told = []
        for row in _rows(answer, "changes"):
            if "fileId" in row:
                file = row.get("file")
                told.append(FileChange(str(row["fileId"]), None if row.get("removed") or not file else File.of(file)))
        following = answer.get("nextPageToken")
        return told, str(following or answer.get("newStartPageToken", token)), bool(following)

    def about(self, call: Call) -> tuple[str, Space | None]:
        """E-mail address of the account, and its room; None if it has no limit."""
        answer = self._execute(Kind.METADATA, self._api.about.get(fields="user(emailAddress),storageQuota"), call)
        try:
            quota, user = answer.get("storageQuota", {}), answer.get("user", {})
            address = str(user.get("emailAddress", ""))
            if "limit" not in quota:
                return address, None
            total = int(quota["limit"])
            return address, Space(total, max(0, total - int(quota.get("usage", 0))))
        except (ValueError, AttributeError, TypeError) as error:
            raise Retry("Something else than Google Drive answered.") from error

    # ---- one call ----------------------------------------------------------------------------------------------------

    def _execute(self, kind: Kind, request: Any, call: Call) -> Any:
        return self.run(kind, lambda http: request.execute(http=http, num_retries=0), call)

    def run(self, kind: Kind, action: Any, call: Call) -> Any:
        """`action` with a line of its own, when its turn has come. Raises the store family."""
        call.check()
        if kind.writes:
            self._throttle.check(self._clock.now())
        self._wait_for_turn(kind, call)
        try:
            try:
                answer = self._lines.run(action, call)
            except NewLogin:
                answer = self._lines.run(action, call)
        except StoreError as error:
            raise self._judged(kind, error) from error
        self._throttle.accepted(writes=kind.writes)
        self.pace.accepted(kind)
        return answer

    def _judged(self, kind: Kind, error: StoreError) -> StoreError:
        """The error to be told: after a while of it, slowing down is more than an everyday thing."""
        if not isinstance(error, Retry) or error.state != "rate limited":
            return error
        now = self._clock.now()
        self.pace.slow_down(now, error.after)
        return self._throttle.refused(error, now, writes=kind.writes)

    def _wait_for_turn(self, kind: Kind, call: Call) -> None:
        wait = self.pace.ask(kind, self._clock.now())
        if wait <= 0:
            return
        if wait < call.remaining():
            self._clock.wait(wait, call.abort)
            if not call.aborted:
                return
        self.pace.give_back(kind, self._clock.now())
        call.check()
        raise Retry("Google Drive is asked slowly, so as to stay below its limits.", after=wait, passing=True)


class Session:
    """A resumable upload. One thread."""

    def __init__(self, client: Client, request: Any, turn: Turn) -> None:
        self._client = client
        self._request = request
        self._turn = turn

    @property
    def address(self) -> str:
        """Where it can be gone on with, a capability; empty before the first answer."""
        return self._request.resumable_uri or ""

    def step(self, call: Call) -> File | None:
        """Send the next chunk; returns the file once it is whole.

        NotFound without an `address`: of the folder; with one: the session has expired. Exists: the id is taken.
        """
        # Only what begins a session makes a file; its chunks are not counted by Google.
        kind = Kind.METADATA if self.address else Kind.WRITE

        def send(http: AuthorizedHttp) -> Any:
            return self._request.next_chunk(http=http, num_retries=0)[1]

        self._turn.call = call
        try:
            answer = self._client.run(kind, send, call)
        finally:
            self._turn.leave()
        return None if answer is None else File.of(answer)


# ---- the library's side ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Api:
    """Shared by all threads; making one of these takes the library 3 ms each time."""

    files: Any
    changes: Any
    about: Any
    permissions: Any


_built: dict[str, Api] = {}
_building: Final = threading.Lock()


def _api(endpoint: str) -> Api:
    """The API at `endpoint`, or Google's own. Without network: the description comes with the library."""
    with _building:
        if endpoint not in _built:
            text = get_static_doc("drive", "v3")
            if text is None:
                raise Fatal("Google's client library lacks the Drive API.", "Install google-api-python-client again.")
            document = json.loads(text)
            if endpoint:
                document["rootUrl"] = endpoint.rstrip("/") + "/"
                document.pop("mtlsRootUrl", None)
            # The transport given here is never used: each call brings its own.
            service = build_from_document(document, http=_NoTransport())
            _built[endpoint] = Api(service.files(), service.changes(), service.about(), service.permissions())
        return _built[endpoint]


class _NoTransport:
    """Stands where the library wants a transport before there is a call."""

    def request(self, *_: Any, **__: Any) -> Any:
        """Never to be used."""
        raise RuntimeError("a call without a transport of its own")

    def close(self) -> None:
        """Nothing to close."""


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _given(**values: str) -> dict[str, str]:
    """Those arguments that are not empty."""
    return {name: value for name, value in values.items() if value}


def _rows(answer: Any, name: str) -> list[Json]:
    rows = answer.get(name, []) if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Retry("Something else than Google Drive answered.")
    return rows
