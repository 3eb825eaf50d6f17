"""Two accounts that share a folder, each with Google's own client."""

from collections.abc import Iterator

import pytest

from tests.drive_emulator import Emulator, VirtualClock
from tests.drive_emulator.real_client import GoogleClient

ANNA, BEN, EVE = "anna@example.org", "ben@example.org", "eve@example.org"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def emulator(clock: VirtualClock) -> Iterator[Emulator]:
    with Emulator(clock=clock) as emulator:
        for email in (ANNA, BEN, EVE):
            emulator.user(email)
        yield emulator


@pytest.fixture
def anna(emulator: Emulator) -> Iterator[GoogleClient]:
    with GoogleClient(emulator, ANNA) as client:
        yield client


@pytest.fixture
def ben(emulator: Emulator) -> Iterator[GoogleClient]:
    with GoogleClient(emulator, BEN) as client:
        yield client


@pytest.fixture
def eve(emulator: Emulator) -> Iterator[GoogleClient]:
    with GoogleClient(emulator, EVE) as client:
        yield client


@pytest.fixture
def folder(emulator: Emulator) -> str:
    """Anna's, shared with Ben, who may write, and not with Eve."""
    made = emulator.folder(ANNA, "vault")
    emulator.share(made, BEN, "writer")
    return made
