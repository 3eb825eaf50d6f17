"""Files out of packs and single segments alone: what comes back, what is said of it, and what others cannot do."""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cryptfs.crypto.keys import chunk_ctx, random_bytes
from cryptfs.crypto.seal import seal
from cryptfs.format.names import GENESIS, StatementName, WrapsName, parse_name
from cryptfs.format.pack import RECORD_CHUNK, PackHint, PackKey, PackRecord
from cryptfs.group.membership import Membership, open_membership
from cryptfs.vault.lying import StoreWindows, copies_in, objects_in
from cryptfs.vault.outside import Outside, tame
from cryptfs.vault.remains import Remains
from cryptfs.vault.salvage import Grade, Salvage, Salvaged
from cryptfs.vault.vault import VaultOptions
from cryptfs.vault.wholepack import WholePack
from tests.vault.vault_faults import SimWorkshop, sim, still
from tests.vault.vault_workshop import write_file

__all__ = ["sim", "still"]

pytestmark = pytest.mark.usefixtures("still")

BIG = random.Random(1).randbytes(3_000_000)
CHUNK = 65536


def membership_of(sim: SimWorkshop) -> Membership:
    names = [name for name in sim.names("") if isinstance(parse_name(name), StatementName | WrapsName)]
    objects = sim.world.snapshot()
    return open_membership([(name, objects[name]) for name in [GENESIS, *names]], sim.keys.vault, sim.keys)


def salvaged(sim: SimWorkshop, target: Path, *, copies: bool = False) -> dict[bytes, Salvaged]:
    """What became of each file, by the path that it has in the vault."""
    membership, store = membership_of(sim), sim.make_store()
    before = sim.world.snapshot()
    remains = Remains(membership)
    for one in sorted(objects_in(StoreWindows(store)), key=lambda one: not one.key.startswith("p")):
        remains.take(one)
    for copy in copies_in(sim.home.cached_packs_dir, "p/", ".pack") if copies else ():
        remains.take(copy)
    target.mkdir(exist_ok=True)
    with closing(Outside(target)) as outside:
        found = {one.meant: one for one in Salvage(remains, membership.keyring, outside).run()}
    assert sim.world.snapshot() == before
    return found


def lose_logs(sim: SimWorkshop) -> None:
    for name in [*sim.names("l/"), *sim.names("c/")]:
        sim.world.lose(name)


def files_below(top: Path) -> Iterator[Path]:
    return (path for path in top.rglob("*") if not path.is_dir())


# ---- what comes back -------------------------------------------------------------------------------------------------


async def test_files_come_back_from_packs_and_keys_when_all_logs_are_lost(sim: SimWorkshop, tmp_path: Path) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"big", BIG)
        await write_file(vault, b"small.txt", b"few bytes")
        await vault.sync()
    lose_logs(sim)
    found = salvaged(sim, tmp_path / "out")
    assert {one.grade for one in found.values()} == {Grade.FOUND}
    assert (tmp_path / "out/big").read_bytes() == BIG
    assert (tmp_path / "out/small.txt").read_bytes() == b"few bytes"


async def test_latest_known_chunks_and_size_win(sim: SimWorkshop, tmp_path: Path) -> None:
    changed = random.Random(2).randbytes(20 * CHUNK)
    sim.options = VaultOptions(settle_s=-1)
    async with sim.open() as vault:
        clock = iter(range(10**6, 10**7, 1000))
        vault.wall_ms = lambda: next(clock)  # type: ignore[method-assign]
        await write_file(vault, b"big", BIG)
        await vault.sync()
        await write_file(vault, b"big", changed, offset=5 * CHUNK)
        await write_file(vault, b"big", b"tail" * 10_000, offset=len(BIG))
        await vault.sync()
    lose_logs(sim)
    (one,) = salvaged(sim, tmp_path / "out").values()
    expected = BIG[: 5 * CHUNK] + changed + BIG[25 * CHUNK :] + b"tail" * 10_000
    assert (one.grade, (tmp_path / "out/big").read_bytes()) == (Grade.FOUND, expected)


