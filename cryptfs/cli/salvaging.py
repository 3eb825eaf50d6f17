"""`cryptfs fsck --salvage`: files out of packs and keys alone, for the day when nothing else is left."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptfs.cli.asking import agree
from cryptfs.cli.output import counted, document, line, note, progress, safe, size
from cryptfs.cli.unlocking import unlock
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import HostileStore, StoreError, UsageError
from cryptfs.format.names import GenesisName, StatementName, WrapsName
from cryptfs.group.membership import Membership, open_membership
from cryptfs.store import parse_store_url
from cryptfs.vault.disk import local_disk
from cryptfs.vault.folder import MEMBERSHIP_OBJECT_MAX
from cryptfs.vault.home import VaultHome
from cryptfs.vault.lying import Lying, StoreWindows, copies_in, objects_in
from cryptfs.vault.members import read_copies
from cryptfs.vault.outside import Outside
from cryptfs.vault.remains import Remains
from cryptfs.vault.salvage import Grade, Salvage, Salvaged
from cryptfs.vault.stores import store_beside

__all__ = ["salvage"]

_WHOLE: Final = frozenset({Grade.SIGNED, Grade.FOUND})
_WORDS: Final = {Grade.EARLIER: "EARLIER", Grade.INCOMPLETE: "INCOMPLETE", Grade.LOST: "LOST", Grade.REFUSED: "REFUSED"}
_GUESSES: Final = "Names, times, and which version it is, are guesses where nothing is said to be signed."
_NO_GENESIS: Final = "Another device that had the vault open has copies: use `fsck --heal` there, or --salvage."


def salvage(home: VaultHome, target: Path, passphrase_file: Path | None, *, yes: bool, as_json: bool) -> int:
    """Write what can be read into `target`, tell about it, and return the exit code."""
    url = home.read_settings().store
    _check_target(target, url)
    clear = f"Files are written to {target} in clear, deleted ones too."
    agree([clear, _GUESSES], "Go on?", yes=yes)
    keys = unlock(home, passphrase_file)
    with local_disk("making the directory to write to"):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.closing(store_beside(url, home, keys)) as store:
        windows = StoreWindows(store)
        found = [*_in_store(windows), *_copied(home)]
        membership = _membership(home, keys, found)
        remains = Remains(membership)
        with progress("Reading", sum(one.size for one in found)) as advance:
            for one in found:
                remains.take(one)
                advance(one.size)
        note(
            f"{counted(remains.packs, 'pack')} and {counted(remains.segments, 'segment')} can be read; they tell of "
            f"{counted(len(remains.contents), 'content')}."
        )
        with local_disk("opening the directory to write to"):
            outside = Outside(target)
        with contextlib.closing(outside), progress("Writing", None) as advance:
            work = Salvage(remains, membership.keyring, outside)
            files = []
            for file in work.run():
                files.append(file)
                advance(file.size - file.missing)
    return _tell(remains, work, files, as_json=as_json)


def _check_target(target: Path, url: str) -> None:
    """Raises UsageError."""
    store = parse_store_url(url)
    if store.scheme == "file" and target.resolve().is_relative_to(Path(store.place).resolve()):
        raise UsageError(f"{target} lies in the store itself.", "Everybody could read it there: name another one.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty.", "Nothing is ever overwritten: name a new directory.")


def _in_store(windows: StoreWindows) -> list[Lying]:
    """All objects in the store, packs before logs."""
    try:
        return sorted(objects_in(windows), key=lambda one: (not one.key.startswith("p"), one.key))
    except StoreError as err:
        note(safe(f"The store does not answer: {err}. Only what lies on this machine is looked at."))
        return []


def _copied(home: VaultHome) -> Iterator[Lying]:
    """Whole objects in the cache of this device."""
    yield from copies_in(home.cached_packs_dir, "p/", ".pack")
    yield from copies_in(home.cache_dir / "segments", "l/")


def _membership(home: VaultHome, keys: DeviceKeys, found: list[Lying]) -> Membership:
    """Raises HostileStore if nobody can tell any more which keys there were."""
    objects = list(read_copies(home.cache_dir / "members"))
    objects += [
        (one.key, one.read(0, MEMBERSHIP_OBJECT_MAX))
        for one in found
        if isinstance(one.name, GenesisName | StatementName | WrapsName)
    ]
    try:
        return open_membership(objects, keys.vault, keys)
    except HostileStore as err:
        raise HostileStore("The beginning of the vault is lost: no key can be opened without it.", _NO_GENESIS) from err


def _tell(remains: Remains, work: Salvage, files: list[Salvaged], *, as_json: bool) -> int:
    harmed = [one for one in files if one.grade not in _WHOLE]
    code = HostileStore.exit_code if harmed or remains.unread else 0
    if as_json:
        document(
            {
                "packs": remains.packs,
                "segments": remains.segments,
                "older": work.older,
                "unread": remains.unread,
                "files": [_as_json(one) for one in files],
            }
        )
        return code
    for one in sorted(harmed, key=lambda one: one.meant):
        line(safe(f"{_WORDS[one.grade]:<10}  {_said(one)}"))
    for key, why in sorted(remains.unread.items()):
        line(safe(f"PROBLEM     {key}: {why}"))
    written = [one for one in files if one.path]
    line(f"{counted(len(written), 'file')} written, {size(sum(one.size - one.missing for one in written))}.")
    for grade, count in sorted(Counter(one.grade.value for one in files).items()):
        line(f"  {count}: {grade}")
    if work.older:
        line(f"{counted(work.older, 'older content')} of these files left out.")
    line("Links, empty directories, owners and attributes are not in packs.")
    return code


def _said(one: Salvaged) -> str:
    """One file that is not whole."""
    name = os.fsdecode(one.meant or one.path) or "a file without a name"
    if one.grade is Grade.INCOMPLETE:
        return f"{name}: {size(one.missing)} of {size(one.size)} are missing; written as {os.fsdecode(one.path)}"
    return f"{name}: {size(one.size)}" + (f"; {one.by}" if one.by else "")


def _as_json(one: Salvaged) -> dict[str, object]:
    return {
        "meant": os.fsdecode(one.meant),
        "path": os.fsdecode(one.path),
        "grade": one.grade.name.lower(),
        "size": one.size,
        "missing": one.missing,
        "by": one.by,
    }
