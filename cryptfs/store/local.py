"""What a store may keep on this device, and where."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["LocalFiles"]


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Places on this device.

    `logins`: directory of the logins at providers. `table`: file for what the store remembers of this vault, sealed
    under `key` (32 bytes); None: it remembers in memory.
    """

    logins: Path
    table: Path | None = None
    key: bytes | None = None
