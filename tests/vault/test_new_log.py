"""T-clone: a device that was copied, restored or closed goes on in a new log, and nothing anybody wrote is lost."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import NotAllowed
from cryptfs.faults import Faults
from cryptfs.format.names import root_inode
from cryptfs.format.operation import KIND_DIR, Create
from cryptfs.format.segment import build_segment, open_segment, parse_segment
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import cause
from tests.vault.vault_faults import dying, state_of
from tests.vault.vault_workshop import Workshop, make_file, read_file, remove_file, write_file


def copy_of(workshop: Workshop, name: str) -> Workshop:
    """Another machine with a copy of everything this device has."""
    shutil.copytree(workshop.base / "home", workshop.base / name / "home")
    return Workshop(workshop.base / name, workshop.keys, workshop.make_store)


def names(vault: Vault) -> list[bytes]:
    return [name for name, _, _ in vault.replica.entries(1)]


async def begin(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        for turn in range(3):
            await write_file(vault, b"f%d" % turn, b"old" * 100)
            await vault.sync()


@dataclass
class Apart:
    """The folder as two machines see it that are kept from each other: what one sends the other does not get."""

    folder: Path

    def hide(self, before: set[Path]) -> dict[Path, bytes]:
        new = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file() and path not in before}
        for path in new:
            path.unlink()
        return new

    def files(self) -> set[Path]:
        return {path for path in self.folder.rglob("*") if path.is_file()}

    def show(self, hidden: dict[Path, bytes]) -> None:
        for path, data in hidden.items():
            path.write_bytes(data)


async def write_apart(one: Workshop, other: Workshop) -> None:
    """Both write at once, without seeing each other."""
    apart = Apart(one.base / "store")
    before = apart.files()
    async with one.open() as vault:
        await write_file(vault, b"mine", b"1" * 70_000)
        await write_file(vault, b"f0", b"MINE")
        await vault.sync()
        await write_file(vault, b"mine", b"2", offset=5)
        remove_file(vault, b"f2")
        await vault.sync()
    hidden = apart.hide(before)
    async with other.open() as vault:
        await write_file(vault, b"theirs", b"3" * 80_000)
        await write_file(vault, b"f1", b"THEIRS")
        await vault.sync()
    apart.show(hidden)


async def in_the_end(*machines: Workshop) -> list[dict[str, bytes]]:
    """What each machine shows after everybody has been online twice, closed and opened."""
    for _ in range(2):
        for one in machines:
            async with one.open() as vault:
                assert not vault.read_only, vault.standing.objection
                await vault.sync()
    shown = []
    for one in machines:
        async with one.open() as vault:
            assert not vault.pending
            shown.append({name.decode(): await read_file(vault, name) for name in names(vault)})
    return shown


async def test_clone_used_at_the_same_time_both_sides_files_end_up_in_the_tree(workshop: Workshop) -> None:
    await begin(workshop)
    copy = copy_of(workshop, "copy")
    await write_apart(workshop, copy)
    mine, theirs = await in_the_end(workshop, copy)
    assert mine == theirs
    assert mine["mine"] == b"1" * 5 + b"2" + b"1" * 69_994
    assert mine["theirs"] == b"3" * 80_000
    assert mine["f0"] == b"MINE" + (b"old" * 100)[4:]
    assert mine["f1"] == b"THEIRS" + (b"old" * 100)[6:]
    assert "f2" not in mine


async def test_clone_used_apart_a_third_machine_that_sees_it_all_at_once_finds_the_same(workshop: Workshop) -> None:
    await begin(workshop)
    copy, third = copy_of(workshop, "copy"), copy_of(workshop, "third")
    await write_apart(workshop, copy)
    mine, theirs, thirds = await in_the_end(workshop, copy, third)
    assert mine == theirs == thirds
    shutil.rmtree(third.base / "home" / "cache")
    async with workshop.open() as one, third.open() as other:
        await one.exchange.pull()
        assert state_of(one) == state_of(other)


async def test_clone_used_in_turn_each_goes_on_in_its_own_log(workshop: Workshop) -> None:
    await begin(workshop)
    copy = copy_of(workshop, "copy")
    for turn in range(3):
        for one in (workshop, copy):
            async with one.open() as vault:
                await write_file(vault, b"%d of %s" % (turn, one.base.name.encode()), b"x")
                await vault.sync()
    async with workshop.open() as vault:
        await vault.sync()
        assert len(names(vault)) == 3 + 6
        assert len(vault.standing.logs.ids()) == 3  # the first, and one each: not a new one at every turn
        assert not vault.reader.late


async def test_old_backup_restored_goes_on_in_a_new_log_and_loses_nothing(workshop: Workshop) -> None:
    await begin(workshop)
    async with dying(workshop) as vault:
        await write_file(vault, b"unsent in the backup", b"u" * 100)
        await vault.commit()
    backup = copy_of(workshop, "backup")
    async with workshop.open() as vault:
        await write_file(vault, b"later", b"after the backup")
        await vault.sync()
    async with backup.open() as vault:
        await vault.sync()
        assert await read_file(vault, b"later") == b"after the backup"
        assert await read_file(vault, b"unsent in the backup") == b"u" * 100
        assert vault.standing.log.next_seq == 1


async def test_old_backup_whose_unsent_file_was_all_holes_is_sent_again(workshop: Workshop) -> None:
    """Found by the simulation of whole vaults, seed 529: such a file has no key, and had no lineage to be named by."""
    await begin(workshop)
    copy = copy_of(workshop, "copy")
    before = Apart(workshop.base / "store").files()
    async with workshop.open() as vault:
        content = vault.open_file(make_file(vault, b"sparse"))
        await content.truncate(100_000, 1)
        vault.release_file(content)
        await vault.sync()
    hidden = Apart(workshop.base / "store").hide(before)
    async with copy.open() as vault:
        await write_file(vault, b"theirs", b"3")
        await vault.sync()
    Apart(workshop.base / "store").show(hidden)
    mine, theirs = await in_the_end(workshop, copy)
    assert mine == theirs
    assert mine["sparse"] == bytes(100_000)


async def test_live_copy_taken_between_signing_and_sending(workshop: Workshop) -> None:
    await begin(workshop)
    async with dying(workshop) as vault:
        await write_file(vault, b"signed", b"s" * 50_000)
        make_file(vault, b"empty")
        await vault.journal.commit()

        async def unreachable(_: object) -> None:
            raise NotAllowed("the machine is copied just now")

        vault.sealer._send = unreachable  # type: ignore[method-assign, assignment]
        with pytest.raises(NotAllowed):
            await vault.sealer.seal()
        assert vault.unconfirmed is not None
    copy = copy_of(workshop, "copy")
    async with copy.open() as vault:  # it drops what was signed, and seals something else under that number
        await vault.sync()
        await write_file(vault, b"other", b"o")
        await vault.sync()
    async with workshop.open() as vault:
        await write_file(vault, b"mine", b"m")
        await vault.sync()
    mine, theirs = await in_the_end(workshop, copy)
    assert mine == theirs
    assert mine["signed"] == b"s" * 50_000
    assert {"empty", "other", "mine"} <= mine.keys()


async def test_sealed_segment_that_lost_its_place_is_not_sent_and_its_changes_are(workshop: Workshop) -> None:
    await begin(workshop)
    copy = copy_of(workshop, "copy")
    async with dying(workshop) as vault:
        await write_file(vault, b"signed", b"s" * 50_000)
        await write_file(vault, b"f0", b"new", offset=1)
        await vault.journal.commit()

        async def unreachable(_: object) -> None:
            raise NotAllowed("no network")

        vault.sealer._send = unreachable  # type: ignore[method-assign, assignment]
        with pytest.raises(NotAllowed):
            await vault.sealer.seal()
        await write_file(vault, b"signed", b"pending on top", offset=10)
        await vault.commit()
        lost = vault.unconfirmed
    assert lost is not None
    async with copy.open() as vault:
        await write_file(vault, b"other", b"o")
        await vault.sync()
    async with workshop.open() as vault:
        await vault.sync()
        assert await read_file(vault, b"signed") == b"s" * 10 + b"pending on top" + b"s" * 49_976
    assert not (workshop.base / "store" / lost.name).exists()
    shutil.rmtree(copy.base / "home" / "cache")
    mine, theirs = await in_the_end(workshop, copy)
    assert mine == theirs
    assert mine["signed"] == b"s" * 10 + b"pending on top" + b"s" * 49_976
    assert mine["f0"] == b"onew" + (b"old" * 100)[4:]


async def test_framing_a_device_signs_nothing_anew_that_it_did_not_write(workshop: Workshop) -> None:
    """T-framing: who has keys, even old ones, has the store show his own segment in place of one of this device."""
    await begin(workshop)
    copy = copy_of(workshop, "copy")
    apart = Apart(workshop.base / "store")
    before = apart.files()
    async with workshop.open() as vault:
        await write_file(vault, b"mine", b"1" * 100)
        await vault.sync()
        keyring = vault.keyring
    mine = apart.hide(before)
    async with copy.open() as vault:
        await write_file(vault, b"theirs", b"3" * 100)
        await vault.sync()
    forged = dict(mine)
    for path in [path for path in mine if path.parent.name == "l"]:
        raw = parse_segment(mine[path], workshop.keys.vault)
        key = keyring.key(KeyLabel.LOG, raw.ks)
        body = open_segment(raw, key)
        planted = Create(root_inode(raw.vault), b"planted", KIND_DIR, 0o755, 1, 1, 0, 1, b"", None)
        forged[path], _ = build_segment(
            vault=raw.vault, ks=raw.ks, log_id=raw.log_id, seq=raw.seq, log_key=key, sign_seed=bytes(32),
            body=msgspec.structs.replace(body, packs=(), ops=(planted,)),
        )  # fmt: skip
    apart.show(forged)
    async with workshop.open() as vault:
        assert vault.standing.over
        assert vault.replica.lookup(1, b"planted") is None
        assert await read_file(vault, b"f0") == b"old" * 100
    async with copy.open() as vault:
        await vault.sync()
        assert vault.replica.lookup(1, b"planted") is None
    apart.show(mine)
    shown, _ = await in_the_end(workshop, copy)
    assert (shown["mine"], shown["theirs"]) == (b"1" * 100, b"3" * 100)


@pytest.mark.parametrize("step", ["newlog.decided", "newlog.published", "newlog.gathered", "newlog.switched"])
async def test_crash_at_any_step_of_a_new_log_is_made_good_by_the_next_start(workshop: Workshop, step: str) -> None:
    await begin(workshop)
    copy = copy_of(workshop, "copy")
    await write_apart(workshop, copy)

    class Killed(BaseException):
        pass

    def act(name: str) -> None:
        if name == step:
            raise Killed

    dead = Workshop(workshop.base, workshop.keys, workshop.make_store, Faults(1, act, sticky=True))
    with pytest.raises(BaseException) as caught:
        async with dead.open():
            pass
    assert isinstance(cause(caught.value), Killed)
    mine, theirs = await in_the_end(workshop, copy)
    assert mine == theirs
    assert {"mine", "theirs", "f0", "f1"} <= mine.keys()
    assert mine["mine"] == b"1" * 5 + b"2" + b"1" * 69_994


@pytest.mark.parametrize("seed", range(6))
async def test_clones_at_random_nothing_is_lost_and_all_agree(workshop: Workshop, seed: int) -> None:
    rng = random.Random(seed)
    await begin(workshop)
    machines = [workshop, *(copy_of(workshop, f"copy{i}") for i in range(rng.choice([1, 2])))]
    apart = Apart(workshop.base / "store")
    written: dict[bytes, bytes] = {}
    hidden: list[dict[Path, bytes]] = []
    for turn in range(6):
        which = rng.randrange(len(machines))
        before = apart.files()
        async with machines[which].open() as vault:
            if vault.read_only:
                continue
            name, data = b"%d-%d" % (which, turn), rng.randbytes(rng.choice([10, 90_000]))
            await write_file(vault, name, data)
            written[name] = data
            if rng.random() < 0.7:
                await vault.sync()
        if rng.random() < 0.4:
            hidden.append(apart.hide(before))
    for one in hidden:
        apart.show(one)
    for shown in await in_the_end(*machines):
        assert {name.encode(): data for name, data in shown.items() if name.encode() in written} == written
