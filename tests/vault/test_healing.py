"""Objects that vanish from the folder are said to be missing, and come back from any device that has their bytes."""

from pathlib import Path

import pytest

from cryptfs.errors import Damaged
from cryptfs.group.authority import Tier
from cryptfs.vault.healing import Healer
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.vault_workshop import Workshop, read_file, write_file

BIG = bytes(range(256)) * 8192  # 2 MiB: in a pack
HOUR = 3600.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Watch:
    """The healer of a vault that has no task of its own; time is what the test says."""

    def __init__(self, vault: Vault) -> None:
        self._time = 0.0
        self.healer = Healer(vault, lambda: self._time)

    async def after(self, *seconds: float) -> list[str]:
        """Look once after each of these delays; returns what is said then."""
        for some in seconds:
            self._time += some
            await self.healer.watch()
        return self.healer.words


def objects(folder: Path, sub: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / sub).iterdir()) if not path.name.startswith(".")}


def clear(folder: Path, sub: str) -> dict[str, bytes]:
    """Delete all objects of a folder; returns what they were."""
    had = objects(folder, sub)
    for name in had:
        (folder / sub / name).unlink()
    return had


def forget_copies(device: Device) -> None:
    for path in device.home.cached_packs_dir.iterdir():
        path.unlink()


async def a_file_of_anna(world: World) -> Device:
    """Bob, who has read nothing yet, and `big`, which Anna wrote."""
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as vault:
        await write_file(vault, b"big", BIG)
        await vault.sync()
    return bob


async def test_heal_of_a_pack_from_another_device_restores_exact_bytes(world: World) -> None:
    """T-heal: 37, healing restores exact bytes. Bob has read the file; Anna has lost her copy."""
    bob = await a_file_of_anna(world)
    async with bob.open() as vault:
        assert await read_file(vault, b"big") == BIG
    had = clear(world.folder, "p")
    forget_copies(world.anna)
    async with world.anna.open() as vault:
        with pytest.raises(Damaged):
            await read_file(vault, b"big")
        assert (await vault.healer.heal()).left  # nothing here to put back
        assert not objects(world.folder, "p")
    async with bob.open() as vault:
        done = await vault.healer.heal()
        assert sorted(f"p/{name}" for name in had) == sorted(done.restored)
    assert objects(world.folder, "p") == had
    async with world.anna.open() as vault:
        assert await read_file(vault, b"big") == BIG


async def test_heal_of_every_class_of_object_restores_exact_bytes(world: World) -> None:
    """T-heal: statements, wraps, segments, packs and the genesis, all at once, by a device that read them."""
    bob = await a_file_of_anna(world)
    async with bob.open() as vault:
        await write_file(vault, b"mine", b"m" * 1000)
        await vault.sync()
        assert await read_file(vault, b"big") == BIG
        had = {sub: clear(world.folder, sub) for sub in "mwlp"}
        genesis = (world.folder / "genesis").read_bytes()
        (world.folder / "genesis").unlink()
        await vault.exchange.pull()
        assert vault.read_only  # an older state: nothing is sealed before it is answered
        done = await vault.healer.heal()
        assert not done.left
        assert not vault.read_only
        assert {sub: objects(world.folder, sub) for sub in "mwlp"} == had
        assert (world.folder / "genesis").read_bytes() == genesis
    async with world.anna.open() as vault:
        assert await read_file(vault, b"mine") == b"m" * 1000


async def test_heal_never_puts_back_a_copy_that_does_not_verify(world: World) -> None:
    bob = await a_file_of_anna(world)
    async with bob.open() as vault:
        assert await read_file(vault, b"big") == BIG
        clear(world.folder, "p")
        clear(world.folder, "l")
        for path in [*bob.home.cached_packs_dir.glob("*.pack"), *(bob.home.cache_dir / "segments").iterdir()]:
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
        done = await vault.healer.heal()
        assert not done.restored
        assert done.left
        assert not objects(world.folder, "p")


