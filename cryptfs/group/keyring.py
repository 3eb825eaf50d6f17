"""The keys this device holds: epoch secrets, the keys derived from them, and the file keys they open.

    epoch secrets -> W(KS) -> K_fk, K_meta, K_pack, K_log of that key set -> file keys        (docs/format.md)

A keyring never changes: new statements or wraps make a new one (`membership.open_membership`). What it derives it
keeps, so asking for a key again costs a look-up. Epoch secrets enter only after they were checked against the commit.
"""

from collections.abc import Iterable, Mapping

from cryptfs.crypto.keys import (
    EID_LEN,
    KEY_SET_MAX,
    EpochSecret,
    FileKey,
    KeyLabel,
    PurposeKey,
    WriteSecret,
    derive,
    file_key_ctx,
    key_set,
    write_secret,
)
from cryptfs.crypto.seal import open_sealed, seal
from cryptfs.errors import Invalid, NotAllowed
from cryptfs.format.content import FileKeyBox

__all__ = ["Keyring", "split_key_set"]

_WAIT_FOR_KEY = "Waiting for a key from an administrator's device."


def split_key_set(ks: bytes) -> list[bytes]:
    """The epoch ids (16 bytes each) of `ks`. Raises Invalid unless they are 1 to 16, ascending and distinct."""
    eids = [ks[at : at + EID_LEN] for at in range(0, len(ks), EID_LEN)]
    if not 1 <= len(eids) <= KEY_SET_MAX or len(ks) % EID_LEN or eids != sorted(set(eids)):
        raise Invalid("a key set is not 1 to 16 ascending epoch ids")
    return eids


class Keyring:
    """Epoch secrets of one vault by epoch id, and everything derived from them. Secrets never show in `repr`.

    `current` are the ids of the maximal valid epochs, which new data must be sealed under; `closed` says why nothing
    may be sealed although the secrets are here (the key gate of docs/membership.md), or is empty.
    """

    def __init__(
        self, vault: bytes, secrets: Mapping[bytes, EpochSecret], current: Iterable[bytes] = (), closed: str = ""
    ) -> None:
        self.vault = vault
        self.closed = closed
        self._secrets = dict(secrets)
        self._current = tuple(sorted(set(current)))
        self._write: dict[bytes, WriteSecret] = {}
        self._keys: dict[tuple[KeyLabel, bytes], PurposeKey] = {}
        complete = 1 <= len(self._current) <= KEY_SET_MAX and not self.missing
        self._write_keyset = key_set(self._current) if complete and not closed else b""

    def __repr__(self) -> str:
        return f"Keyring({len(self._secrets)} epochs)"

    @property
    def eids(self) -> frozenset[bytes]:
        """Ids of the epochs whose secret is here."""
        return frozenset(self._secrets)

    @property
    def missing(self) -> tuple[bytes, ...]:
        """Current epochs whose secret is not here."""
        return tuple(one for one in self._current if one not in self._secrets)

    @property
    def may_seal(self) -> bool:
        """Whether `write_keyset` gives an answer."""
        return bool(self._write_keyset)

    @property
    def write_keyset(self) -> bytes:
        """KS under which new data are sealed: all current epochs.

        Raises NotAllowed while the key gate is closed, a secret is missing, or more epochs are current than a key set
        holds; work goes on locally meanwhile.
        """
        if self._write_keyset:
            return self._write_keyset
        if self.closed:
            raise NotAllowed(self.closed, "Changes are kept here and sent afterwards.")
        if len(self._current) > KEY_SET_MAX:
            raise NotAllowed("Too many key changes were made at once.", "An administrator runs `cryptfs-admin rotate`.")
        raise NotAllowed(_WAIT_FOR_KEY, "Changes are kept here and sent afterwards.")

    def secret(self, eid: bytes) -> EpochSecret:
        """ES of the epoch `eid` (16 bytes). Raises NotAllowed if it is not here."""
        try:
            return self._secrets[eid]
        except KeyError:
            raise NotAllowed(_WAIT_FOR_KEY) from None

    def secrets(self) -> dict[bytes, EpochSecret]:
        """All epoch secrets by id, for handing them on to those who may hold them."""
        return dict(self._secrets)

    def opens(self, ks: bytes) -> bool:
        """Whether every epoch of `ks` is here. Raises Invalid if `ks` is no key set."""
        return all(one in self._secrets for one in split_key_set(ks))

    def w(self, ks: bytes) -> WriteSecret:
        """W(KS). Raises Invalid if `ks` is no key set, NotAllowed if one of its secrets is not here."""
        known = self._write.get(ks)
        if known is None:
            known = write_secret(self.vault, [(one, self.secret(one)) for one in split_key_set(ks)])
            self._write[ks] = known
        return known

    def key(self, label: KeyLabel, ks: bytes) -> PurposeKey:
        """K_x(KS), 32 bytes. Errors as `w`."""
        known = self._keys.get((label, ks))
        if known is None:
            known = derive(self.w(ks), label, self.vault, ks)
            self._keys[label, ks] = known
        return known

    def box_file_key(self, ks: bytes, fid: bytes, fkv: int, fk: FileKey) -> FileKeyBox:
        """Box the file key of version `fkv` of the content `fid` (16 bytes) for everybody who holds `ks`."""
        return FileKeyBox(fkv, ks, seal(self.key(KeyLabel.FK, ks), file_key_ctx(self.vault, ks, fid, fkv), fk))

    def open_file_key(self, box: FileKeyBox, fid: bytes) -> FileKey:
        """The file key in `box`, which must be one of content `fid`.

        Raises AuthError if it is not, Invalid or NotAllowed as `w`.
        """
        ctx = file_key_ctx(self.vault, box.ks, fid, box.fkv)
        plain = open_sealed(self.key(KeyLabel.FK, box.ks), ctx, box.box)
        if len(plain) != 32:
            raise Invalid("a file key box holds something else")
        return FileKey(plain)