async def test_what_a_single_signed_segment_tells_is_said_to_be_signed(sim: SimWorkshop, tmp_path: Path) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"first", b"of the first segment")
        await vault.sync()
        await write_file(vault, b"later", b"of a later one" * 1000)
        await write_file(vault, b"big", BIG)
        await vault.sync()
    sim.world.lose(min(sim.names("l/")))
    found = salvaged(sim, tmp_path / "out")
    assert {path: one.grade for path, one in found.items()} == dict.fromkeys((b"later", b"big"), Grade.SIGNED)
    assert found[b"later"].by == "tester (bench)"
    assert (tmp_path / "out/later").read_bytes() == b"of a later one" * 1000


async def test_a_flipped_bit_costs_one_chunk_and_the_name_says_so(sim: SimWorkshop, tmp_path: Path) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"big.bin", BIG)
        await write_file(vault, b"whole", b"whole" * 20_000)
        await vault.sync()
    (pack,) = sim.names("p/")
    data = bytearray(sim.world.snapshot()[pack])
    data[len(data) // 2] ^= 1
    sim.world.plant(pack, bytes(data))
    lose_logs(sim)
    found = salvaged(sim, tmp_path / "out")
    assert (found[b"big.bin"].grade, found[b"big.bin"].missing) == (Grade.INCOMPLETE, CHUNK)
    assert found[b"whole"].grade is Grade.FOUND
    assert not (tmp_path / "out/big.bin").exists()
    written = (tmp_path / "out/big.bin (incomplete)").with_name("big (incomplete).bin").read_bytes()
    assert len(written) == len(BIG)
    assert [i for i in range(0, len(BIG), CHUNK) if written[i : i + CHUNK] != BIG[i : i + CHUNK]] == [
        i for i in range(0, len(BIG), CHUNK) if not any(written[i : i + CHUNK])
    ]


async def test_a_pack_cut_off_is_named_and_a_copy_on_this_disk_is_used(sim: SimWorkshop, tmp_path: Path) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"big", BIG)
        await vault.sync()
    (pack,) = sim.names("p/")
    sim.world.plant(pack, sim.world.snapshot()[pack][:-1000])
    lose_logs(sim)
    assert salvaged(sim, tmp_path / "without") == {}
    found = salvaged(sim, tmp_path / "with", copies=True)
    assert (found[b"big"].grade, (tmp_path / "with/big").read_bytes()) == (Grade.FOUND, BIG)


async def test_an_earlier_version_comes_back_if_nothing_of_the_latest_is_left(sim: SimWorkshop, tmp_path: Path) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"big", BIG)
        await vault.sync()
        first = set(sim.names("p/"))
        st = vault.replica.lookup(1, b"big").st  # type: ignore[union-attr]
        content = vault.open_file(st)
        await content.truncate(0, 2000)
        await content.write(0, BIG[::-1][:2_000_000], 2000)
        vault.release_file(content)
        await vault.sync()
    for name in set(sim.names("p/")) - first:
        sim.world.lose(name)
    (one,) = salvaged(sim, tmp_path / "out").values()
    assert (one.grade, (tmp_path / "out/big").read_bytes()) == (Grade.EARLIER, BIG)


async def test_a_segment_that_nobody_signed_tells_nothing(sim: SimWorkshop, tmp_path: Path) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"small", b"few bytes")
        await vault.sync()
    (name,) = sim.names("l/")
    data = bytearray(sim.world.snapshot()[name])
    data[-1] ^= 1
    sim.world.plant(name, bytes(data))
    remains = Remains(membership_of(sim))
    for one in objects_in(StoreWindows(sim.make_store())):
        remains.take(one)
    assert not remains.contents
    assert list(remains.unread) == [f"{name} segment 0"]


# ---- what others cannot do -------------------------------------------------------------------------------------------


