"""Google's own client, aimed at an emulated Drive, with short words for what tests do often."""

import functools
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaUpload, build_http

from tests.drive_emulator import Emulator

Resource = dict[str, Any]


class Bytes(MediaUpload):
    """A body that can be sent more than once."""

    def __init__(self, data: bytes, chunk: int = 8 << 20, *, resumable: bool = False) -> None:
        self._data, self._chunk, self._resumable = data, chunk, resumable

    def mimetype(self) -> str:
        return "application/octet-stream"

    def size(self) -> int:
        return len(self._data)

    def chunksize(self) -> int:
        return self._chunk

    def resumable(self) -> bool:
        return self._resumable

    def has_stream(self) -> bool:
        return False

    def getbytes(self, begin: int, length: int) -> bytes:
        return self._data[begin : begin + length]


@functools.cache
def service(url: str) -> Any:
    document = json.loads(get_static_doc("drive", "v3"))
    document["rootUrl"] = url + "/"
    document.pop("mtlsRootUrl", None)
    return build_from_document(document, http=build_http())


class GoogleClient:
    """One account's client, while inside `with`. `timeout` in seconds."""

    def __init__(self, emulator: Emulator, email: str, timeout: float = 20.0) -> None:
        parts = {key: value for key, value in emulator.credentials(email).items() if key != "type"}
        self.credentials = Credentials(**parts)
        self.http = build_http()
        self.http.timeout = timeout
        self.authorized = AuthorizedHttp(self.credentials, http=self.http)
        self.api = service(emulator.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        for connection in self.http.connections.values():
            connection.close()
        for kept in (self.http, getattr(self.credentials, "_http", None)):
            if kept is not None:
                kept.close()

    def run(self, request: Any) -> Any:
        """Send it once."""
        return request.execute(http=self.authorized)

    # ---- files -----------------------------------------------------------------------------------------------------

    def mint(self, count: int) -> list[str]:
        return list(self.run(self.api.files().generateIds(count=count))["ids"])

    def upload(self, folder: str, name: str, media: MediaUpload, file_id: str | None = None) -> Any:
        """The request that makes a file."""
        body = {"name": name, "parents": [folder]} | ({"id": file_id} if file_id else {})
        fields = "id,size,md5Checksum,sha256Checksum"
        return self.api.files().create(body=body, media_body=media, supportsAllDrives=True, fields=fields)

    def create(self, folder: str, name: str, data: bytes, file_id: str | None = None) -> Resource:
        """Make a file in one call."""
        return dict(self.run(self.upload(folder, name, Bytes(data), file_id)))

    def finish(self, request: Any) -> Resource:
        """Send all chunks that are left."""
        reply = None
        while reply is None:
            _, reply = request.next_chunk(http=self.authorized)
        return dict(reply)

    def get(self, file_id: str, fields: str = "*") -> Resource:
        return dict(self.run(self.api.files().get(fileId=file_id, fields=fields, supportsAllDrives=True)))

    def read(self, file_id: str, span: str | None = None) -> bytes:
        """The contents, or the part that a Range header names."""
        return self.answered(file_id, span)[1]

    def answered(self, file_id: str, span: str | None = None) -> tuple[Any, bytes]:
        """The same with the head of the reply."""
        request = self.api.files().get_media(fileId=file_id, supportsAllDrives=True)
        if span is not None:
            request.headers["Range"] = span
        seen: list[Any] = []
        request.add_response_callback(seen.append)
        return seen, bytes(self.run(request))

    def update(self, file_id: str, body: Resource | None = None, **how: object) -> Resource:
        return dict(self.run(self.api.files().update(fileId=file_id, body=body or {}, supportsAllDrives=True, **how)))

    def delete(self, file_id: str) -> None:
        self.run(self.api.files().delete(fileId=file_id, supportsAllDrives=True))

    def names(self, query: str, **how: object) -> list[str]:
        """Names that one page of a listing shows, sorted."""
        found = self.run(self.api.files().list(q=query, **how))
        return sorted(one["name"] for one in found["files"])

    # ---- changes ---------------------------------------------------------------------------------------------------

    def feed_end(self, **how: object) -> str:
        return str(self.run(self.api.changes().getStartPageToken(**how))["startPageToken"])

    def changes(self, token: str, **how: object) -> tuple[list[Resource], str]:
        """All changes from a token on, and the token to go on from."""
        found: list[Resource] = []
        while True:
            page = self.run(self.api.changes().list(pageToken=token, fields="*", **how))
            found += page["changes"]
            if "newStartPageToken" in page:
                return found, str(page["newStartPageToken"])
            token = page["nextPageToken"]


def refused_with(status: int, reason: str, act: Callable[[], object]) -> HttpError:
    """`act` is refused like that."""
    with pytest.raises(HttpError) as caught:
        act()
    assert caught.value.resp.status == status, caught.value
    assert reason in caught.value.content.decode()
    return caught.value
