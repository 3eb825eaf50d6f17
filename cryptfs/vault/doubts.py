"""What people are told while the tree that a device shows is not to be believed; nothing is written until then."""

from collections.abc import Iterable
from typing import Final

from cryptfs.crypto.words import fingerprint_words

__all__ = ["behind", "headless", "unvouched"]

_COMPARE: Final = (
    "Compare these words with another member ('cryptfs-admin trust checkpoint' shows them there): {words}. If they are"
    " equal, run 'cryptfs-admin trust checkpoint {name} --confirm'. Until then nothing is written"
)


def unvouched(name: str, root: bytes) -> str:
    """The vault `name` was begun from a checkpoint with that root, 32 bytes, by nobody who is believed."""
    return (
        "Nobody known to this device stands up for what the folder shows, and what led there was tidied away."
        f" {_compare(name, root)}"
    )


def behind(name: str, root: bytes) -> str:
    """Such a checkpoint alone has what this device lacks."""
    return (
        "This device was away for so long that changes it lacks were tidied away, and nobody known to it stands up for"
        f" what came of them. {_compare(name, root)}"
    )


def headless(devices: Iterable[str]) -> str:
    """Neither the first segments of these devices nor a checkpoint in place of them is in the folder."""
    return (
        f"The folder lacks the beginning of what {' and '.join(sorted(devices))} wrote, and a checkpoint in its place."
        " If someone tidied up the folder, restore 'c' and 'l' from its trash; or mount the vault for half an hour on a"
        " device that has the files: it makes another one. Until then nothing is written"
    )


def _compare(name: str, root: bytes) -> str:
    return _COMPARE.format(words=" ".join(fingerprint_words(root)), name=name)
