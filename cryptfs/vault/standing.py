"""Who this device is in the group, and where its log stands: what a new segment has to say about itself."""

from typing import Final

from cryptfs.errors import NotAllowed
from cryptfs.format.names import first_log_id
from cryptfs.format.segment_body import LogHead
from cryptfs.group.authority import Tier
from cryptfs.group.keyring import Keyring
from cryptfs.group.membership import Membership
from cryptfs.vault.logs import Logs, LogState, Told
from cryptfs.vault.news import News

__all__ = ["MOUNT_ANEW", "Standing"]

MOUNT_ANEW: Final = "Unmount the vault and mount it again: it goes on in a log of its own, and nothing is lost."


class Standing:
    """One device in one vault. `membership` is replaced when statements arrive; the log changes only at a start."""

    def __init__(self, membership: Membership, logs: Logs, entry: bytes, news: News, log_id: bytes = b"") -> None:
        self.logs = logs
        self.news = news
        self.entry = entry
        """Id of the entry that this device acts under, 32 bytes; it may have been removed by now."""
        self.log_id = log_id or first_log_id(entry)
        """The log this device writes, 16 bytes."""
        self.made = self.log.head(self.log_id)
        """The last segment of that log that is known to be of this device, None before the first. What lies beyond, or
        in its place, was made by a copy of this device."""
        self.membership = membership
        self.over = ""
        """Why this device cannot go on in its log; empty if it can."""
        self.objection = self._objection()
        """Why this device may not write; empty if it may. Asked at every change, so it is kept."""

    def adopt(self, membership: Membership) -> None:
        """New statements are here."""
        self.membership = membership
        self.objection = self._objection()

    def log_is_over(self, why: str) -> None:
        """This device cannot go on in its log, or, empty, it can."""
        self.over = why
        self.objection = self._objection()

    def begin_log(self, log_id: bytes) -> None:
        """Write another log from now on, 16 bytes; nothing is in it yet."""
        self.log_id, self.made = log_id, None
        self.log_is_over("")

    @property
    def vault(self) -> bytes:
        """V, 32 bytes."""
        return self.membership.vault

    @property
    def keyring(self) -> Keyring:
        return self.membership.keyring

    @property
    def sign_seed(self) -> bytes:
        return self.membership.sign_seed

    @property
    def log(self) -> LogState:
        """How far this device's own log goes."""
        return self.logs.state(self.log_id)

    def log_grew(
        self, head: LogHead, stamp: int, mheads: tuple[bytes, ...], vec: tuple[LogHead, ...], told: Told
    ) -> None:
        """This device made a segment, and its replica has it. As `Logs.advance`."""
        self.logs.advance(head, stamp, mheads, vec, told, prev=self.log.digest)
        self.log.taken, self.made = self.log.next_seq, head
        self.logs.save()

    def own_end(self) -> LogState:
        """How far this device itself has written its log, whatever a copy of it has added since."""
        made = self.made
        if not self.over or made is None:
            return LogState() if self.over else self.log
        # The folder may not show what this device wrote; then only where it stood is known.
        return self.logs.state_after(made.log, made.seq, made.digest) or LogState(made.seq + 1, made.digest)

    @property
    def copied(self) -> bool:
        """Whether a copy of this device has written into its log."""
        made = self.made
        if self.log_id in self.logs.forked() or self.log.next_seq > (0 if made is None else made.seq + 1):
            return True
        return made is not None and self.logs.digest_at(made.log, made.seq) not in {None, made.digest}

    @property
    def label(self) -> str:
        """What others call this device in the names of conflicted copies."""
        return self.membership.name_of(self.entry)

    @property
    def role(self) -> Tier | None:
        """Role in the roster now; None once removed."""
        here = self.membership.resolved.roster.get(self.entry)
        return here.role if here is not None else None

    def _objection(self) -> str:
        if self.membership.needs_update:
            return "An administrator uses a newer cryptfs: please update. Nothing is written until then."
        role, now = self.role, self.membership.entry
        if role is None and now is not None:
            return f"This device is now a {now.role.name.lower()}: unmount the vault and mount it again to go on."
        if role is None:
            by = [self.membership.name_of(author) for author in self.membership.removed_by]
            return f"This device was removed by {' and '.join(by) or 'an administrator'}; nothing more is written."
        if role < Tier.WRITER:
            return "This device is a reader: it may not change anything."
        return f"{self.over} {MOUNT_ANEW}" if self.over else ""

    def check_may_send(self) -> None:
        """Raise NotAllowed if a segment that was sealed before must not be sent: it has lost its place in the log."""
        if self.over:
            raise NotAllowed(self.over, MOUNT_ANEW)

    def check_may_seal(self) -> None:
        """Raise NotAllowed if a segment by this device would not count, or must not be made now."""
        if self.objection:
            raise NotAllowed(self.objection, "Unsent changes are kept on this machine.")

    def check_may_rekey(self) -> None:
        """Raise NotAllowed unless this device is an admin or owner: from others no segment with a rekey counts."""
        role = self.role
        if role is None or role < Tier.ADMIN:
            raise NotAllowed("Only admins and owners can do this.", "`cryptfs-admin members` shows who can.")

    @property
    def alone(self) -> bool:
        """Whether nobody else can write: then nothing can ever come before what is here."""
        others = {log for log in self.logs.ids() if log != self.log_id}
        writers = [entry for entry, one in self.membership.resolved.roster.items() if one.role >= Tier.WRITER]
        return not others and writers == [self.entry]

    def mheads(self) -> tuple[bytes, ...]:
        """The membership frontier that the next segment cites."""
        return self.membership.frontier(self.logs.carried())

    def vec(self) -> tuple[LogHead, ...]:
        """Heads of other logs that moved since this device's last segment."""
        return self.logs.news_for(self.log_id)

    def next_stamp(self, vec: tuple[LogHead, ...]) -> int:
        """L of the next segment with this vector."""
        return self.logs.stamp_after(self.log_id, vec)
