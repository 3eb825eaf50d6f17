"""Where a private key lies on a PKCS#11 token: the URIs of RFC 7512, as far as they can mean one key.

    pkcs11:token=Anna's%20card;object=vault;id=%01?module-path=/usr/lib/opensc-pkcs11.so&pin-source=file:/run/pin

A PIN in the URI is refused: it would stand in the shell's history and in the list of processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from cryptfs.errors import UsageError

__all__ = ["SCHEME", "TokenUri", "parse_token_uri"]

SCHEME: Final = "pkcs11:"
_LENGTH_MAX: Final = 2048
_HOW: Final = "Write pkcs11:token=LABEL;object=LABEL, as `p11tool --list-privkeys` shows it."


@dataclass(frozen=True, slots=True)
class TokenUri:
    """A URI that was understood. Empty: not said. `module` is a path or name of a shared library, `pin_file` a path."""

    token: str = ""
    serial: str = ""
    manufacturer: str = ""
    model: str = ""
    object: str = ""
    id: bytes = b""
    module: str = ""
    pin_file: str = ""


_TEXTS: Final = frozenset({"token", "serial", "manufacturer", "model", "object"})
"""Attributes that are text, each with a field of its name."""


def parse_token_uri(uri: str) -> TokenUri:
    """Understand a PKCS#11 URI. Raises UsageError for anything that is not one, or means more than one can use."""
    if not uri.startswith(SCHEME) or len(uri) > _LENGTH_MAX:
        raise UsageError("That is no PKCS#11 URI.", _HOW)
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    found: dict[str, str | bytes] = {}
    for name, value in (*_pairs(path, ";"), *_pairs(query, "&")):
        if name == "pin-value":
            raise UsageError(
                "A PIN does not belong into the URI: others could read it.",
                "Leave pin-value out; the PIN is asked for, or read from the file in CRYPTFS_PIN_FILE.",
            )
        field, meaning = _meaning(name, value)
        if not field:
            continue
        if field in found:
            raise UsageError(f"'{name}' stands twice in the PKCS#11 URI.", _HOW)
        found[field] = meaning
    if not (found.get("object") or found.get("id")):
        raise UsageError("The PKCS#11 URI names no key.", f"Say object=LABEL or id=%01. {_HOW}")
    return TokenUri(**found)  # type: ignore[arg-type]  # each field has the type that _meaning gave it


def _pairs(text: str, separator: str) -> Iterator[tuple[str, str]]:
    for piece in filter(None, text.split(separator)):
        name, equals, value = piece.partition("=")
        if not equals:
            raise UsageError(f"'{name}' has no value in the PKCS#11 URI.", _HOW)
        yield name, value


def _meaning(name: str, value: str) -> tuple[str, str | bytes]:
    """The field of `TokenUri` that an attribute goes to, empty for one that says nothing new, and its value."""
    try:
        said = unquote(value, errors="strict")
    except UnicodeDecodeError:
        said = ""
    if name == "id":
        return "id", unquote_to_bytes(value)
    if name in _TEXTS and said:
        return name, said
    if name == "type" and said == "private":
        return "", ""
    if name in {"module-path", "module-name"} and said:
        return "module", said if name == "module-path" else f"{said}.so"
    if name == "pin-source":
        file = said.removeprefix("file:").removeprefix("//")
        if file.startswith("/"):
            return "pin_file", file
        raise UsageError("A pin-source is a file: pin-source=file:/PATH.", _HOW)
    raise UsageError(f"'{name}={value}' in the PKCS#11 URI is not understood.", _HOW)
