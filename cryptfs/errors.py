"""The one family of errors: each class knows its answer to the kernel, to the shell and to the person.

`str(err)` is one line without secrets and without plaintext names beyond what the user typed; `err.advice` is the
second line, what to do. Only `cli/main.py` exits. A bug of our own is a plain exception, never one of these.
Exit codes are those of sysexits(3).
"""

import errno
from typing import ClassVar


class CryptfsError(Exception):
    """Base of everything cryptfs raises on purpose."""

    errno: ClassVar[int] = errno.EIO
    exit_code: ClassVar[int] = 70
    default_advice: ClassVar[str] = "Run `cryptfs doctor`."

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice or self.default_advice


class FsError(CryptfsError):
    """A POSIX answer: the call is refused by the rules of the tree, nothing is wrong with cryptfs."""

    exit_code = 66
    default_advice = "Check the path."

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message or errno.errorcode.get(code, str(code)))
        self.errno = code  # type: ignore[misc]  # the one class whose errno belongs to the instance


class NotKept(CryptfsError):
    """Nothing of that name is there, or is kept of what was there."""

    errno = errno.ENOENT
    exit_code = 66
    default_advice = "`cryptfs trash` lists what was deleted."


class UsageError(CryptfsError):
    """The command line makes no sense."""

    errno = errno.EINVAL
    exit_code = 64
    default_advice = "See `cryptfs --help`."


class NoSuchVault(CryptfsError):
    """This device knows no vault of that name."""

    errno = errno.ENOENT
    exit_code = 66
    default_advice = "`cryptfs list` shows the vaults of this device."


class ConfigError(CryptfsError):
    """Something on this machine is set up wrongly."""

    errno = errno.EINVAL
    exit_code = 78


class NotAllowed(CryptfsError):
    """The member's role, or the machine, does not permit this."""

    errno = errno.EACCES
    exit_code = 77


class NotLetIn(NotAllowed):
    """This device has asked to be let in, and is not in."""


class WrongPassphrase(NotAllowed):
    """The key file does not open; says nothing about why."""

    default_advice = "Try again, or use --passphrase-file; without the passphrase only the recovery key helps."


class InUse(CryptfsError):
    """Another process holds what we need."""

    errno = errno.EBUSY
    exit_code = 75


# ---- bytes that do not mean what they should: verdicts of docs/format.md -------------------------------------------


class HostileStore(CryptfsError):
    """Bytes from the store, or from the disk, are not what an honest party wrote."""

    exit_code = 65
    default_advice = "Run `cryptfs fsck NAME`; files it does not name are unharmed."


class AuthError(HostileStore):
    """Opening or unwrapping failed. One error for every cause, so that nobody learns which."""


class Damaged(HostileStore):
    """The bytes do not verify: another copy may."""


class Invalid(HostileStore):
    """The bytes verify but break a rule: final, and attributable to their author."""


class NeedsUpdate(CryptfsError):
    """Written by a newer cryptfs than this one."""

    exit_code = 65
    default_advice = "Please update cryptfs."


# ---- the store -----------------------------------------------------------------------------------------------------


class StoreError(CryptfsError):
    """Base of what a store answers.

    `state` is the word for it in `cryptfs status` where the class alone says too little; empty: the class's own.
    """

    exit_code = 69
    default_advice = "Your changes are safe on this machine and will be sent later."

    def __init__(self, message: str, advice: str = "", *, state: str = "") -> None:
        super().__init__(message, advice)
        self.state = state


class Retry(StoreError):
    """Try again, after `after` seconds if that is known (else 0).

    `passing`: an everyday thing, such as a request to slow down, of which nobody need be told yet.
    """

    errno = errno.ETIMEDOUT

    def __init__(
        self, message: str, advice: str = "", after: float = 0.0, *, state: str = "", passing: bool = False
    ) -> None:
        super().__init__(message, advice, state=state)
        self.after = after
        self.passing = passing


class StoreGone(Retry):
    """The folder or the network is not there at the moment."""

    errno = errno.ENETUNREACH
    default_advice = "Check the path or the network; your changes are kept here and sent when the store is back."


class Auth(StoreError):
    """The store wants a (new) login."""

    errno = errno.EACCES
    exit_code = 77
    default_advice = "Log in at the provider again; your changes are kept on this machine until then."


class Denied(StoreError):
    """The store refuses this account."""

    errno = errno.EACCES
    exit_code = 77


class Quota(StoreError):
    """The store refused an upload for lack of space; the data stay safe in the journal."""

    errno = errno.ENOSPC
    exit_code = 74
    default_advice = "Free space at the provider; uploads continue by themselves."


class NotFound(StoreError):
    """No such object."""

    errno = errno.EIO
    exit_code = 66


class Exists(StoreError):
    """An object of that name is there already and this store can tell."""

    errno = errno.EEXIST


class Conflict(StoreError):
    """A conditional change lost its race."""


class Fatal(StoreError):
    """The store answered something that trying again will not cure."""


# ---- this machine --------------------------------------------------------------------------------------------------


class LocalDisk(CryptfsError):
    """The disk under journal, packs or cache failed."""

    exit_code = 74
    default_advice = "Check the disk that holds the local state (`cryptfs doctor`)."


class LocalDiskFull(LocalDisk):
    """No space for journal, packs or cache."""

    errno = errno.ENOSPC
    default_advice = "Free space on the disk that holds the local state; work goes on by itself."
