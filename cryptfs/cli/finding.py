"""One answer of `cryptfs doctor`."""

from typing import Literal, NamedTuple

__all__ = ["Finding", "Verdict"]

Verdict = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """`advice` is empty when all is well."""

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""
