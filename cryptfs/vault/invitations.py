"""Open invitations of this device, and requests it turned down: one small sealed file, `invitations.cfs`.

They are kept beside the key file and not in it, so that the process of a mount, which has no passphrase, can make and
use invitations too. The key of the file comes from the key file all the same.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from cryptfs.crypto.keyfile import Invitation
from cryptfs.errors import Damaged
from cryptfs.format.codec import FMT, Wire, check_fmt
from cryptfs.group.membership import Membership
from cryptfs.vault.home import VaultHome
from cryptfs.vault.sealedfile import SealedFile

__all__ = ["InvitationBook", "OpenInvitation"]

_MAGIC: Final = b"CFSINVT1"
_REMEMBERED_MS: Final = 30 * 86_400_000
"""How long after its expiry an invitation is remembered: a late request under it must be called late, not unknown."""
_DENIED_MAX: Final = 1000


class OpenInvitation(Wire, frozen=True):
    """What the token does not say: `name` the administrator has for the newcomer, or empty.

    `member` 16 bytes if the invitation is for one more device of somebody who is in, else empty.
    """

    invite_id: bytes
    secret: bytes
    role: int
    expires_ms: int
    name: str
    member: bytes

    @property
    def record(self) -> Invitation:
        """The part that `group/invitation.py` needs. Raises Damaged out of range."""
        return Invitation(self.invite_id, self.secret, self.role, self.expires_ms)

    def __repr__(self) -> str:
        return f"OpenInvitation({self.invite_id.hex()[:8]}, {self.role})"


class _Page(Wire, frozen=True):
    fmt: int
    invitations: tuple[OpenInvitation, ...]
    denied: tuple[bytes, ...]


class InvitationBook:
    """The file of one vault. Every change is durable when the method returns; all raise LocalDisk."""

    def __init__(self, home: VaultHome, membership: Membership) -> None:
        """Read it. Raises Damaged, AuthError or NeedsUpdate for a file that is not what this device wrote."""
        key = membership.local_key("invitations")
        self._file = SealedFile(home.data_dir / "invitations.cfs", _MAGIC, "invitations", key, membership.vault)
        self._page = self._file.read(_Page) or _Page(FMT, (), ())
        check_fmt(self._page.fmt)
        if any(len(one) != 32 for one in self._page.denied):
            raise Damaged("invitations.cfs is out of range")

    @property
    def open(self) -> Sequence[OpenInvitation]:
        """Invitations that are remembered, the oldest first; expired ones too."""
        return self._page.invitations

    @property
    def denied(self) -> frozenset[bytes]:
        """Digests of requests that were turned down."""
        return frozenset(self._page.denied)

    def find(self, invite_id: bytes) -> OpenInvitation | None:
        """The invitation of this id."""
        return next((one for one in self._page.invitations if one.invite_id == invite_id), None)

    def add(self, one: OpenInvitation, now_ms: int) -> None:
        """Remember an invitation, and forget what expired long ago."""
        kept = [old for old in self._page.invitations if old.expires_ms + _REMEMBERED_MS > now_ms]
        self._write(msgspec.structs.replace(self._page, invitations=(*kept, one)))

    def withdraw(self, invite_id: bytes) -> None:
        """Forget an invitation: a request under it is then one without."""
        kept = tuple(one for one in self._page.invitations if one.invite_id != invite_id)
        self._write(msgspec.structs.replace(self._page, invitations=kept))

    def deny(self, digest: bytes) -> None:
        """Remember that the request with this digest was turned down."""
        if digest not in self._page.denied:
            self._write(msgspec.structs.replace(self._page, denied=(*self._page.denied, digest)[-_DENIED_MAX:]))

    def _write(self, page: _Page) -> None:
        self._file.write(page)
        self._page = page
