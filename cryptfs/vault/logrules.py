"""What the group says about logs, asked of one segment: who signed it, which rules it keeps, how the tree takes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import Invalid
from cryptfs.format.segment import RawSegment, SegmentBody, open_segment, verify_segment
from cryptfs.format.segment_body import LogHead
from cryptfs.group.ends import LogEnd
from cryptfs.group.heirs import inherited
from cryptfs.group.membership import Membership
from cryptfs.group.validity import Claim, Missing, Placed, judge_segment
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.logs import Logs, LogState

__all__ = ["LogRules"]


@dataclass(frozen=True, slots=True)
class LogRules:
    """What the present membership says about logs. `stated`: the ends without regard to what is here."""

    membership: Membership
    lost: Callable[[LogHead], bool]
    stated: Mapping[bytes, LogEnd]
    ends: Mapping[bytes, LogEnd]

    def open(self, raw: RawSegment, log_id: bytes) -> SegmentBody:
        """What a segment of that log says. Raises HostileStore unless its owner signed it, NotAllowed, NeedsUpdate."""
        owner = self.membership.graph.log_owner(log_id)
        if raw.log_id != log_id or owner is None:
            raise Invalid("a segment stands under a name that is not its own")
        verify_segment(raw, owner.sign_pub)
        return open_segment(raw, self.membership.keyring.key(KeyLabel.LOG, raw.ks))

    def judge(self, logs: Logs, raw: RawSegment, body: SegmentBody, before: LogState) -> Placed | Missing:
        """Where the segment stands, or what it has to wait for. Raises Invalid for a broken rule."""
        last = before.head(raw.log_id)
        claim = Claim(raw.log_id, raw.seq, raw.ks, body, logs.place(last) if last else None, dict(before.seen))
        return judge_segment(claim, self.membership.resolver, logs.place, self.lost)

    def integrated(self, raw: RawSegment, body: SegmentBody, ids: Mapping[int, int]) -> IntegratedSegment:
        """The segment as the tree takes it; `ids`: local number to number, if it may be of this device."""
        membership = self.membership
        owner = membership.graph.log_owner(raw.log_id)
        own = owner is not None and owner.entry in membership.own
        return IntegratedSegment(
            log=raw.log_id, seq=raw.seq, digest=raw.digest, stamp=body.stamp, wall_ms=body.wall_ms,
            label=membership.name_of(owner.entry) if owner is not None else "",
            role=int(owner.tier) if owner is not None else 0, first_op=body.first_op, ops=body.ops, packs=body.packs,
            body2=len(raw.body2), own=own, ids=ids if own else {}, checked=True,
            inherits=inherited(membership.graph, raw.log_id, body.mheads, body.ops),
        )  # fmt: skip
