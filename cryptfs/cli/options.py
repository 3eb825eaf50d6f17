"""Mount options: `-o` as mount(8) has it, before the environment (CRYPTFS_CACHE_SIZE), before `NAME.toml`."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

from cryptfs.errors import UsageError

__all__ = ["gather_options", "parse_size", "split_options"]

_FLAGS: Final = frozenset({"ro", "allow_other", "noxattr", "debug", "nonempty", "real_owner", "custodian"})
_VALUES: Final[Mapping[str, frozenset[str]]] = {
    "atime": frozenset({"noatime", "relatime", "strictatime", "nodiratime"}),
    "fsync": frozenset({"local", "remote"}),
    "loop": frozenset({"polling", "stock"}),
    "log_level": frozenset({"error", "warning", "info", "debug"}),
}
_SIZES: Final = frozenset({"cache_size", "spool_size"})
_NUMBERS: Final[Mapping[str, tuple[int, str]]] = {
    "history_days": (3650, "days"), "collect_hours": (8760, "hours"), "log_days": (3650, "days"),
}  # fmt: skip
"""The largest value, and what it counts; 0 is allowed."""

_SPELLED: Final[Mapping[str, tuple[str, str]]] = {
    "rw": ("ro", "no"),
    "xattr": ("noxattr", "no"),
    "read_only": ("ro", "yes"),
    "noatime": ("atime", "noatime"),
    "relatime": ("atime", "relatime"),
    "strictatime": ("atime", "strictatime"),
    "nodiratime": ("atime", "nodiratime"),
    "atime": ("atime", "relatime"),
}
"""Words of mount(8) that stand for an option of ours and its value."""

_IGNORED: Final = re.compile(
    r"(?:no)?(?:exec|suid|dev|auto|user|users|owner|group|fail|async)|_netdev|defaults|x-[^=]*|comment"
)
"""Words in fstab that are for mount(8), systemd or other file systems; setuid and device files never have effect."""

_UNIT: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_YES: Final = frozenset({"", "1", "yes", "true", "on"})
_NO: Final = frozenset({"0", "no", "false", "off"})


def gather_options(
    given: Iterable[str], environ: Mapping[str, str] = os.environ, settings: Mapping[str, str] | None = None
) -> dict[str, str]:
    """All options in force: `given` (texts after -o) wins over `environ`, that over `settings` (from NAME.toml).

    Flags have the value "yes" or "no", sizes are bytes in decimal. Raises UsageError for what nobody knows.
    """
    options: dict[str, str] = {}
    for name, value in (settings or {}).items():
        options.update(_option(name.replace("-", "_"), value, "the settings file"))
    for name in (*_FLAGS, *_VALUES, *_SIZES, *_NUMBERS):
        variable = f"CRYPTFS_{name.upper()}"
        if variable in environ:
            options.update(_option(name, environ[variable], variable))
    for text in given:
        for name, value in split_options(text):
            options.update(_option(name, value, "-o"))
    return options


def split_options(text: str) -> list[tuple[str, str]]:
    """`name[=value],…`; double quotes keep a comma inside a value, as in mount(8). A bare name has the value ""."""
    pairs = []
    for piece in re.findall(r'(?:"[^"]*"|[^,"])+', text):
        name, _, value = piece.partition("=")
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if stripped := name.strip():
            pairs.append((stripped, value))
    return pairs


def parse_size(text: str) -> int:
    """Bytes in `text`: a number with nothing or K, M, G, T (powers of 1024) behind. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,12})([KMGT]?)(?:iB|B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise UsageError(f"'{text}' is not a size.", "Write a number of bytes, or one with K, M, G or T.")
    return int(found[1]) * _UNIT[found[2].upper()]


def _option(name: str, value: str, where: str) -> dict[str, str]:
    """One option, checked; empty if it is one to ignore."""
    if name in _SPELLED and (value == "" or name == "read_only"):
        name, default = _SPELLED[name]
        value = value or default
    if name in _FLAGS:
        if value in _YES | _NO:
            return {name: "no" if value in _NO else "yes"}
        raise UsageError(f"'{name}={value}' in {where}: {name} takes yes or no.")
    if name in _SIZES:
        return {name: str(parse_size(value))}
    if name in _NUMBERS:
        most, unit = _NUMBERS[name]
        if value.isascii() and value.isdigit() and int(value) <= most:
            return {name: str(int(value))}
        raise UsageError(f"'{name}={value}' in {where}.", f"{name} is a number of {unit}, at most {most}.")
    if name in _VALUES:
        if value in _VALUES[name]:
            return {name: value}
        raise UsageError(f"'{name}={value}' in {where}.", f"{name} is one of {', '.join(sorted(_VALUES[name]))}.")
    if _IGNORED.fullmatch(name):
        return {}
    known = sorted({*_FLAGS, *_VALUES, *_SIZES, *_NUMBERS} | set(_SPELLED))
    raise UsageError(f"There is no option '{name}' ({where}).", f"Known: {', '.join(known)}.")
