"""Re-encryption: afterwards nothing alive opens with keys from before, nothing is lost, and nobody notices."""

import random
import shutil
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import trio

from cryptfs.errors import NotAllowed
from cryptfs.format.codec import decode
from cryptfs.format.content import Content, Inline, Loc, Paged, Run
from cryptfs.format.limits import MANIFEST_MAX
from cryptfs.format.names import pack_name, root_inode
from cryptfs.format.operation import Link, Rename
from cryptfs.group.authority import Tier
from cryptfs.tree.replica import Node
from cryptfs.vault import administration as do
from cryptfs.vault.oldkeys import files_below, survey
from cryptfs.vault.pace import Pace
from cryptfs.vault.reencrypt import Outcome, Reencryption, asked_for
from cryptfs.vault.revoking import carry_out
from cryptfs.vault.stored import StoredContent
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import World
from tests.vault.reference_reader import Head
from tests.vault.test_revocation import (
    assert_opens_nothing_of,
    compare,
    remove,
    store_of,
    world,
    write_after,
    write_before,
)
from tests.vault.vault_workshop import make_file, read_file, remove_file, write_file

__all__ = ["world"]

MIB = 1 << 20


async def reencrypt(vault: Vault, path: bytes = b"", top: int | None = None) -> Outcome:
    async def seen(_more: int) -> None:
        await trio.lowlevel.checkpoint()

    return await Reencryption(vault, top, path, Pace(), seen).run()


def st_of(vault: Vault, name: bytes) -> int:
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    return entry.st


async def cut(vault: Vault, name: bytes, size: int) -> None:
    content = vault.open_file(st_of(vault, name))
    await content.truncate(size, 5)
    vault.release_file(content)


async def filled(vault: Vault) -> dict[bytes, bytes]:
    """Files of every shape, with old versions and a deleted one; returns what they hold."""
    rng = random.Random(7)
    holds = {b"small": b"s" * 100, b"middle": rng.randbytes(300_000), b"big": rng.randbytes(20 * MIB)}
    for name, data in holds.items():
        await write_file(vault, name, data)
    await write_file(vault, b"sparse", b"at the end", offset=900 * MIB)
    await write_file(vault, b"gone", rng.randbytes(70_000))
    make_file(vault, b"empty")
    await vault.sync()
    await write_file(vault, b"big", b"patched", offset=7 * MIB)
    await write_file(vault, b"small", b"S")
    await vault.sync()
    remove_file(vault, b"gone")
    await vault.sync()
    big = bytearray(holds[b"big"])
    big[7 * MIB : 7 * MIB + 7] = b"patched"
    return holds | {b"big": bytes(big), b"small": b"S" + b"s" * 99, b"empty": b""}


def meanwhile(vault: Vault, action: Callable[[], Awaitable[Any]]) -> None:
    """Have this happen when the first batch is sealed anew and sent, just before a segment says so."""
    real = vault.sealer.seal_rekeys

    async def seal_rekeys(rekeys: Iterable[Any]) -> list[Any]:
        vault.sealer.seal_rekeys = real  # type: ignore[method-assign]
        await action()
        return await real(rekeys)

    vault.sealer.seal_rekeys = seal_rekeys  # type: ignore[method-assign, assignment]


async def places(vault: Vault, objects: dict[str, bytes]) -> set[tuple[str, int]]:
    """Object and offset of every record that a present or old version is made of."""
    found: set[tuple[str, int]] = set()

    def note(loc: Loc, *lengths: int) -> None:
        name, off = pack_name(loc.id), loc.off
        if loc.where == 2:
            name = vault.cache.segments.name(loc.id) or ""
            head = Head(objects[name])
            off += head.end + head.len
        for length in lengths:
            found.add((name, off))
            off += length

    for st in vault.replica.files_with_versions():
        for version in vault.replica.versions(st):
            content = decode(Content, version.content, MANIFEST_MAX)
            stored = StoredContent(vault, st, content.size)
            stored.take_version(content)
            await stored.load_all()
            base = stored.map.base
            for index, ref in base.chunks.items():
                if ref is not None:
                    note(Loc(ref.container.where, ref.container.id, ref.off), stored.sealed_len(index))
            if base.manifest is not None and base.root is not None:
                for mref in (base.manifest, *base.root.pages):
                    if mref is not None:
                        note(mref.loc, mref.len)
    return found