class Forger:
    """A member who makes packs of any contents, names and sizes."""

    def __init__(self, sim: SimWorkshop, directory: Path) -> None:
        self.sim, self.directory, self.membership = sim, directory, membership_of(sim)
        self.pack = WholePack(sim.keys.vault, self.membership.keyring)

    def add(self, path: bytes, data: bytes = b"evil", *, chunk: int = 0, size: int = 4, ms: int = 5) -> None:
        keyring, vault = self.membership.keyring, self.sim.keys.vault
        fid, file_key = random_bytes(16), random_bytes(32)
        box = keyring.box_file_key(keyring.write_keyset, fid, 0, file_key)  # type: ignore[arg-type]
        record = seal(file_key, chunk_ctx(vault, fid, 0, chunk, len(data), 0), data)
        digest = hashlib.sha256(record).digest()
        row = PackRecord(fid, RECORD_CHUNK, 0, b"", chunk, 0, len(record), len(data), 0, digest)
        self.pack.add(row, record)
        self.pack.tell(PackKey(fid, 0, box.ks, box.box), PackHint(fid, random_bytes(16), path, size, ms))

    def publish(self) -> None:
        self.directory.mkdir()
        self.pack.write(self.directory)
        assert self.pack.container.path is not None
        self.sim.world.plant(f"p/{self.pack.container.id.hex()}", self.pack.container.path.read_bytes())


@pytest.fixture
def forger(sim: SimWorkshop, tmp_path: Path) -> Forger:
    return Forger(sim, tmp_path / "forge")


async def test_hostile_paths_stay_inside_the_target(sim: SimWorkshop, forger: Forger, tmp_path: Path) -> None:
    paths = [
        b"../../outside",
        b"/etc/passwd",
        b"..",
        b"a/../../b",
        b"",
        b"\0",
        b"x" * 300,
        b"/".join([b"d"] * 500),
        b"c\0d",
    ]
    for path in paths:
        forger.add(path)
    forger.publish()
    (tmp_path / "deep").mkdir()
    found = salvaged(sim, tmp_path / "deep/top")
    inside = sorted(files_below(tmp_path / "deep"))
    assert len(inside) == len(paths)
    assert all(path.read_bytes() == b"evil" and path.is_file() and not path.is_symlink() for path in inside)
    assert (tmp_path / "deep/top/outside").exists()
    assert all(path.is_relative_to(tmp_path / "deep/top") for path in inside)
    assert {one.grade for one in found.values()} == {Grade.FOUND}


async def test_huge_sizes_and_far_chunks_make_no_huge_file(sim: SimWorkshop, forger: Forger, tmp_path: Path) -> None:
    forger.add(b"far", b"x" * CHUNK, chunk=2**40, size=2**62)
    forger.add(b"claims", size=2**62)
    forger.add(b"late", ms=2**62)
    forger.publish()
    found = salvaged(sim, tmp_path / "out")
    assert found[b"far"].grade is found[b"claims"].grade is Grade.LOST
    assert found[b"late"].grade is Grade.FOUND
    assert sum(path.stat().st_size for path in files_below(tmp_path / "out")) < CHUNK


async def test_files_of_one_name_all_come_back_the_latest_under_it(
    sim: SimWorkshop, forger: Forger, tmp_path: Path
) -> None:
    for ms in (3, 9, 6):
        forger.add(b"same.txt", b"%04d" % ms, ms=ms)
    forger.add(b"same.txt/below", b"dirs", ms=1)
    forger.publish()
    salvaged(sim, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in files_below(tmp_path / "out")} == {
        "same.txt": b"0009", "same 2.txt": b"0006", "same 3.txt": b"0003", "below": b"dirs",
    }  # fmt: skip


def test_what_is_there_is_neither_opened_nor_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(tmp_path / "victim")
    (top / "folder").symlink_to(tmp_path)
    (top / "file").write_text("mine")
    with closing(Outside(top)) as outside:
        for names in ([b"link"], [b"folder", b"victim"], [b"file"], [b"file", b"below"]):
            stream, path = outside.create(names)
            stream.write(b"new")
            stream.close()
            assert (top / os.fsdecode(path)).read_bytes() == b"new"
    assert ((tmp_path / "victim").read_text(), (top / "file").read_text()) == ("precious", "mine")
    assert sorted(os.fsdecode(path.relative_to(tmp_path)) for path in files_below(tmp_path)) == [
        "top/file", "top/file 2", "top/file 3/below", "top/folder 2/victim", "top/link", "top/link 2", "victim",
    ]  # fmt: skip


def test_a_path_is_taken_apart_into_names_that_lead_nowhere_else() -> None:
    assert tame(b"/a//./b/../c\0") == [b"a", b"b", b"c"]
    assert tame(b"../..") == []
    assert [len(name) for name in tame(b"x" * 999 + b".txt")] == [255]
    assert len(tame(b"/".join([b"d"] * 5000))) < 100
