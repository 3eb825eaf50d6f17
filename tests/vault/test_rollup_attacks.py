"""What lies in a hostile rollup is judged exactly as if it lay by itself: it shows no more, and hides no more."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from cryptfs.format.limits import ROLLUP_MAX
from cryptfs.format.names import rollup_name
from cryptfs.format.segment import parse_segment
from cryptfs.group.authority import Tier
from cryptfs.vault.vault import Vault
from tests.vault.rollup_world import Device, World, body, plant, remove_singles, save, singles, world
from tests.vault.test_forgers import Forgery
from tests.vault.vault_faults import state_of
from tests.vault.vault_workshop import read_file

__all__ = ["world"]

COUNT = 6


@dataclass
class Scene:
    """A folder in which Anna wrote some files, Rita who has not read them, and Anna's segments by number."""

    world: World
    rita: Device
    log: bytes
    state: object
    segments: dict[int, bytes]

    @property
    def folder(self) -> Path:
        return self.world.folder

    def plant(self, first: int, segments: list[bytes], data: bytes = b"") -> Path:
        return plant(self.world, self.log, first, segments, data)

    def run(self, first: int, last: int) -> list[bytes]:
        """Segments first..last."""
        return [self.segments[seq] for seq in range(first, last + 1)]

    def hide(self, first: int, last: int) -> None:
        """They do not lie by themselves any more."""
        remove_singles(self.folder, self.log, range(first, last + 1))

    async def all_is_read(self) -> None:
        """Whoever comes now reads everything that Anna wrote."""
        async with self.rita.open() as hers:
            await hers.exchange.pull()
            assert state_of(hers) == self.state
            for number in range(COUNT):
                assert await read_file(hers, b"f%d" % number) == body(number)


@pytest.fixture
async def scene(world: World) -> Scene:
    rita = await world.admit("Rita", Tier.READER)
    async with world.anna.open() as vault:
        await save(vault, range(COUNT))
        log_id = vault.standing.log_id
        return Scene(world, rita, log_id, state_of(vault), singles(world.folder, log_id))


def last_of(scene: Scene) -> int:
    return max(scene.segments)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def test_segments_that_lie_only_in_an_honest_rollup_are_read(scene: Scene) -> None:
    last = last_of(scene)
    scene.plant(0, scene.run(0, last - 1))
    scene.hide(0, last - 1)
    await scene.all_is_read()