def shown(vault: Vault) -> dict[bytes, Node]:
    """What people see of the files: everything but which operation brought the content."""
    nodes = {name: vault.replica.node(st) for name, st, _ in vault.replica.entries(1)}
    return {name: node._replace(content=None) for name, node in nodes.items() if node is not None}


async def all_old(vault: Vault) -> int:
    return (await survey(vault, None, Pace())).versions


async def check_holds(vault: Vault, holds: dict[bytes, bytes]) -> None:
    for name, data in holds.items():
        assert await read_file(vault, name) == data, name
    content = vault.open_file(st_of(vault, b"sparse"))
    assert content.size == 900 * MIB + 10
    assert bytes(await content.read(900 * MIB - 5, 20)) == bytes(5) + b"at the end"
    vault.release_file(content)


async def test_afterwards_no_version_of_any_file_uses_an_old_key_and_all_is_as_it_was(world: World) -> None:
    async with world.anna.open() as vault:
        holds = await filled(vault)
        before = shown(vault)
        await do.rotate(vault)
        assert await all_old(vault) > 6
        outcome = await reencrypt(vault)
        assert outcome.complete
        assert await all_old(vault) == 0
        assert asked_for(vault) is None
        assert shown(vault) == before
        await check_holds(vault, holds)
    async with world.anna.open() as vault:
        await check_holds(vault, holds)
    other = world.device("Anna again")
    await other.ask(await world.invite(Tier.WRITER))
    await world.approve("Anna again")
    async with other.open() as vault:
        await check_holds(vault, holds)
        assert await all_old(vault) == 0


async def test_reencrypt_no_live_record_opens_with_the_keys_of_who_was_put_out(world: World) -> None:
    """T-reencrypt: with all it had, and every object there ever was, the ex-member opens nothing that is alive."""
    bob = await world.admit("Bob", Tier.WRITER)
    await write_before(world.anna)
    async with world.anna.open() as vault:
        remove_file(vault, b"renamed")
        await write_file(vault, b"renamed", b"kept words")
        await vault.sync()
    before = store_of(world)
    await remove(world.anna, "Bob")
    await write_after(world.anna)
    async with world.anna.open() as vault:
        assert (await reencrypt(vault)).complete
        live = await places(vault, store_of(world))
    exes, later = compare(world, before, [bob], world.anna)
    assert_opens_nothing_of(exes, later)
    assert len(live) > 300
    assert [piece.where for piece in exes.opened if piece.where in live] == []


async def test_only_what_is_old_is_sealed_anew_and_a_second_run_finds_nothing(world: World) -> None:
    async with world.anna.open() as vault:
        data = random.Random(1).randbytes(6 * MIB)
        await write_file(vault, b"a", data)
        await vault.sync()
        await do.rotate(vault)
        await write_file(vault, b"a", data[: 3 * MIB])
        await write_file(vault, b"b", data)
        await vault.sync()
        segments = vault.sealer.segments
        # The old version shares the half of the file that did not change.
        assert (await reencrypt(vault)).amount == 6 * MIB
        assert vault.sealer.segments == segments + 1
        assert (await reencrypt(vault)).amount == 0
        assert vault.sealer.segments == segments + 1


async def test_old_versions_share_the_new_records_as_they_shared_the_old_ones(world: World) -> None:
    async with world.anna.open() as vault:
        await write_file(vault, b"a", random.Random(1).randbytes(2 * MIB))
        for number in range(10):
            await write_file(vault, b"a", b"%d" % number, offset=number << 16)
            await vault.sync()
        await do.rotate(vault)
        outcome = await reencrypt(vault)
        assert outcome.versions == 10
        assert outcome.amount == (32 + 9) << 16


