"""cryptfs: a shared cloud folder that only its group can read."""

from typing import Final

__all__ = ["VERSION"]

VERSION: Final = "0.1.0"
