"""Reading the bytes of a version that is not the present one, and telling whether they can be had.

Records are found as those of any file: through the copies their holders made of them, under keys from their boxes.
"""

from enum import StrEnum
from typing import TYPE_CHECKING

from cryptfs.errors import Damaged, StoreError
from cryptfs.format.content import Content
from cryptfs.vault.containers import Container
from cryptfs.vault.past import Past, Version
from cryptfs.vault.reading import ReadContent
from cryptfs.vault.records import locate

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Whereabouts", "require_there", "sealed_content", "whereabouts"]


class Whereabouts(StrEnum):
    """Where a version's bytes are."""

    EMPTY = "no bytes"
    HERE = "here"
    STORE = "in the store"
    UNSENT = "not sent yet"
    MISSING = "missing"


def sealed_content(vault: "Vault", version: Version, content: Content) -> ReadContent:
    """The version as a content to read; nobody else shares it, and it never changes."""
    reading = ReadContent(vault, version.st, version.size)
    reading.take_version(content)
    return reading


def whereabouts(vault: "Vault", past: Past, version: Version) -> Whereabouts:
    """Where its bytes are, as far as that is known without asking the store."""
    if past.unsent(version):
        return Whereabouts.UNSENT
    content = past.content_of(version)
    if content is None or content.size == 0:
        return Whereabouts.EMPTY
    reading = sealed_content(vault, version, content)
    containers = _containers(vault, reading)
    if any(vault.cache.name_of(one) in vault.cache.damaged for one in containers):
        return Whereabouts.MISSING
    complete = reading.map.base.manifest is None  # pages would have to be read to know all places
    return Whereabouts.HERE if complete and all(one.path is not None for one in containers) else Whereabouts.STORE


async def require_there(vault: "Vault", reading: ReadContent, known: set[str] | None = None) -> None:
    """Return if every object that holds the version exists. Raises Damaged with the name of one that does not.

    Names in `known` are not asked for again; those found are added.
    """
    seen = set() if known is None else known
    try:
        await reading.load_all()
        for container in _containers(vault, reading):
            name = vault.cache.name_of(container)
            if container.path is not None or not name or name in seen:
                continue
            if await vault.sender.size(name) is None:
                raise Damaged(
                    f"An object that holds this version is missing in the store: {name}.",
                    "Look for it in the trash of the provider; other versions are unharmed.",
                )
            seen.add(name)
    except StoreError as err:
        raise type(err)(str(err), "The version is not on this machine; try again when the store answers.") from err


def _containers(vault: "Vault", reading: ReadContent) -> list[Container]:
    found: dict[int, Container] = {}
    for index in reading.present_chunks():
        ref = reading.map.get(index)
        if ref is not None:
            one = locate(ref)[0]
            found[id(one)] = one
    manifest = reading.map.base.manifest
    if manifest is not None:
        one = vault.container(manifest.loc)
        found[id(one)] = one
    return list(found.values())