async def test_missing_contents_are_named_with_path_and_device(world: World) -> None:
    bob = await a_file_of_anna(world)
    clear(world.folder, "p")
    async with bob.open() as vault:
        with pytest.raises(Damaged):
            await read_file(vault, b"big")
        (words,) = vault.healer.words
        assert "The contents of big are missing in the folder." in words
        assert "Anna (desk)" in words
        assert vault.status()["missing"] == [words]


async def test_what_is_missing_comes_back_by_itself_after_an_hour_and_not_before(world: World) -> None:
    """The device that has it would not miss it by reading; it looks, waits, looks again, and puts it back."""
    bob = await a_file_of_anna(world)
    async with bob.open() as vault:
        assert await read_file(vault, b"big") == BIG
        had, watch = clear(world.folder, "p"), Watch(vault)
        (words,) = await watch.after(0.0, 130.0)
        assert "This device has them" in words
        await watch.after(HOUR - 200.0)
        assert not objects(world.folder, "p")
        assert await watch.after(HOUR) == []
        assert objects(world.folder, "p") == had


async def test_an_object_that_a_listing_lacked_once_is_not_sent_again(world: World) -> None:
    """I8: absence from a listing is no proof."""
    bob = await a_file_of_anna(world)
    async with bob.open() as vault:
        listed = vault.sender.list

        async def lacking(prefix: str, after: str = "") -> list[str]:
            return [name for name in await listed(prefix, after) if not name.startswith("w/")]

        async def put(key: str, data: bytes | Path) -> None:
            raise AssertionError(f"{key} was there all the time")

        vault.sender.list = lacking  # type: ignore[method-assign]
        vault.sender.put = put  # type: ignore[method-assign]
        assert await Watch(vault).after(0.0, 130.0, 2 * HOUR) == []
        assert not (await vault.healer.heal()).restored


async def test_rollback_is_not_healed_before_a_person_asks(world: World) -> None:
    """Somebody may have restored a backup on purpose."""
    async with world.anna.open() as vault:
        for turn in range(3):
            await write_file(vault, b"f%d" % turn, b"x")
            await vault.sync()
        had = clear(world.folder, "l")
        await vault.exchange.pull()
        assert "older state" in vault.trust.words
        await Watch(vault).after(0.0, 130.0, 3 * HOUR)
        assert not objects(world.folder, "l")
        await vault.healer.heal()
        assert objects(world.folder, "l") == had
        assert not vault.trust.words
        await write_file(vault, b"more", b"y")
        await vault.sync()


async def test_changes_that_are_not_there_yet_are_said_so_and_later_called_missing(world: World) -> None:
    """A segment names one that is not in the folder: that log waits, and others go on."""
    bob = await a_file_of_anna(world)
    carol = await world.admit("Carol", Tier.WRITER)
    async with carol.open() as vault:
        await write_file(vault, b"from carol", b"c")
        await vault.sync()
    async with bob.open() as vault:
        await write_file(vault, b"from bob", b"b")
        await vault.sync()
    async with carol.open() as vault:
        mine = vault.standing.log_id.hex()
    hidden = {path: path.read_bytes() for path in (world.folder / "l").glob(f"{mine}-*")}
    for path in hidden:
        path.unlink()
    async with world.anna.open() as vault:
        assert vault.replica.lookup(1, b"from bob") is None
        watch = Watch(vault)
        (words,) = await watch.after(0.0, 130.0)
        assert words == "Some recent changes from Carol (laptop) are not in the folder yet."
        assert any("from Carol (laptop) are missing" in one for one in await watch.after(HOUR))
        for path, data in hidden.items():
            path.write_bytes(data)
        await vault.exchange.pull()
        assert vault.replica.lookup(1, b"from bob") is not None
        assert await watch.after(0.0) == []


async def test_a_retired_pack_that_was_deleted_is_not_brought_back(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        await write_file(vault, b"big", BIG)
        await vault.sync()
        await write_file(vault, b"big", BIG[::-1])
        await vault.sync()
        await vault.collector.run(now=True, history=True)
        await vault.collector.run(now=True)
        left = objects(workshop.base / "store", "p")
        assert len(left) == 1
        assert not (await vault.healer.heal()).restored
        assert objects(workshop.base / "store", "p") == left
