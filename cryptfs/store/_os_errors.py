"""What an error of the operating system means for a directory that serves as a store."""

import contextlib
import errno
from collections.abc import Iterator
from typing import Final

from cryptfs.errors import Denied, Fatal, Quota, Retry, StoreError, StoreGone

__all__ = ["mapped", "store_error"]

_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# A network file system whose server is away answers with one of these, a dead FUSE mount with ENOTCONN.
_GONE: Final = frozenset(
    {
        errno.ENOTCONN, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ESHUTDOWN,
    }
)  # fmt: skip
_FINAL: Final = frozenset(
    {
        errno.EFBIG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOSYS,
        errno.ENOTDIR, errno.EOPNOTSUPP,
    }
)  # fmt: skip


def store_error(error: OSError, place: str) -> StoreError:
    """The store error for `error`, met in the directory `place`.

    What is not in the tables is worth another try: the retry policy has a ceiling, and the data are safe meanwhile.
    """
    what = f"{place}: {error.strerror or type(error).__name__}"
    if error.errno in _DENIED:
        return Denied(what, f"Give yourself read and write permission in {place} and everything below it.")
    if error.errno in _FULL:
        return Quota(what, f"Free space where {place} lies; uploads continue by themselves.")
    if error.errno in _GONE:
        return StoreGone(what)
    if error.errno in _FINAL:
        return Fatal(what, f"Check that {place} is a folder on a file system that can hold large files.")
    return Retry(what)


@contextlib.contextmanager
def mapped(place: str) -> Iterator[None]:
    """Turn every OSError from inside into one of the store family."""
    try:
        yield
    except OSError as error:
        raise store_error(error, place) from error