async def test_wrong_bytes_in_one_segment_spoil_no_other_and_not_the_same_elsewhere(scene: Scene) -> None:
    last = last_of(scene)
    inside = scene.run(0, last - 1)
    inside[2] = flipped(inside[2], len(inside[2]) // 2)
    path = scene.plant(0, inside)
    scene.hide(0, 1)
    scene.hide(3, last - 1)
    async with scene.rita.open() as hers:
        await hers.exchange.pull()
        assert f"l/{path.name}" in hers.reader.problems  # named; 2 came by itself, and all after it
    await scene.all_is_read()


async def test_wrong_bytes_hold_a_log_on_there_and_say_so(scene: Scene) -> None:
    last = last_of(scene)
    inside = scene.run(0, last - 1)
    inside[2] = flipped(inside[2], len(inside[2]) // 2)
    path = scene.plant(0, inside)
    scene.hide(0, last - 1)
    async with scene.rita.open() as hers:
        await hers.exchange.pull()
        assert hers.standing.logs.state(scene.log).next_seq == 2
        assert f"l/{path.name}" in hers.reader.problems
        path.unlink()
        scene.plant(2, scene.run(2, last - 1))  # put right
        await hers.exchange.pull()
        assert state_of(hers) == scene.state


async def test_overlapping_rollups_say_everything_once(scene: Scene) -> None:
    last = last_of(scene)
    scene.plant(0, scene.run(0, 3))
    scene.plant(1, scene.run(1, last - 1))
    scene.plant(2, scene.run(2, 3))
    scene.hide(0, last - 1)
    await scene.all_is_read()


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
async def test_a_truncated_rollup_gives_what_is_whole_in_it_and_the_rest_comes_from_elsewhere(
    scene: Scene, share: float
) -> None:
    last = last_of(scene)
    path = scene.plant(0, scene.run(0, last - 1))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    await scene.all_is_read()


async def test_a_truncated_rollup_is_read_again_when_it_is_whole(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptfs.vault import readrollups

    monkeypatch.setattr(readrollups, "_AGAIN", 1.0)
    last = last_of(scene)
    path = scene.plant(0, scene.run(0, last - 1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    scene.hide(0, last - 1)
    async with scene.rita.open() as hers:
        await hers.exchange.pull()
        assert state_of(hers) != scene.state
        path.write_bytes(whole)
        await hers.exchange.pull()
        assert state_of(hers) == scene.state


async def test_an_oversized_rollup_is_not_read_to_its_end(scene: Scene) -> None:
    name = rollup_name(scene.log, 0, last_of(scene), bytes(32))
    with (scene.folder / name).open("wb") as out:
        out.truncate(ROLLUP_MAX * 4)
    async with scene.rita.open() as hers:
        await hers.exchange.pull()
        assert name not in hers.reader.problems or "too large" in hers.reader.problems[name]
    await scene.all_is_read()


async def test_a_name_that_claims_every_number_there_is_costs_nothing(scene: Scene) -> None:
    name = rollup_name(scene.log, 0, 1 << 62, bytes(32))
    (scene.folder / name).write_bytes(scene.plant(0, scene.run(0, 1)).read_bytes())
    await scene.all_is_read()
    async with scene.world.anna.open() as vault:
        await vault.exchange.pull()
        assert state_of(vault) == scene.state


async def test_segments_of_somebody_elses_log_do_not_count_under_another_name(scene: Scene) -> None:
    """Bob's segments in a rollup that bears the name of Anna's log, and the other way round."""
    bob = await scene.world.admit("Bob", Tier.WRITER)
    async with bob.open() as his:
        await his.exchange.pull()
        await save(his, [50, 51])
        theirs, state = singles(scene.folder, his.standing.log_id), state_of(his)
        bobs = his.standing.log_id
    numbers = sorted(theirs)
    plant(scene.world, scene.log, numbers[0], [theirs[seq] for seq in numbers])
    plant(scene.world, bobs, 0, scene.run(0, 2))
    async with scene.rita.open() as hers:
        await hers.exchange.pull()
        assert state_of(hers) == state
        assert not hers.standing.logs.forked()


@pytest.mark.parametrize("rolled_up", [False, True])
async def test_a_fork_in_a_rollup_is_a_fork(scene: Scene, *, rolled_up: bool) -> None:
    """The same whether the other branch lies by itself or in a rollup: both branches are late work from there on."""
    async with scene.rita.open() as hers:
        await hers.exchange.pull()
        before = state_of(hers)
        other = _other_branch(hers, scene)
        name = other.plant(scene.folder)
        if rolled_up:
            data = (scene.folder / name).read_bytes()
            (scene.folder / name).unlink()
            plant(scene.world, scene.log, other.seq - 1, [scene.segments[other.seq - 1], data])
            await hers.exchange.pull()
            assert state_of(hers) == before  # nobody builds on it, and every number in it is known
            assert not hers.standing.logs.forked()
        else:
            await hers.exchange.pull()
            assert hers.standing.logs.forked() == {scene.log}


async def test_who_builds_on_the_other_branch_in_a_rollup_makes_everybody_see_the_fork(scene: Scene) -> None:
    """Anna's keys sign another segment, which only a rollup has, and one after it; Bob, who reads these, writes."""
    bob = await scene.world.admit("Bob", Tier.WRITER)
    async with scene.rita.open() as hers:
        await hers.exchange.pull()
        original = singles(scene.folder, scene.log)
        last = max(original)
        other = _other_branch(hers, scene, seq=last)
        data = (scene.folder / other.plant(scene.folder)).read_bytes()
        remove_singles(scene.folder, scene.log, [last])
        plant(scene.world, scene.log, last - 1, [original[last - 1], data])
        digest = parse_segment(data, scene.world.vault).digest
        further = other.but(prev=digest, first_op=other.body.first_op + 1, stamp=other.body.stamp + 1, ops=())
        further.seq = last + 1
        further.plant(scene.folder)
        async with bob.open() as his:
            await his.exchange.pull()
            assert his.replica.lookup(1, b"forged") is not None
            await save(his, [70])
        await hers.exchange.pull()
        assert hers.standing.logs.forked() == {scene.log}
        assert hers.replica.lookup(1, b"forged") is None
        assert hers.replica.lookup(1, b"f70") is not None
        assert await read_file(hers, b"f70") == body(70)


def _other_branch(seen: Vault, scene: Scene, seq: int | None = None) -> Forgery:
    """Another segment in place of one of Anna's, signed by her."""
    standing = seen.standing
    at = last_of(scene) if seq is None else seq
    before = standing.logs.state_after(scene.log, at - 1, standing.logs.digest_at(scene.log, at - 1) or b"")
    assert before is not None
    forgery = Forgery.of(seen, scene.log, scene.world.anna.keys.sign_seed)
    forgery = forgery.but(prev=before.digest, first_op=before.next_n, vec=(), stamp=before.stamp + 1)
    forgery.seq = at
    return forgery


async def test_a_rollup_whose_name_lies_hides_no_missing_segment_from_healing(world: World) -> None:
    """A member deletes a segment of Anna's, and puts junk there under the name of a rollup that would hold it."""
    async with world.anna.open() as vault:
        log_id = vault.standing.log_id
        await save(vault, range(4))
        alone = singles(world.folder, log_id)
        plant(world, log_id, 0, [alone[0], alone[1], alone[2]], b"junk")
        swapped = plant(world, log_id, 1, [alone[2], alone[1]])
        remove_singles(world.folder, log_id, [1, 2])
        done = await vault.healer.heal()
        assert len(done.restored) == 2
        assert singles(world.folder, log_id) == alone
        swapped.unlink()
        plant(world, log_id, 1, [alone[1], alone[2]])
        remove_singles(world.folder, log_id, [1, 2])
        assert not (await vault.healer.heal()).restored  # this one is what it says: nothing is missing
