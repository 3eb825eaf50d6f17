"""Notices when no administrator has been heard of for days: a removal may have been held back (docs/membership.md).

A store that withholds what it got cannot be caught by what it shows. What is left is to say how long ago this device
first saw the last segment of an administrator, by its own clock, and, if the owners want that, to send nothing until
there is news. Administrators' mounts publish at least once a day (`hourly.py`), so silence means something.
"""

import logging
from collections.abc import Callable

from cryptfs.errors import NotAllowed
from cryptfs.group.authority import Tier
from cryptfs.group.memory import TrustMemory, days_without_news
from cryptfs.vault.standing import Standing

__all__ = ["Freshness"]

log = logging.getLogger(__name__)

_ADVICE = "Compare words with the others: `cryptfs-admin verify`."


class Freshness:
    """How long ago the administrators other than this device were heard of. `now_ms`: own clock, ms since 1970."""

    def __init__(self, standing: Standing, memory: Callable[[], TrustMemory], now_ms: Callable[[], int]) -> None:
        self._standing = standing
        self._memory = memory
        self._now_ms = now_ms
        self._told = False

    @property
    def days(self) -> int | None:
        """Whole days without news; None where nobody else could send any, or nobody was heard of yet."""
        roster = self._standing.membership.resolved.roster
        others = [entry for entry, one in roster.items() if one.role >= Tier.ADMIN and entry != self._standing.entry]
        return days_without_news(self._memory(), others, self._now_ms())

    @property
    def stale(self) -> bool:
        """Whether that is longer than the vault's policy finds good."""
        days = self.days
        return days is not None and days >= self._standing.membership.resolved.policy.roster_age_days

    @property
    def words(self) -> str:
        """What to say about it; empty if there is news."""
        if not self.stale:
            return ""
        sending = " Nothing is sent until there is." if self._stops else ""
        return f"No news from an administrator for {self.days} days. Removals may not have reached you.{sending}"

    @property
    def _stops(self) -> bool:
        return self._standing.membership.resolved.policy.on_stale == 1

    def check_may_seal(self) -> None:
        """Raise NotAllowed if the policy says that nothing is sent without news."""
        if self.stale and self._stops:
            raise NotAllowed(self.words, f"Unsent changes are kept on this machine. {_ADVICE}")

    def tell(self) -> None:
        """Write into the log when silence has become too long, and when it is over."""
        stale = self.stale
        if stale and not self._told:
            log.warning("%s %s", self.words, _ADVICE)
        elif self._told and not stale:
            log.info("there is news from an administrator again")
        self._told = stale
