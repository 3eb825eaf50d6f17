"""Requests as they come in, replies as they go out, and every refusal Drive knows, in both of its JSON shapes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

JSON_TYPE = "application/json; charset=UTF-8"


@dataclass(slots=True)
class Request:
    """One HTTP request. `call` is the method of the API it stands for, as "files.create" (see `routes.py`)."""

    method: str
    scheme: str
    host: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]  # looked up ignoring case
    body: bytes
    call: str = ""
    ids: tuple[str, ...] = ()  # what the path names, in order
    email: str = ""  # whose token came along; empty before that is known
    number: int = 0
    ignore_range: bool = False  # faults this one request meets
    old_version: bool = False

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean parameter of the query. Raises Refusal for anything but true and false."""
        given = self.query.get(name)
        if given is None:
            return default
        if given.lower() not in ("true", "false"):
            raise invalid(name, given)
        return given.lower() == "true"

    def document(self) -> dict[str, object]:
        """The JSON object of the body, empty when there is none. Raises Refusal."""
        return parse_object(self.body)


@dataclass(slots=True)
class Reply:
    """One HTTP reply."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def parse_object(data: bytes) -> dict[str, object]:
    """The JSON object in `data`, {} for nothing. Raises Refusal."""
    try:
        value = json.loads(data) if data.strip() else {}
    except ValueError:
        raise Refusal(400, "parseError", "Parse Error") from None
    if not isinstance(value, dict):
        raise Refusal(400, "parseError", "Parse Error")
    return value


def json_reply(value: object, status: int = 200) -> Reply:
    """A reply that carries JSON."""
    return Reply(status, json.dumps(value, ensure_ascii=False).encode(), {"Content-Type": JSON_TYPE})


STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
"""The `status` of the newer error shape."""


class Refusal(Exception):
    """An answer of 4xx or 5xx, as section 5 of the API's error guide spells them.

    `new_shape` gives the body `status` and `details` with a reason in capitals and leaves out `errors`.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        location: str = "",
        location_type: str = "parameter",
        retry_after: float | None = None,
        new_shape: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.domain = status, reason, message, domain
        self.location, self.location_type = location, location_type
        self.retry_after, self.new_shape = retry_after, new_shape

    def reply(self) -> Reply:
        """The whole answer."""
        error: dict[str, object] = {"code": self.status, "message": self.message}
        if self.new_shape:
            error["status"] = STATUS_NAMES.get(self.status, "UNKNOWN")
            error["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": in_capitals(self.reason),
                    "domain": "googleapis.com",
                    "metadata": {"service": "drive.googleapis.com"},
                }
            ]
        else:
            one = {"domain": self.domain, "reason": self.reason, "message": self.message}
            if self.location:
                one |= {"locationType": self.location_type, "location": self.location}
            error["errors"] = [one]
        reply = json_reply({"error": error}, self.status)
        if self.retry_after is not None:
            reply.headers["Retry-After"] = f"{self.retry_after:g}"
        if self.status == 401:
            reply.headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
        return reply


def in_capitals(reason: str) -> str:
    """`rateLimitExceeded` as RATE_LIMIT_EXCEEDED."""
    return "".join("_" + letter if letter.isupper() else letter.upper() for letter in reason)


def invalid(name: str, value: str) -> Refusal:
    """A parameter that makes no sense."""
    return Refusal(400, "invalidParameter", f"Invalid value '{value}' for {name}.", location=name)


def not_found(file_id: str) -> Refusal:
    """There is no such file, or none that this account may see."""
    return Refusal(404, "notFound", f"File not found: {file_id}.", location="fileId")


def forbidden(reason: str = "insufficientFilePermissions") -> Refusal:
    """This account may see the file, but not do that."""
    return Refusal(403, reason, FORBIDDEN[reason])


FORBIDDEN = {
    "insufficientFilePermissions": "The user does not have sufficient permissions for this file.",
    "insufficientParentPermissions": "Insufficient permissions for the specified parent.",
    "storageQuotaExceeded": "The user's Drive storage quota has been exceeded.",
    "numChildrenInNonRootLimitExceeded": "The limit for the number of children in a folder has been exceeded.",
    "teamDriveFileLimitExceeded": "The file limit for this shared drive has been exceeded.",
    "cannotAddParent": "Increasing the number of parents is not allowed",
    "fileNotDownloadable": "Only files with binary content can be downloaded. Use Export with Docs Editors files.",
    "cannotDownloadAbusiveFile": "This file has been identified as malware or spam and cannot be downloaded.",
    "cannotCopyFile": "This file cannot be copied by the user.",
}
"""Reasons of 403 with the words that come along."""

USAGE = {
    "userRateLimitExceeded": "User rate limit exceeded.",
    "rateLimitExceeded": "Rate Limit Exceeded",
    "sharingRateLimitExceeded": 'Rate limit exceeded. User message: "Sorry, cannot share at this time."',
    "dailyLimitExceeded": "Daily Limit Exceeded",
    "quotaExceeded": "The user has exceeded their quota.",
    "accessNotConfigured": (
        "Google Drive API has not been used in project 1234567890 before or it is disabled. Enable it, then retry."
    ),
}
"""Reasons of domain usageLimits."""


def usage(reason: str, status: int = 403, retry_after: float | None = None, new_shape: bool = False) -> Refusal:
    """Too much, too fast, or not switched on."""
    return Refusal(status, reason, USAGE[reason], domain="usageLimits", retry_after=retry_after, new_shape=new_shape)


def unauthorized() -> Refusal:
    """No token, an unknown one, or one that has expired."""
    return Refusal(401, "authError", "Invalid Credentials", location="Authorization", location_type="header")
