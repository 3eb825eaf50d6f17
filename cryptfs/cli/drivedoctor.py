"""What `cryptfs doctor` finds out at Google Drive: the login, the folder, the room, the limits, the clock."""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from cryptfs.cli.finding import Finding
from cryptfs.cli.output import size
from cryptfs.errors import StoreError
from cryptfs.store import Call
from cryptfs.store.drive.access import SCOPE, DriveAccess

if TYPE_CHECKING:
    from cryptfs.store.drive.examining import Examination

__all__ = ["examine_drive"]

_SECONDS: Final = 30.0
_ROOM_LOW: Final = 1 << 30
_COUNT_SECONDS: Final = 20.0
"""A thousand items a call: enough for tens of thousands."""
_ITEMS_MAX: Final = 500_000
"""Google's limit for the items in one folder, and for all of a shared drive with folders and trash."""
_MANY: Final = 0.8
"""Of that, from which on it is worth a word."""
_CLOCK_OFF: Final = 120.0
"""Seconds. Google takes more; stamps of segments and dates of certificates are read by others, too."""


def examine_drive(access: DriveAccess, folder: str) -> Iterator[Finding]:
    """The vault in `folder`, as the account of `access`. The first thing that is wrong ends it."""
    from cryptfs.store.drive.examining import Examination  # noqa: PLC0415  # Google's library: 0.3 s, 40 MiB

    asked = Examination(access, folder)
    try:
        for subject, question in _QUESTIONS.items():
            try:
                found = question(subject, asked, access)
            except StoreError as err:
                found = Finding(subject, "fail", str(err), err.advice)
            yield found
            if found.verdict == "fail":
                return
    finally:
        asked.close()


def _login(subject: str, asked: "Examination", access: DriveAccess) -> Finding:
    """The client id, the refresh token, and the boxes that were ticked: what a token is given for."""
    if SCOPE not in asked.scopes():
        return Finding(
            subject,
            "fail",
            "it does not cover Google Drive",
            "Run `cryptfs login NAME` again, and tick the box of Google Drive on Google's page.",
        )
    client = access.client_id.partition(".")[0]
    return Finding(subject, "ok", f"alive, for all of Google Drive, under the client id {client}…")


def _account(subject: str, asked: "Examination", access: DriveAccess) -> Finding:
    account, _ = asked.account(Call.within(_SECONDS))
    since = f", logged in since {access.since} ({_days_since(access.since)} days)" if access.since else ""
    if access.until:
        return Finding(
            subject,
            "warn",
            f'{account}{since}, until {access.until}: the client id\'s consent screen is in "Testing"',
            "Publish it in Google's console (docs/google-drive.md), then log in again.",
        )
    return Finding(subject, "ok", f"{account}{since}")


def _days_since(day: str) -> int:
    return (dt.datetime.now(dt.UTC).date() - dt.date.fromisoformat(day)).days


def _folder(subject: str, asked: "Examination", _access: DriveAccess) -> Finding:
    state = asked.folder(Call.within(_SECONDS))
    if state is None:
        return Finding(
            subject, "fail", "Google shows this account no such folder", "Have it shared with this account again."
        )
    if state.trashed:
        return Finding(subject, "fail", "it lies in the trash", "Have its owner take it out again.")
    if not state.may_add:
        return Finding(
            subject, "warn", "this account may only read it", 'Who writes needs to be an editor ("Contributor").'
        )
    if state.shared_drive:
        return Finding(subject, "ok", 'on a shared drive, which owns everything; deleting takes a "Manager" there')
    whose = "this account's own" if state.own else "shared with this account"
    return Finding(subject, "ok", f"{whose}, on My Drive: each account owns, and alone deletes, what it has sent")


def _room(subject: str, asked: "Examination", _access: DriveAccess) -> Finding:
    _, space = asked.account(Call.within(_SECONDS))
    if space is None:
        return Finding(subject, "ok", "without a limit that Google tells")
    if space.free < _ROOM_LOW:
        return Finding(subject, "warn", f"{size(space.free)} left", "Free space, or empty the trash of that Drive.")
    return Finding(subject, "ok", f"{size(space.free)} of {size(space.total)} left")


def _items(subject: str, asked: "Examination", _access: DriveAccess) -> Finding:
    count = asked.items(Call.within(_COUNT_SECONDS))
    said = f"{count.total:,} items, {count.fullest:,} in the fullest folder; Google takes {_ITEMS_MAX:,} a folder"
    if count.fullest >= _ITEMS_MAX * _MANY or count.total >= _ITEMS_MAX * _MANY:
        return Finding(
            subject,
            "warn",
            f"{said}, and no more on all of a shared drive",
            "`cryptfs-admin collect NAME` removes what the vault does not need; empty the trash of a shared drive.",
        )
    return Finding(subject, "ok", said if count.complete else f"at least {said} (not counted to the end)")


def _clock(subject: str, asked: "Examination", _access: DriveAccess) -> Finding:
    error = asked.clock_error()
    if error is None or abs(error) < _CLOCK_OFF:
        return Finding(subject, "ok", "agrees with Google's" if error is not None else "not compared")
    way = "ahead of" if error > 0 else "behind"
    return Finding(subject, "warn", f"{abs(error):.0f} s {way} Google's", "Set it: `timedatectl set-ntp true`.")


_QUESTIONS: Final[dict[str, Callable[[str, "Examination", DriveAccess], Finding]]] = {
    "Google login": _login,
    "Google account": _account,
    "Drive folder": _folder,
    "Drive items": _items,
    "Drive storage": _room,
    "clock": _clock,
}
