"""Uploads: media, multipart and resumable, with sessions that expire, lose what they had, and answer late questions."""

import base64
import email.message
import re
from collections import deque
from dataclasses import dataclass

from tests.drive_emulator.access import role_of
from tests.drive_emulator.answers import Refusal, Reply, Request, forbidden, invalid, parse_object, usage
from tests.drive_emulator.files_api import Metadata, change, create, shown
from tests.drive_emulator.items import Item, at_least
from tests.drive_emulator.world import World

QUANTUM = 256 * 1024
"""All chunks of a session but the last are multiples of it."""
LARGEST = 5 << 40


@dataclass(slots=True)
class Session:
    """A resumable upload. `reply` once it is finished."""

    id: str
    start: Request
    metadata: Metadata
    mime: str | None
    total: int | None
    began: float
    data: bytearray
    reply: Reply | None = None
    closed: bool = False  # given up, or expired by a test


class Uploads:
    """Takes in bytes and makes files of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sessions: dict[str, Session] = {}

    # ---- in one call -----------------------------------------------------------------------------------------------

    def simple(self, request: Request) -> Reply:
        """`uploadType` media or multipart, for a new file or (PATCH) for one that is there."""
        kind = request.query.get("uploadType")
        limit = self._world.settings.limits.multipart_bytes
        if len(request.body) > limit:
            raise Refusal(413, "uploadTooLarge", f"Simple uploads end at {limit} bytes: use a resumable one.")
        content_type = request.headers.get("Content-Type", "")
        if kind == "media":
            return self._finish(request, Metadata({}), request.body, content_type or None)
        if kind != "multipart":
            raise invalid("uploadType", str(kind))
        document, data, mime = parse_multipart(content_type, request.body)
        return self._finish(request, Metadata(document), data, mime)

    def _finish(self, request: Request, metadata: Metadata, data: bytes, mime: str | None) -> Reply:
        self._check_cap(request.email, len(data))
        item = self._make(request, metadata, data, mime)
        sent = self._world.uploaded.setdefault(request.email, deque())
        sent.append((self._world.clock.now(), len(data)))
        return shown(self._world, request, item)

    def _make(self, request: Request, metadata: Metadata, data: bytes, mime: str | None) -> Item:
        if not request.ids:
            return create(self._world, request, metadata, data, mime)
        item = self._world.visible(request.ids[0], request.email, request.flag("supportsAllDrives"))
        change(self._world, request, item, metadata, data)
        return item

    def _check_cap(self, asker: str, size: int) -> None:
        """750 GB in 24 hours a user, and what a user meets who is over it."""
        cap = self._world.settings.limits.upload_bytes_per_day
        sent = self._world.uploaded.get(asker, ())
        since = self._world.clock.now() - 86_400
        if cap is not None and size + sum(count for at, count in sent if at > since) > cap:
            raise usage("userRateLimitExceeded")

    # ---- resumable -------------------------------------------------------------------------------------------------

    def start(self, request: Request) -> Reply:
        """Open a session; all that can be judged without the bytes is judged now."""
        world, metadata = self._world, Metadata(request.document())
        length = request.headers.get("X-Upload-Content-Length")
        if length is not None and not length.isdecimal():
            raise invalid("X-Upload-Content-Length", length)
        total = int(length) if length is not None else None
        if total is not None and total > LARGEST:
            raise Refusal(413, "uploadTooLarge", "The file is too large.")
        self._check_cap(request.email, total or 0)
        if request.ids:
            item = world.visible(request.ids[0], request.email, request.flag("supportsAllDrives"))
            if not at_least(role_of(world, item, request.email), "writer"):
                raise forbidden()
        else:
            parent = world.check_parent(request.email, metadata.parent(), request.flag("supportsAllDrives"))
            wanted = metadata.text("id")
            if wanted is not None:
                world.check_new_id(request.email, wanted)
            world.check_room(None if parent.drive is not None else request.email, total or 0)
        session_id = "AEnB2U" + world.new_id() + world.new_id()
        mime = request.headers.get("X-Upload-Content-Type")
        session = Session(session_id, request, metadata, mime, total, world.clock.now(), bytearray())
        self.sessions[session_id] = session
        place = f"{request.scheme}://{request.host}{request.path}?uploadType=resumable&upload_id={session_id}"
        return Reply(200, b"", {"Location": place, "X-GUploader-UploadID": session_id})

    def _session(self, request: Request) -> Session:
        session = self.sessions.get(request.query.get("upload_id", ""))
        limits, behaviour = self._world.settings.limits, self._world.settings.behaviour
        if session is None:
            raise Refusal(404, "notFound", "Not Found")
        if session.closed or self._world.clock.now() - session.began > limits.session_seconds:
            raise Refusal(behaviour.expired_session, "notFound" if behaviour.expired_session == 404 else "gone", "Gone")
        return session

    def put(self, request: Request) -> Reply:
        """A chunk, or (`bytes */N`) the question how far it got."""
        session = self._session(request)
        asked = request.headers.get("Content-Range")
        if asked is None:
            return self._take(session, request.body, 0, len(request.body))
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", asked.strip())
        if found is None:
            raise invalid("Content-Range", asked)
        first, last, whole = found.groups()
        total = int(whole) if whole != "*" else None
        if session.total is not None and total is not None and total != session.total:
            raise Refusal(400, "badContent", "The total differs from what was announced.")
        if first is None:
            return self._state(session, total)
        if int(last) - int(first) + 1 != len(request.body):
            raise Refusal(400, "badContent", "Content-Range does not match the bytes that came.")
        if session.reply is not None:
            status = self._world.behaviour.finished_session
            if status == 200:
                return session.reply
            raise Refusal(status, "notFound" if status == 404 else "gone", "Not Found")
        return self._take(session, request.body, int(first), total)

    def _state(self, session: Session, total: int | None) -> Reply:
        """Answer `bytes */N`: finished, or how far it got. An empty file is finished by this very question."""
        if session.reply is not None:
            return session.reply
        if total is not None and total == len(session.data):
            return self._complete(session)
        return incomplete(session)

    def _take(self, session: Session, data: bytes, first: int, total: int | None) -> Reply:
        """Bytes from `first` on; what is there already is skipped, a gap stores nothing."""
        final = total is not None and first + len(data) == total
        if not final and len(data) % QUANTUM:
            raise Refusal(400, "badContent", "A chunk that is not the last must be a multiple of 256 KiB.")
        if first > len(session.data):
            return incomplete(session)
        session.data += data[len(session.data) - first :]
        if total is not None and len(session.data) > total:
            raise Refusal(400, "badContent", "More bytes than were announced.")
        if total is not None and len(session.data) == total:
            return self._complete(session)
        return incomplete(session)

    def _complete(self, session: Session) -> Reply:
        session.reply = self._finish(session.start, session.metadata, bytes(session.data), session.mime)
        session.data = bytearray()
        return session.reply

    def keep_part(self, request: Request, arrived: bytes) -> None:
        """The connection broke within a chunk: whole multiples of 256 KiB of it are kept."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", request.headers.get("Content-Range") or "")
        session = self.sessions.get(request.query.get("upload_id", ""))
        if found is not None and session is not None and session.reply is None:
            first = int(found.group(1))
            if first <= len(session.data):
                session.data += arrived[: len(arrived) // QUANTUM * QUANTUM][len(session.data) - first :]

    def lose_tail(self, upload_id: str, count: int) -> None:
        """Forget the last `count` bytes of what a session had."""
        session = self.sessions[upload_id]
        kept = max(0, len(session.data) - count)
        del session.data[kept // QUANTUM * QUANTUM :]


def incomplete(session: Session) -> Reply:
    """308, with what is there; nothing is there: no Range at all."""
    headers = {"X-GUploader-UploadID": session.id}
    if session.data:
        headers["Range"] = f"bytes=0-{len(session.data) - 1}"
    return Reply(308, b"", headers)


def parse_multipart(content_type: str, body: bytes) -> tuple[dict[str, object], bytes, str | None]:
    """Metadata, media and its type. Lines end in CRLF or, as Google's own client writes them, in bare LF."""
    header = email.message.Message()
    header["Content-Type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise Refusal(400, "badContent", "Content-Type must be multipart/related with a boundary.")
    mark = b"--" + boundary.encode()
    began = body.find(mark)
    if began < 0:
        raise Refusal(400, "badContent", "Malformed multipart body.")
    # The end of line before a boundary belongs to it; which kind it is decides whether a CR there is data.
    line = b"\r\n" if body[began + len(mark) :].startswith(b"\r\n") else b"\n"
    parts = (line + body[began:]).split(line + mark)
    if len(parts) != 4 or not parts[3].startswith(b"--"):
        raise Refusal(400, "badContent", "Malformed multipart body: two parts are wanted.")
    (_, metadata), (media_header, media) = (_split_part(part, line) for part in parts[1:3])
    found = re.search(rb"(?im)^content-type:\s*([^\r\n]+)", media_header)
    encoded = re.search(rb"(?im)^content-transfer-encoding:\s*base64", media_header)
    if encoded:
        media = base64.b64decode(media)
    return parse_object(metadata), media, found.group(1).decode() if found else None


def _split_part(part: bytes, line: bytes) -> tuple[bytes, bytes]:
    header, middle, content = part.partition(line + line)
    if not middle:
        raise Refusal(400, "badContent", "Malformed multipart body: a part without an empty line.")
    return header, content
