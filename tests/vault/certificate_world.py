"""A vault whose members have certificates of a company, at a time that the test moves."""

import time
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cryptfs.group.authority import Tier
from tests.crypto.certificate_workshop import NOW, Authority, pkcs8
from tests.vault.administration_world import Device, World


class Clock:
    """The wall clock of every device here; trio's own goes on as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: datetime) -> None:
        self.at = at
        monkeypatch.setattr(time, "time_ns", lambda: int(self.at.timestamp() * 1_000) * 1_000_000)

    def pass_days(self, days: float) -> None:
        self.at += timedelta(days=days)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stands at the time for which `certificate_workshop` makes certificates."""
    return Clock(monkeypatch, NOW)


def issued(ca: Authority, **how: object) -> tuple[bytes, bytes]:
    """(PKCS#8 DER, certificate DER) of a new key, issued by `ca`; `how` as in `Authority.issue`."""
    key = ec.generate_private_key(ec.SECP256R1())
    return pkcs8(key), ca.issue(key.public_key(), **how)  # type: ignore[arg-type]


def with_certificate(device: Device, pair: tuple[bytes, bytes]) -> Device:
    """The device, not yet in, with this key and certificate."""
    device.keys = replace(device.keys, cert_key_pkcs8=pair[0], cert_der=pair[1])
    return device


async def admit(world: World, name: str, role: Tier, pair: tuple[bytes, bytes] | None = None) -> Device:
    """Somebody invited, who asked with this certificate, and was approved."""
    who = world.device(name)
    if pair is not None:
        with_certificate(who, pair)
    await who.ask(await world.invite(role))
    await world.approve(name)
    return who
