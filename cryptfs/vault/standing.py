"""Who this device is in the group, and where its log stands: what a new segment has to say about itself."""

from cryptfs.errors import NotAllowed
from cryptfs.format.names import first_log_id
from cryptfs.format.segment_body import LogHead
from cryptfs.group.authority import Tier
from cryptfs.group.keyring import Keyring
from cryptfs.group.membership import Membership
from cryptfs.vault.logs import Logs, LogState
from cryptfs.vault.news import News

__all__ = ["Standing"]


class Standing:
    """One device in one vault. `membership` is replaced when statements arrive; the log stays the same."""

    def __init__(self, membership: Membership, logs: Logs, entry: bytes, news: News) -> None:
        self.logs = logs
        self.news = news
        self.entry = entry
        """Id of the entry that this device acts under, 32 bytes; it may have been removed by now."""
        self.membership = membership
        self.objection = self._objection()
        """Why this device may not write; empty if it may. Asked at every change, so it is kept."""

    def adopt(self, membership: Membership) -> None:
        """New statements are here."""
        self.membership = membership
        self.objection = self._objection()

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
    def log_id(self) -> bytes:
        """This device's log, 16 bytes."""
        return first_log_id(self.entry)

    @property
    def log(self) -> LogState:
        """How far this device's own log goes."""
        return self.logs.state(self.log_id)

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
        role = self.role
        if role is None:
            by = [self.membership.name_of(author) for author in self.membership.removed_by]
            return f"This device was removed by {' and '.join(by) or 'an administrator'}; nothing more is written."
        if role < Tier.WRITER:
            return "This device is a reader: it may not change anything."
        return ""

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
