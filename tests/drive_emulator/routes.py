"""Which method of the API a request is for."""

import re

_ID = r"([A-Za-z0-9_-]+)"
_FILES = r"/(?:resumable/)?upload/drive/v3/files"
_TABLE = (
    ("GET", r"/drive/v3/files/generateIds", "files.generateIds"),
    ("GET", r"/drive/v3/files", "files.list"),
    ("POST", r"/drive/v3/files", "files.create"),
    ("DELETE", r"/drive/v3/files/trash", "files.emptyTrash"),
    ("GET", rf"/drive/v3/files/{_ID}", "files.get"),
    ("PATCH", rf"/drive/v3/files/{_ID}", "files.update"),
    ("DELETE", rf"/drive/v3/files/{_ID}", "files.delete"),
    ("POST", rf"/drive/v3/files/{_ID}/copy", "files.copy"),
    ("POST", _FILES, "files.create"),
    ("PATCH", rf"{_FILES}/{_ID}", "files.update"),
    ("PUT", rf"{_FILES}(?:/{_ID})?", "upload.chunk"),
    ("GET", r"/drive/v3/changes/startPageToken", "changes.getStartPageToken"),
    ("GET", r"/drive/v3/changes", "changes.list"),
    ("GET", r"/drive/v3/about", "about.get"),
    ("GET", rf"/drive/v3/files/{_ID}/permissions", "permissions.list"),
    ("POST", rf"/drive/v3/files/{_ID}/permissions", "permissions.create"),
    ("GET", rf"/drive/v3/files/{_ID}/permissions/{_ID}", "permissions.get"),
    ("PATCH", rf"/drive/v3/files/{_ID}/permissions/{_ID}", "permissions.update"),
    ("DELETE", rf"/drive/v3/files/{_ID}/permissions/{_ID}", "permissions.delete"),
    ("GET", r"/drive/v3/drives", "drives.list"),
    ("GET", rf"/drive/v3/drives/{_ID}", "drives.get"),
    ("POST", r"/(?:oauth2/v4/)?token", "token"),
    ("POST", r"/revoke", "revoke"),
    ("GET", r"/o/oauth2/(?:v2/)?auth", "authorize"),
)
_COMPILED = tuple((method, re.compile(pattern), call) for method, pattern, call in _TABLE)


def find(method: str, path: str, query: dict[str, str], content_range: str | None) -> tuple[str, tuple[str, ...]]:
    """The call and the ids its path names; ("", ()) for what there is not.

    Beyond the names of the API: "files.get_media" is a get with alt=media, "upload.start" opens a resumable session,
    "upload.chunk" puts bytes into one, "upload.query" asks how far it got, and "token", "revoke", "authorize" are those
    of the login.
    """
    for wanted, pattern, call in _COMPILED:
        found = pattern.fullmatch(path) if wanted == method else None
        if found is None:
            continue
        ids = tuple(one for one in found.groups() if one is not None)
        if call == "files.get" and query.get("alt") == "media":
            return "files.get_media", ids
        if "/upload/" in path and method != "PUT" and query.get("uploadType") == "resumable":
            return "upload.start", ids
        if call == "upload.chunk" and (content_range or "").strip().startswith("bytes */"):
            return "upload.query", ids
        return call, ids
    return "", ()
