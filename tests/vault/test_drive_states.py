"""What `status` calls Google Drive in each trouble, that it is over when the trouble is, and that nothing is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from cryptfs.faults import Faults
from cryptfs.store import Call
from cryptfs.vault.upload import Sender
from tests.drive_emulator import Emulator, Stall, refusal
from tests.drive_store import access, drive_store
from tests.patience import until_async

ANNA = "anna@example.org"


class Drive:
    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        emulator.user(ANNA)
        self.vault = emulator.folder(ANNA, "vault")
        self.items = dict(emulator.world.items)

    def refuse(self, reason: str, call: str, status: int = 403) -> None:
        self.emulator.fail(refusal(status, reason), call, times=None)

    def cure(self) -> None:
        self.emulator.heal()
        self.emulator.world.users[ANNA].storage = None
        self.emulator.world.items.update(self.items)


TROUBLES: dict[str, Callable[[Drive], object]] = {
    "full": lambda drive: setattr(drive.emulator.world.users[ANNA], "storage", 1),
    "daily limit": lambda drive: drive.refuse("dailyLimitExceeded", "files.create"),
    "api not enabled": lambda drive: drive.refuse("accessNotConfigured", "files.*"),
    "denied": lambda drive: drive.refuse("insufficientFilePermissions", "files.create"),
    "folder gone": lambda drive: drive.emulator.vanish(drive.vault),
    "unreachable": lambda drive: drive.refuse("backendError", "files.*", 503),
    "failing": lambda drive: drive.refuse("teamDriveFileLimitExceeded", "files.create"),
    "login needed": lambda drive: drive.emulator.revoke(ANNA),
}


@pytest.mark.parametrize("state", TROUBLES)
async def test_each_trouble_has_its_word_and_its_advice_until_it_is_over(state: str, tmp_path: Path) -> None:
    with Emulator() as emulator:
        drive = Drive(emulator)
        logins = [access(emulator, ANNA)]
        store = drive_store(emulator, ANNA, drive.vault, tmp_path / "t.db", reload=lambda: logins[-1])
        sender = Sender(store, Faults())
        TROUBLES[state](drive)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.put_until_confirmed, "l/aa", b"segment")
            await until_async(lambda: sender.state.state != "ok")
            assert sender.state.state == state
            assert len(sender.state.message) > 20
            assert len(sender.state.advice) > 20
            assert sender.state.full == (state == "full")
            if state in ("full", "denied", "failing"):  # reading goes on, which does not mean that writing does
                assert await sender.list("l/") == []
                assert sender.state.state == state
            drive.cure()
            logins.append(access(emulator, ANNA))  # somebody logs in again
            await until_async(lambda: sender.try_now() or (emulator.named("aa") != [] and sender.state.state == "ok"))
        assert [item.blob.data for item in emulator.named("aa") if item.blob] == [b"segment"]
        store.close()


async def test_a_call_whose_caller_is_gone_gives_its_place_back_at_once(tmp_path: Path) -> None:
    with Emulator() as emulator:
        drive = Drive(emulator)
        store = drive_store(emulator, ANNA, drive.vault)
        store.put("p/aa", b"pack", Call())
        sender = Sender(store, Faults())
        for _ in range(3):
            rules = [emulator.fail(Stall(60), "files.get_media") for _ in range(8)]
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(sender.get, "p/aa")
                await trio.to_thread.run_sync(lambda rules=rules: [rule.struck.wait(10) for rule in rules])
                nursery.cancel_scope.cancel()
            await until_async(lambda: sender._reads.borrowed_tokens == 0)
        emulator.heal()
        assert await sender.get("p/aa") == b"pack"
        assert sender.state.state == "ok"
        sender.give_up()
        store.close()