async def test_a_large_file_is_sealed_anew_in_parts_of_bounded_size(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryptfs.vault.reencrypt.BATCH_BYTES", 3 * MIB)
    async with world.anna.open() as vault:
        holds = await filled(vault)
        await do.rotate(vault)
        segments = vault.sealer.segments
        assert (await reencrypt(vault)).complete
        assert vault.sealer.segments - segments > 6
        assert await all_old(vault) == 0
        await check_holds(vault, holds)
        again = decode(Content, vault.replica.content_of(st_of(vault, b"big")) or b"", MANIFEST_MAX)
        assert isinstance(again.body, Paged)
    async with world.anna.open() as vault:
        await check_holds(vault, holds)


async def test_with_a_path_only_what_lies_below_it_and_links_count_once(world: World) -> None:
    async with world.anna.open() as vault:
        await write_file(vault, b"inside", b"i" * 100_000)
        await write_file(vault, b"outside", b"o" * 100_000)
        root = root_inode(vault.vault_id)
        vault.submit(Link(vault.replica.ino_of(st_of(vault, b"inside")), root, b"another name"))
        await vault.sync()
        await do.rotate(vault)
        outcome = await reencrypt(vault, b"another name", st_of(vault, b"another name"))
        assert (outcome.versions, outcome.amount) == (1, 100_000)
        assert await all_old(vault) == 1
        assert (await survey(vault, st_of(vault, b"inside"), Pace())).versions == 0
        assert files_below(vault, 1) == sorted([st_of(vault, b"inside"), st_of(vault, b"outside")])


async def test_who_is_no_administrator_may_not(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open() as vault:
        await write_file(vault, b"a", b"a")
        with pytest.raises(NotAllowed, match="Only admins"):
            await reencrypt(vault)


# ---- what becomes of the old objects --------------------------------------------------------------------------------


async def carried_out(vault: Vault) -> dict[str, Any]:
    async def say(_said: dict[str, object]) -> None:
        await trio.lowlevel.checkpoint()

    return await carry_out(vault, {}, Pace(), say)


async def test_who_is_alone_has_the_old_packs_deleted_at_once_and_everything_is_still_there(world: World) -> None:
    async with world.anna.open() as vault:
        holds = await filled(vault)
        old = set(store_of(world))
        await do.rotate(vault)
        answer = await carried_out(vault)
        assert answer["objects"]["deleted"] >= 2
        assert not answer["objects"]["unused_packs"]
        assert not {name for name in old & set(store_of(world)) if name.startswith("p/")}, "nothing of them is left"
        shutil.rmtree(vault.home.cached_packs_dir)
        vault.home.cached_packs_dir.mkdir()
    async with world.anna.open() as vault:
        await check_holds(vault, holds)


async def test_old_packs_wait_for_the_word_of_every_writer_and_those_of_others_for_their_devices(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as hers, bob.open() as his:
        await write_file(hers, b"hers", random.Random(1).randbytes(9 * MIB))
        await hers.sync()
        await write_file(his, b"his", random.Random(2).randbytes(2 * MIB))
        await his.sync()
        await do.rotate(hers)
        held = his.open_file(st_of(his, b"hers"))
        await held.read(0, 10)
        objects = (await carried_out(hers))["objects"]
        assert (objects["deleted"], objects["held_back"]) == (0, "")
        shares = {one["holder"]: (one["ours"], one["packs"]) for one in objects["unused_packs"]}
        assert shares == {"Anna (desk)": (True, 3), "Bob (laptop)": (False, 1)}
        assert objects["waiting_for"] == ["Bob (laptop)"]
        for _ in range(3):  # rekeys seen, old packs retired, that seen
            await his.exchange.pull()
            await his.introduce()
            await hers.exchange.pull()
            objects = (await carried_out(hers))["objects"]
            await his.collector.run(now=True)
            await hers.exchange.pull()
            await hers.introduce()
        assert not any(one["ours"] for one in objects["unused_packs"])
        his.release_file(held)
        await his.exchange.pull()
        await his.collector.run(now=True)
        used = {name for name, _ in await places(hers, store_of(world))}
        assert {name for name in store_of(world) if name.startswith("p/")} == used


# ---- while others work ----------------------------------------------------------------------------------------------


async def test_a_file_written_here_meanwhile_keeps_its_changes_and_is_sealed_anew_too(world: World) -> None:
    async with world.anna.open() as vault:
        data = bytearray(random.Random(1).randbytes(9 * MIB))
        await write_file(vault, b"handed over", data)
        await write_file(vault, b"open", data)
        await vault.sync()
        await do.rotate(vault)
        held = vault.open_file(st_of(vault, b"open"))

        async def write() -> None:
            await write_file(vault, b"handed over", b"new", offset=1 * MIB)
            await held.write(2 * MIB, b"newer", 1_000)

        meanwhile(vault, write)
        assert (await reencrypt(vault)).complete
        assert (
            bytes(await held.read(2 * MIB - 1, 7))
            == data[2 * MIB - 1 : 2 * MIB] + b"newer" + data[2 * MIB + 5 : 2 * MIB + 6]
        )
        vault.release_file(held)
        await vault.sync()
        assert await all_old(vault) == 0
        handed_over, kept = bytearray(data), bytearray(data)
        handed_over[MIB : MIB + 3] = b"new"
        kept[2 * MIB : 2 * MIB + 5] = b"newer"
        assert await read_file(vault, b"handed over") == handed_over
        assert await read_file(vault, b"open") == kept
    async with world.anna.open() as vault:
        assert await read_file(vault, b"handed over") == handed_over
        assert await read_file(vault, b"open") == kept


async def test_a_file_written_elsewhere_meanwhile_keeps_that_and_its_old_version_is_sealed_anew(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as hers, bob.open() as his:
        for name in (b"a", b"renamed", b"removed"):
            await write_file(hers, name, name * 30_000)
        await hers.sync()
        await his.sync()
        await do.rotate(hers)
        await his.sync()

        async def write() -> None:
            await write_file(his, b"a", b"his", offset=5)
            entry = his.replica.lookup(1, b"renamed")
            assert entry is not None
            replica = his.replica
            ino, lver = replica.ino_of(entry.st), replica.extern_ver(entry.lver)
            his.submit(Rename(ino, lver, root_inode(his.vault_id), b"new name", None, 0))
            remove_file(his, b"removed")
            await his.sync()

        meanwhile(hers, write)
        assert (await reencrypt(hers)).complete
        for vault in (hers, his):
            await vault.sync()
            assert {name for name, _, _ in vault.replica.entries(1)} == {b"a", b"new name"}
            assert await read_file(vault, b"a") == b"a" * 5 + b"his" + b"a" * 29_992
            assert await read_file(vault, b"new name") == b"renamed" * 30_000
            assert await all_old(vault) == 0


async def test_who_has_a_file_open_elsewhere_reads_on_and_its_kernel_hears_nothing(world: World) -> None:
    bob = await world.admit("Bob", Tier.READER)
    async with world.anna.open() as hers:
        data = random.Random(3).randbytes(9 * MIB)
        await write_file(hers, b"a", data)
        await hers.sync()
        async with bob.open() as his:
            heard: list[Any] = []
            held = his.open_file(st_of(his, b"a"))
            first = bytes(await held.read(0, MIB))
            await do.rotate(hers)
            await his.exchange.pull()
            his.exchange.listeners.append(lambda *news: heard.append([list(one) for one in news]))
            await reencrypt(hers)
            await his.exchange.pull()
            assert first + bytes(await held.read(MIB, 8 * MIB)) == data
            assert held.version == 0
            assert all(one == [[], []] for one in heard)
            assert await all_old(his) == 0
            his.release_file(held)


async def test_what_was_open_and_written_elsewhere_is_found_by_the_next_run(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as hers, bob.open() as his:
        await write_file(hers, b"a", b"a" * 300_000)
        await hers.sync()
        await his.sync()
        await do.rotate(hers)
        await his.sync()
        held = his.open_file(st_of(his, b"a"))
        await held.write(70_000, b"his", 1_000)
        await reencrypt(hers)
        assert await all_old(hers) == 0
        his.release_file(held)
        await his.sync()
        await hers.sync()
        assert (await reencrypt(hers)).complete
        assert await all_old(hers) == 0
        await his.sync()
        for vault in (hers, his):
            assert await read_file(vault, b"a") == b"a" * 70_000 + b"his" + b"a" * 229_997


async def test_two_administrators_at_once_come_to_one_result(world: World) -> None:
    carl = await world.admit("Carl", Tier.ADMIN)
    async with world.anna.open() as hers, carl.open() as his:
        holds = await filled(hers)
        await his.sync()
        await do.rotate(hers)
        await his.sync()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reencrypt, hers)
            nursery.start_soon(reencrypt, his)
        for vault in (hers, his):
            await vault.sync()
            await check_holds(vault, holds)
            assert await all_old(vault) == 0
        assert {st: v.content for v in hers.replica.versions(st_of(hers, b"big")) for st in (0,)} == {
            st: v.content for v in his.replica.versions(st_of(his, b"big")) for st in (0,)
        }


async def test_the_key_changed_meanwhile_then_all_is_sealed_under_the_newest(world: World) -> None:
    async with world.anna.open() as vault:
        holds = await filled(vault)
        await do.rotate(vault)
        meanwhile(vault, lambda: do.rotate(vault))
        assert (await reencrypt(vault)).complete
        assert await all_old(vault) == 0
        await check_holds(vault, holds)


# ---- what goes wrong ------------------------------------------------------------------------------------------------


async def test_a_file_whose_pack_is_missing_is_named_and_the_others_go_on(world: World) -> None:
    async with world.anna.open() as vault:
        await write_file(vault, b"lost", b"l" * 2 * MIB)
        await vault.sync()
        await write_file(vault, b"sound", b"s" * 2 * MIB)
        await vault.sync()
        content = decode(Content, vault.replica.content_of(st_of(vault, b"lost")) or b"", MANIFEST_MAX)
        assert isinstance(content.body, Inline)
        (run,) = content.body.spans
        assert isinstance(run, Run)
        (world.folder / pack_name(run.loc.id)).unlink()
        vault.container(run.loc).drop_file()
        await do.rotate(vault)
        outcome = await reencrypt(vault)
        assert list(outcome.failed) == [b"lost"]
        assert not outcome.complete
        assert await all_old(vault) == 1
        assert asked_for(vault) == b"", "it can be resumed when the pack is back"


async def test_what_was_asked_for_is_remembered_until_it_is_done(world: World) -> None:
    async with world.anna.open() as vault:
        await write_file(vault, b"a", b"a" * 100_000)
        await vault.sync()
        await do.rotate(vault)

        async def stop() -> None:
            raise KeyError

        meanwhile(vault, stop)
        with pytest.raises(KeyError):
            await reencrypt(vault, b"a", st_of(vault, b"a"))
        assert not any(content.opens for content in vault.files.values())
    async with world.anna.open() as vault:
        assert asked_for(vault) == b"a"
        assert (await reencrypt(vault, b"a", st_of(vault, b"a"))).amount == 100_000
        assert asked_for(vault) is None


async def test_packs_that_no_segment_came_to_name_are_removed_from_the_store(world: World) -> None:
    async with world.anna.open() as vault:
        await write_file(vault, b"a", b"a" * 2 * MIB)
        await vault.sync()
        await do.rotate(vault)
        packs = set((world.folder / "p").iterdir())

        async def overwrite() -> None:
            content = vault.open_file(st_of(vault, b"a"))
            await content.truncate(0, 5)
            vault.release_file(content)
            await vault.sync()

        meanwhile(vault, overwrite)
        assert (await reencrypt(vault)).complete
        used = {name for name, _ in await places(vault, store_of(world))}
        assert {f"p/{path.name}" for path in set((world.folder / "p").iterdir()) - packs} == used
