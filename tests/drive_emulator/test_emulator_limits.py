"""Too fast, too much: writes a second, quota units, uploads a day, full folders and full accounts."""

import json

import pytest

from tests.drive_emulator import Emulator, VirtualClock
from tests.drive_emulator.conftest import ANNA, BEN
from tests.drive_emulator.real_client import GoogleClient, refused_with


def test_writes_come_from_a_bucket_an_account(
    emulator: Emulator, clock: VirtualClock, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    emulator.settings.limits.writes_per_second = 3
    emulator.settings.limits.write_burst = 5
    for number in range(5):
        anna.create(folder, str(number), b"")
    refused_with(403, "userRateLimitExceeded", lambda: anna.create(folder, "x", b""))
    ben.create(folder, "b", b"")  # another account has its own
    assert anna.names("name = 'b'") == ["b"]  # reading is free
    clock.advance(1)
    made = [anna.create(folder, "y", b"")["id"] for _ in range(2)]
    anna.delete(made[0])
    refused_with(403, "userRateLimitExceeded", lambda: anna.delete(made[1]))


@pytest.mark.parametrize(("refusal", "status"), [("403", 403), ("429", 429)])
@pytest.mark.parametrize("new_shape", [False, True])
def test_refusals_in_both_shapes_with_and_without_a_time_to_wait(
    emulator: Emulator, anna: GoogleClient, folder: str, refusal: str, status: int, *, new_shape: bool
) -> None:
    limits = emulator.settings.limits
    limits.writes_per_second, limits.write_burst, limits.write_refusal = 0.001, 1, refusal
    limits.new_error_shape, limits.retry_after = new_shape, 7 if new_shape else None
    anna.create(folder, "a", b"")
    error = refused_with(status, "", lambda: anna.create(folder, "b", b""))
    body = json.loads(error.content)["error"]
    if new_shape:
        assert "errors" not in body
        assert body["details"][0]["reason"] in ("USER_RATE_LIMIT_EXCEEDED", "RATE_LIMIT_EXCEEDED")
        assert error.resp["retry-after"] == "7"
    else:
        assert body["errors"][0]["domain"] == "usageLimits"
        assert "retry-after" not in error.resp


def test_units_a_minute_and_user(
    emulator: Emulator, clock: VirtualClock, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    made = emulator.file(ANNA, "a", b"x", folder)
    emulator.settings.limits.user_units_per_minute = 1000
    for _ in range(5):
        anna.read(made)
    refused_with(403, "userRateLimitExceeded", lambda: anna.read(made))
    ben.read(made)
    clock.advance(60)
    anna.read(made)
    assert emulator.service.gate.units[ANNA] == 6 * 200


def test_units_a_minute_and_project(emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str) -> None:
    emulator.settings.limits.project_units_per_minute = 300
    anna.names("")
    ben.names("")
    anna.names("")
    refused_with(403, "rateLimitExceeded", lambda: ben.names(""))


def test_units_a_day(emulator: Emulator, clock: VirtualClock, anna: GoogleClient) -> None:
    emulator.settings.limits.project_units_per_day = 12
    anna.mint(1)
    anna.mint(1)
    refused_with(403, "dailyLimitExceeded", lambda: anna.mint(1))
    clock.advance(86_400)
    anna.mint(1)


@pytest.mark.parametrize(
    ("call", "units"), [("names", 100), ("mint", 5), ("get", 5), ("create", 50), ("changes", 105), ("read", 200)]
)
def test_what_a_call_costs(emulator: Emulator, anna: GoogleClient, folder: str, call: str, units: int) -> None:
    made = emulator.file(ANNA, "a", b"x", folder)
    {
        "names": lambda: anna.names(""),
        "mint": lambda: anna.mint(1000),
        "get": lambda: anna.get(made),
        "create": lambda: anna.create(folder, "b", b"x"),
        "changes": lambda: anna.changes(anna.feed_end()),
        "read": lambda: anna.read(made),
    }[call]()
    assert emulator.service.gate.units[ANNA] == units


def test_uploads_a_day(emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str) -> None:
    emulator.settings.limits.upload_bytes_per_day = 1000
    anna.create(folder, "a", bytes(900))
    refused_with(403, "userRateLimitExceeded", lambda: anna.create(folder, "b", bytes(200)))
    clock.advance(86_401)
    anna.create(folder, "b", bytes(200))


def test_a_folder_holds_so_many(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    emulator.settings.limits.children = 2
    anna.create(folder, "a", b"")
    anna.create(folder, "b", b"")
    refused_with(403, "numChildrenInNonRootLimitExceeded", lambda: anna.create(folder, "c", b""))


def test_an_account_holds_so_much_the_trash_included(emulator: Emulator, ben: GoogleClient, folder: str) -> None:
    emulator.world.users[BEN].storage = 1000
    made = ben.create(folder, "b", bytes(900))["id"]
    ben.update(made, {"trashed": True})
    refused_with(403, "storageQuotaExceeded", lambda: ben.create(folder, "c", bytes(200)))
    ben.delete(made)
    ben.create(folder, "c", bytes(200))


def test_delays_are_counted(emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str) -> None:
    emulator.settings.network.latency = 0.25
    emulator.settings.network.create_latency = 1.0
    emulator.settings.network.down_mbit = 8.0
    began = clock.now()
    made = anna.create(folder, "a", bytes(500_000))["id"]
    written = clock.now() - began
    anna.read(made)
    read = clock.now() - began - written
    assert written == pytest.approx(1.25, abs=0.01)
    assert read == pytest.approx(0.75, abs=0.01)  # 0.5 MB at 1 MB a second
