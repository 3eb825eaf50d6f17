"""What a member is told about the group: who came and who went, and what in the folder was left out and why.

Nobody enters or leaves unnoticed, and junk is named, but once: each goes into the log when it is news, and stands in
`cryptfs status` while the vault is open.
"""

import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

from cryptfs.group.membership import Ignored, Membership

__all__ = ["News"]

log = logging.getLogger(__name__)

_KEPT: Final = 100
_NAMES_SHOWN: Final = 8


class News:
    """Since the vault was opened, and what happened to the group while it was closed."""

    def __init__(self) -> None:
        self.group: deque[str] = deque(maxlen=_KEPT)
        """Sentences about who came and went, the latest last."""
        self._requests: dict[str, str] = {}
        """Join requests that were left out when somebody looked at them last: name -> reason."""

    def learn(self, now: Membership, before: Membership | None) -> None:
        """Tell what is new in `now`. `before` is what this device knew; None: nothing, so nobody is a newcomer."""
        for sentence in _comings_and_goings(now, before) if before is not None else ():
            self.group.append(sentence)
            log.info("%s", sentence)
        known = {one.reason: one.count for one in before.ignored} if before is not None else {}
        for one in now.ignored:
            if one.count > known.get(one.reason, 0):
                log.warning("ignored %d objects in the store: %s (%s)", one.count, one.reason, ", ".join(one.names))

    def learn_requests(self, left_out: Iterable[tuple[str, str]]) -> None:
        """Join requests were read; these (name, reason) are none."""
        found = dict(left_out)
        for name in sorted(found.keys() - self._requests):
            log.warning("ignored a request to join: %s (%s)", found[name], name)
        self._requests = found

    def ignored(self, membership: Membership) -> tuple[Ignored, ...]:
        """Everything that is left out now, by reason; requests as far as somebody has looked at them."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in sorted(self._requests.items()):
            by_reason.setdefault(reason, []).append(name)
        requests = (
            Ignored(f"request: {reason}", len(names), tuple(names[:_NAMES_SHOWN]))
            for reason, names in by_reason.items()
        )
        return (*membership.ignored, *requests)


def _comings_and_goings(now: Membership, before: Membership) -> Iterable[str]:
    roster, known = now.resolved.roster, before.resolved.roster
    for one in sorted(roster.keys() - known):
        entry = roster[one]
        yield f"{now.name_of(entry.adder)} let in {now.name_of(one)} as {entry.role.name.lower()}"
    for one in sorted(known.keys() - roster):
        authors = {now.name_of(now.graph.node(removal).author.entry) for removal in now.resolved.removals.get(one, ())}
        yield f"{' and '.join(sorted(authors)) or 'somebody'} removed {now.name_of(one)}"
