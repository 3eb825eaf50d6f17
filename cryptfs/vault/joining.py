"""A new device comes in: it asks, waits, and checks what it is shown first (docs/membership.md, "Letting somebody in").

    new keys -> request into `j/` -> an administrator's `add` appears -> first opening: the token's frontier and anchor
    must be there, else the store shows less than the inviter had seen

The token is kept beside the keys, sealed, until the first opening has passed that check.
"""

from typing import Final

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import local_key
from cryptfs.errors import HostileStore, NeedsUpdate, NotFound, NotLetIn
from cryptfs.format.codec import FMT, Wire, check_fmt
from cryptfs.format.join import Token, decode_token, encode_token
from cryptfs.format.statement import Add, Anchor, Device
from cryptfs.group.invitation import ask, check_first_view, device_words
from cryptfs.group.membership import Membership, open_membership
from cryptfs.vault.administration import publish
from cryptfs.vault.checkpoints import covered
from cryptfs.vault.folder import membership_objects
from cryptfs.vault.home import VaultHome
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.sealedfile import SealedFile
from cryptfs.vault.upload import Sender

__all__ = ["Joining", "look", "words_of"]

_MAGIC: Final = b"CFSJOIN1"
_FILE: Final = "joining.cfs"


class _Kept(Wire, frozen=True):
    fmt: int
    token: str
    display: str
    label: str
    name: str  # of the request in the store, empty if none was needed
    request: bytes


async def look(sender: Sender, keys: DeviceKeys) -> Membership:
    """What the store of a vault shows to the owner of `keys`, who may not be in yet.

    Raises StoreError, HostileStore if it is another vault, NeedsUpdate.
    """
    return open_membership(await membership_objects(sender), keys.vault, keys)


def words_of(keys: DeviceKeys, label: str = "") -> tuple[str, ...]:
    """The nine words of this device, to read out. Raises Refused if it has no signing key yet."""
    return device_words(keys.vault, Device(keys.cert_der, keys.sign_public, b"", label))


class Joining:
    """One device that wants to come in; `joining.cfs` beside its keys remembers how far it is."""

    def __init__(self, home: VaultHome, keys: DeviceKeys) -> None:
        """Raises Damaged for a file that this device did not write, LocalDisk."""
        self._keys = keys
        key = local_key(keys.local_secret, "joining")
        self._file = SealedFile(home.data_dir / _FILE, _MAGIC, "joining", key, keys.vault)
        self._kept = self._file.read(_Kept)
        if self._kept is not None:
            check_fmt(self._kept.fmt)

    @property
    def token(self) -> Token | None:
        """The token it came with, until the first opening."""
        return decode_token(self._kept.token) if self._kept is not None else None

    def prepare(self, token: Token, display: str, label: str, now_ms: int) -> None:
        """Make the request and remember it, so that a second attempt posts the same bytes and raises no alarm.

        A device without a signing key was let in by its certificate: it asks for nothing.
        """
        name, request = "", b""
        if self._keys.sign_seed:
            name, request = ask(
                token, display=display, label=label, cert=self._keys.cert_der, sign_seed=self._keys.sign_seed,
                now_ms=now_ms,
            )  # fmt: skip
        self._kept = _Kept(FMT, encode_token(token), display, label, name, request)
        self._file.write(self._kept)

    async def post(self, sender: Sender) -> None:
        """Put the request into the store. Raises StoreGone."""
        if self._kept is not None and self._kept.request:
            await publish(sender, [(self._kept.name, self._kept.request)])

    async def check(self, sender: Sender, membership: Membership) -> None:
        """What the first opening demands; afterwards nothing of the joining is left. Nothing to do for who is in long.

        Raises HostileStore if the store shows less than the inviter had seen, NotLetIn while nobody has approved.
        """
        token = self.token
        if token is None:
            return
        if membership.removed_by:
            who = " and ".join(sorted(membership.name_of(one) for one in membership.removed_by))
            raise NotLetIn(f"This device was let in, and removed again by {who}.", "Ask for a new invitation.")
        if membership.entry is None:
            raise NotLetIn("The request of this device waits for an administrator.", "Ask for it to be approved.")
        op = membership.graph.node(membership.entry.id).statement.payload.op
        as_of = op.as_of if isinstance(op, Add) else None
        objects = LogObjects(membership.vault, sender)
        anchors = {one for one in (token.as_of, as_of) if one is not None}
        present = {one: await _is_there(objects, one) for one in anchors}
        if not all(present.values()):  # tidied away, perhaps: then a checkpoint has it
            covers = await covered(sender, objects, membership)
            present = {one: found or covers.get(one.log, -1) >= one.seq for one, found in present.items()}
        check_first_view(token, membership, present.__getitem__, as_of)
        if self._kept is not None and self._kept.name:
            await sender.delete_quietly(self._kept.name)
        self._file.remove()
        self._kept = None


async def _is_there(objects: LogObjects, anchor: Anchor) -> bool:
    """Whether the segment lies in the store; that its log leads to it is checked when the log is read."""
    try:
        await objects.find(anchor.log, anchor.seq, anchor.digest)
    except (NotFound, HostileStore, NeedsUpdate):
        return False
    return True
