"""Asks a PKCS#11 token: the one door to smart cards; the library behind it is optional (`pip install cryptfs[pkcs11]`).

The private key of the certificate stays on the token. A wrap costs one operation there, ECDH or RSA-OAEP; what came of
it is remembered while the process lives, since the membership is read anew at each change of the group. A card that was
pulled out and put back is opened again with the PIN that opened it before. Few tokens do RSA-OAEP with SHA-256, so the
first opening tries out what will be needed.
"""

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cryptfs.crypto.certificate import public_key_of
from cryptfs.crypto.held import HeldKey
from cryptfs.crypto.keys import random_bytes
from cryptfs.crypto.wrap import ALG_RSA_OAEP, SECRET_LEN, unwrap_held, wrap
from cryptfs.errors import AuthError, ConfigError, NotAllowed, UsageError, WrongPassphrase
from cryptfs.vault.tokenuri import TokenUri

if TYPE_CHECKING:
    import pkcs11

__all__ = ["TokenKey", "open_token_key"]

log = logging.getLogger(__name__)

_ANY_MODULE: Final = "p11-kit-proxy.so"
"""What speaks to every token that the system knows, where p11-kit is installed."""
_REMEMBERED: Final = 4096
_PROBE: Final = b"cryptfs/v1 probe"
_GONE_ADVICE: Final = "Insert the card or token, and try again."


def open_token_key(where: TokenUri, cert_der: bytes, pin: bytes) -> "TokenKey":
    """The key of a certificate on its token, tried out. `pin` as typed, UTF-8.

    Raises ConfigError if library, module or token are not there, WrongPassphrase for a wrong PIN, NotAllowed for a
    locked one, UsageError if there is no such key or it does not do what is needed.
    """
    key = TokenKey(where, pin)
    public_key, secret = public_key_of(cert_der), random_bytes(SECRET_LEN)
    alg, blob = wrap(public_key, secret, _PROBE)
    try:
        fits = unwrap_held(key, public_key, alg, blob, _PROBE) == secret
    except AuthError:
        fits = False
    if not fits:
        needed = "RSA-OAEP with SHA-256" if alg == ALG_RSA_OAEP else "ECDH"
        raise UsageError(
            f"The key on the token is not the certificate's, or the token does not do {needed} with it.",
            "Most tokens do ECDH: use a certificate for a key on P-256, P-384 or P-521." * (alg == ALG_RSA_OAEP)
            or "Name the key by its id, and see that it may be used for key agreement (derive).",
        )
    return key


