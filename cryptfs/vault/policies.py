"""The settings of a vault in words: every field of the policy that a person sets has a name and a range here."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Final

from cryptfs.crypto.certificate import fingerprint
from cryptfs.errors import UsageError
from cryptfs.format.codec import FMT
from cryptfs.format.statement import Policy

__all__ = ["POLICY_KEYS", "changed_policy", "policy_values"]

_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "trust": ("pinned", "org-ca"),
    "crl": ("off", "warn", "block"),
    "on_stale": ("warn", "stop"),
}
"""Fields whose value is the place of a word."""
_DAYS_MAX: Final = 3650


def policy_values(policy: Policy) -> dict[str, object]:
    """The policy as JSON values; certificates of authorities by fingerprint."""
    return {
        "trust": _WORDS["trust"][policy.trust],
        "cas": [fingerprint(one).hex() for one in policy.cas],
        "eku": policy.eku,
        "crl": _WORDS["crl"][policy.crl],
        "roster_age_days": policy.roster_age_days,
        "on_stale": _WORDS["on_stale"][policy.on_stale],
        "min_format": policy.min_format,
    }


def changed_policy(policy: Policy, key: str, value: str) -> dict[str, object]:
    """The fields of `policy` that change when `key` is set to `value`. Raises UsageError."""
    setter = _SETTERS.get(key)
    if setter is None:
        raise UsageError(f"There is no setting '{key}'.", f"Settings are {', '.join(POLICY_KEYS)}.")
    changes = setter(policy, key, value)
    if changes.get("trust") == 1 and not policy.cas:
        raise UsageError("Nobody could be let in: no certificate authority is named.", "Set `ca` first.")
    return changes


def _word(_: Policy, key: str, value: str) -> dict[str, object]:
    if value not in _WORDS[key]:
        raise UsageError(f"'{value}' is no value of {key}.", f"Choose one of {', '.join(_WORDS[key])}.")
    return {key: _WORDS[key].index(value)}


def _days(_: Policy, key: str, value: str) -> dict[str, object]:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= _DAYS_MAX:
        raise UsageError(f"'{value}' is no number of days.", f"Give 1 to {_DAYS_MAX}.")
    return {key: int(value)}


def _format(policy: Policy, key: str, value: str) -> dict[str, object]:
    if value != str(FMT) or int(value) < policy.min_format:
        raise UsageError(f"'{value}' is no format of this version.", f"It writes format {FMT}.")
    return {key: int(value)}


def _oid(_: Policy, key: str, value: str) -> dict[str, object]:
    if value and not all(part.isascii() and part.isdigit() for part in value.split(".")):
        raise UsageError(f"'{value}' is no object identifier.", "Write numbers with dots, as 1.3.6.1.5.5.7.3.2.")
    return {key: value}


def _authority(policy: Policy, _: str, value: str) -> dict[str, object]:
    """One more certificate authority, its certificate in base64."""
    try:
        cert = base64.b64decode(value, validate=True)
    except binascii.Error as err:
        raise UsageError("A certificate authority is set by its certificate.") from err
    return {"cas": tuple(sorted({*policy.cas, cert}))}


_SETTERS: Final[Mapping[str, Callable[[Policy, str, str], dict[str, object]]]] = {
    "trust": _word,
    "ca": _authority,
    "eku": _oid,
    "crl": _word,
    "roster_age_days": _days,
    "on_stale": _word,
    "min_format": _format,
}

POLICY_KEYS: Final = tuple(_SETTERS)
