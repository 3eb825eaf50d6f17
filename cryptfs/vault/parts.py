"""What a vault is opened with: its options, and the parts that `opening.py` makes before there is a vault."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from cryptfs.faults import Faults
from cryptfs.tree.replica import Replica
from cryptfs.vault.cache import Cache
from cryptfs.vault.home import VaultHome
from cryptfs.vault.journal import Journal
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.pins import Pins
from cryptfs.vault.standing import Standing
from cryptfs.vault.trust import Trust
from cryptfs.vault.upload import Sender

__all__ = ["Parts", "VaultOptions"]

_FROM_OPTIONS: Final = (
    ("cache_size", "cache_bytes", 1),
    ("spool_size", "spool_bytes", 1),
    ("history_days", "history_s", 86_400),
    ("collect_hours", "collect_delay_s", 3_600),
    ("log_days", "log_delay_s", 86_400),
)
"""Mount options that are numbers: name, field, and what one of them counts."""


@dataclass(frozen=True, slots=True)
class VaultOptions:
    """How a vault is opened. `cache_bytes` bounds confirmed packs, `spool_bytes` those that wait for the store.

    `history_s`: seconds that old versions and the trash are kept; `collect_delay_s`: seconds between everybody's word
    that a pack is unused and its end; `settle_s`: seconds until what was saved in small pieces is copied together;
    `rollup_delay_s`: seconds between everybody's word that segments were read, and their end as objects of their own.
    `log_delay_s`: seconds, as long as history at least, that log objects stay which checkpoints stand for.
    `custodian`: whether this device takes over what others hold, and what their accounts own.
    """

    read_only: bool = False
    cache_bytes: int = 10 << 30
    spool_bytes: int = 50 << 30
    history_s: float = 30 * 86_400
    collect_delay_s: float = 86_400
    settle_s: float = 7 * 86_400
    rollup_delay_s: float = 86_400
    log_delay_s: float = 30 * 86_400
    custodian: bool = False

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Self:
        """What of checked mount options concerns the vault itself."""
        given: dict[str, int] = {}
        for name, field, unit in _FROM_OPTIONS:
            if name in options:
                given[field] = int(options[name]) * unit
        return cls(read_only=options.get("ro") == "yes", custodian=options.get("custodian") == "yes", **given)


@dataclass(slots=True)
class Parts:
    """What `opening.py` hands to a vault."""

    home: VaultHome
    standing: Standing
    trust: Trust
    replica: Replica
    journal: Journal
    sender: Sender
    cache: Cache
    log_objects: LogObjects
    pins: Pins
    options: VaultOptions
    faults: Faults