class TokenKey(HeldKey):
    """One private key on one token, for the life of this process. Not for several threads at once."""

    def __init__(self, where: TokenUri, pin: bytes) -> None:
        """Opens it. Errors as `open_token_key`."""
        self._where = where
        self._pin = pin
        self._known: dict[tuple[bytes, bytes], bytes] = {}
        self._session: pkcs11.Session | None = None
        self._key = self._open()

    def exchange(self, point: bytes) -> bytes:
        field_len = (len(point) - 1) // 2

        def derive() -> bytes:
            from pkcs11 import Attribute, KeyType, Mechanism  # noqa: PLC0415  # optional
            from pkcs11.mechanisms import KDF  # noqa: PLC0415

            shared = self._key.derive_key(  # type: ignore[attr-defined]  # a key that may derive has it
                KeyType.GENERIC_SECRET,
                field_len * 8,
                mechanism=Mechanism.ECDH1_DERIVE,
                mechanism_param=(KDF.NULL, None, point),
                template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True, Attribute.TOKEN: False},
            )
            return bytes(shared[Attribute.VALUE]).rjust(field_len, b"\0")

        return self._ask((point, b""), derive)

    def decrypt_oaep(self, blob: bytes, label: bytes) -> bytes:
        def decrypt() -> bytes:
            from pkcs11 import MGF, Mechanism  # noqa: PLC0415

            parameters = (Mechanism.SHA256, MGF.SHA256, label)
            plain = self._key.decrypt(  # type: ignore[attr-defined]  # a key that may decrypt has it
                blob, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=parameters
            )
            return bytes(plain)

        return self._ask((blob, label), decrypt)

    def _ask(self, question: tuple[bytes, bytes], ask: Callable[[], bytes]) -> bytes:
        """The answer, from memory or from the token. Raises ValueError where the question was at fault."""
        from pkcs11 import PKCS11Error  # noqa: PLC0415

        if question in self._known:
            return self._known[question]
        try:
            answer = ask()
        except AttributeError as err:  # the token says that its key is for something else
            raise ValueError("the token's key does not do that") from err
        except PKCS11Error as err:
            if type(err).__name__ not in _GONE:
                raise ValueError("the token refuses") from err
            log.info("the token is opened again: %s", type(err).__name__)
            self._key = self._open()
            try:
                answer = ask()
            except PKCS11Error as again:
                raise _gone(again) from again
        if len(self._known) < _REMEMBERED:
            self._known[question] = answer
        return answer

    def _open(self) -> "pkcs11.PrivateKey":
        try:
            import pkcs11  # noqa: PLC0415
        except ImportError as err:
            raise ConfigError(
                "The library for smart cards and tokens is not installed.", "pip install 'cryptfs[pkcs11]'"
            ) from err
        from pkcs11 import Attribute, ObjectClass  # noqa: PLC0415

        where = self._where
        try:
            library = pkcs11.lib(where.module or _ANY_MODULE)
            tokens = [one for one in library.get_tokens() if _fits(one, where)]
            if len(tokens) != 1:
                raise ConfigError(_count(len(tokens), "token"), f"{_GONE_ADVICE} token= or serial= tell several apart.")
            self._close()
            self._session = self._log_in(tokens[0])
            wanted: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
            wanted |= {Attribute.LABEL: where.object} if where.object else {}
            wanted |= {Attribute.ID: where.id} if where.id else {}
            keys = list(self._session.get_objects(wanted))
        except pkcs11.PinIncorrect as err:
            raise WrongPassphrase("The PIN is wrong.", "Try again; after a few wrong ones the token locks.") from err
        except (pkcs11.PinLocked, pkcs11.PinExpired) as err:
            raise NotAllowed("The PIN of the token is locked.", "Unlock it with the token's own tools.") from err
        except (pkcs11.PKCS11Error, UnicodeDecodeError) as err:
            raise _gone(err) from err
        if len(keys) != 1:
            raise UsageError(_count(len(keys), "private key"), "Say which: object=LABEL;id=%01 in the PKCS#11 URI.")
        if not isinstance(keys[0], pkcs11.PrivateKey):
            raise UsageError("What the PKCS#11 URI names is no private key.", "Say which: object=LABEL;id=%01.")
        return keys[0]

    def _log_in(self, token: "pkcs11.Token") -> "pkcs11.Session":
        from pkcs11 import UserAlreadyLoggedIn  # noqa: PLC0415

        try:
            return token.open(user_pin=self._pin.decode())
        except UserAlreadyLoggedIn:  # this process has another key of that token open
            return token.open()

    def _close(self) -> None:
        """Give up the session before; it is of no use any more, whatever the token says to that."""
        from pkcs11 import PKCS11Error  # noqa: PLC0415

        if self._session is not None:
            with contextlib.suppress(PKCS11Error):
                self._session.close()
        self._session = None


_GONE: Final = frozenset({
    "CryptokiNotInitialized", "DeviceError", "DeviceRemoved", "KeyHandleInvalid", "ObjectHandleInvalid",
    "OperationNotInitialized", "SessionClosed", "SessionHandleInvalid", "TokenNotPresent", "UserNotLoggedIn",
})  # fmt: skip
"""Errors of the library, by name, that say the token is not open any more. All others may be the fault of a wrap."""


def _fits(token: "pkcs11.Token", where: TokenUri) -> bool:
    said = (
        (where.token, token.label),
        (where.serial, token.serial.decode(errors="replace").strip()),
        (where.manufacturer, token.manufacturer_id),
        (where.model, token.model),
    )
    return all(wanted in {"", found} for wanted, found in said)


def _count(number: int, what: str) -> str:
    return f"The PKCS#11 URI fits no {what}." if not number else f"The PKCS#11 URI fits {number} {what}s."


def _gone(err: Exception) -> ConfigError:
    return ConfigError(f"The token cannot be used: {str(err) or type(err).__name__}.", _GONE_ADVICE)
