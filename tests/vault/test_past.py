"""What was, and bringing it back: versions, trash and restore in process, with two members on one folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from cryptfs.errors import Damaged, NotAllowed, NotKept, Retry, UsageError
from cryptfs.format.operation import KIND_DIR, Create, Rename, Rmdir, Unlink, provisional_ino
from cryptfs.group.authority import Tier
from cryptfs.store import Call, DirectoryStore
from cryptfs.vault.oldcontent import sealed_content
from cryptfs.vault.past import Past, Version
from cryptfs.vault.past_acts import look_back
from cryptfs.vault.restoring import Restored, Restorer
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import World
from tests.vault.vault_workshop import Workshop, make_file, read_file, remove_file, write_file

Rows = list[dict[str, object]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def save(vault: Vault, name: bytes, *texts: bytes) -> int:
    """Save one text after the other; each is a version."""
    st = 0
    for text in texts:
        entry = vault.replica.lookup(1, name)
        st = entry.st if entry is not None else make_file(vault, name)
        content = vault.open_file(st)
        await content.truncate(0, 1_000)
        await content.write(0, text, 1_000)
        vault.release_file(content)
        await vault.sync(20)
    return st


async def ask(vault: Vault, act: str, path: bytes = b"", **arguments: object) -> Rows:
    rows: Rows = []

    async def say(answer: dict[str, object]) -> None:
        rows.extend(answer["rows"])  # type: ignore[call-overload]

    await look_back(vault, act, {"path": path.decode(), **arguments}, say)
    return rows


async def texts_of(vault: Vault, path: bytes) -> list[bytes]:
    """The texts of all versions of a file, newest first, as they are read."""
    past = Past(vault)
    return [await text_of(vault, past, one) for one in await past.versions(past.spot(path))]


async def text_of(vault: Vault, past: Past, version: Version) -> bytes:
    content = past.content_of(version)
    return b"" if content is None else bytes(await sealed_content(vault, version, content).read(0, 1 << 20))


async def restore(vault: Vault, path: bytes, **how: object) -> Restored:
    done = await Restorer(vault).restore(path, **how)  # type: ignore[arg-type]
    await vault.sync(20)
    return done


def make_dir(vault: Vault, name: bytes, parent: int = 1) -> int:
    replica = vault.replica
    k = vault.submit(Create(replica.ino_of(parent), name, KIND_DIR, 0o755, 0, 0, 0, 1, b"", None))
    st = replica.st_of(provisional_ino(k))
    assert st is not None
    return st


def remove_tree(vault: Vault, parent: int, name: bytes) -> None:
    """`rm -r`."""
    replica = vault.replica
    entry = replica.lookup(parent, name)
    assert entry is not None
    node = replica.node(entry.st)
    assert node is not None
    lver = replica.extern_ver(entry.lver)
    if entry.kind == KIND_DIR:
        for below, _, _ in replica.entries(entry.st):
            remove_tree(vault, entry.st, below)
        vault.submit(Rmdir(replica.ino_of(entry.st), lver))
    else:
        vault.submit(Unlink(replica.ino_of(entry.st), lver, replica.extern_ver(node.cver)))


async def test_every_save_is_a_version_that_can_be_read_and_names_its_author(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await save(anna, b"f", b"one", b"two")
    async with bob.open() as vault:
        await save(vault, b"f", b"three by Bob")
        rows = await ask(vault, "versions", b"/f")
        assert [(row["by"], row["size"], row["state"]) for row in rows] == [
            ("Bob (laptop)", 12, "present"), ("Anna (desk)", 3, "old"), ("Anna (desk)", 3, "old"),
        ]  # fmt: skip
        assert await texts_of(vault, b"f") == [b"three by Bob", b"two", b"one"]
    async with world.anna.open() as anna:
        assert [row["version"] for row in await ask(anna, "versions", b"f")] == [row["version"] for row in rows]


async def test_a_restored_version_is_a_new_one_and_what_it_replaced_comes_back_in_turn(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        await save(vault, b"f", b"one", b"two", b"three")
        past = Past(vault)
        oldest = (await past.versions(past.spot(b"f")))[-1]
        await restore(vault, b"/f", version=oldest.id)
        assert await read_file(vault, b"f") == b"one"
        assert await texts_of(vault, b"f") == [b"one", b"three", b"two", b"one"]
        await restore(vault, b"f")
        assert await read_file(vault, b"f") == b"three"
    async with workshop.open() as vault:  # and after a start the same
        assert await read_file(vault, b"f") == b"three"


async def test_a_version_restored_here_is_what_others_see(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await save(anna, b"f", b"good", b"bad")
        await restore(anna, b"f")
    async with bob.open() as vault:
        assert await read_file(vault, b"f") == b"good"
        await restore(vault, b"f")
        assert await read_file(vault, b"f") == b"bad"


async def test_what_is_written_after_an_unsent_restore_builds_on_it(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        await save(vault, b"f", b"one", b"two")
        await Restorer(vault).restore(b"f")
        await write_file(vault, b"f", b"!", 3)
        await vault.commit()
        vault.replica.commit()
    async with workshop.open() as vault:
        await vault.sync(20)
        assert await read_file(vault, b"f") == b"one!"
        assert (await texts_of(vault, b"f"))[1:] == [b"one", b"two", b"one"]


async def test_an_open_file_shows_the_restored_version(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        st = await save(vault, b"f", b"one", b"two")
        content = vault.open_file(st)
        assert bytes(await content.read(0, 9)) == b"two"
        before, told = content.version, []
        vault.exchange.listeners.append(lambda entries, nodes: told.append((list(entries), list(nodes))))
        await Restorer(vault).restore(b"f")
        assert bytes(await content.read(0, 9)) == b"one"
        assert content.version > before
        assert told[0] == ([], [st])
        vault.release_file(content)


async def test_a_version_is_restored_beside_the_file(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        await save(vault, b"f", b"one" * 100_000, b"two")
        await restore(vault, b"f", to=b"/g")
        assert await read_file(vault, b"g") == b"one" * 100_000
        assert await read_file(vault, b"f") == b"two"
        with pytest.raises(UsageError, match="is there already"):
            await restore(vault, b"f", to=b"/g")


async def test_a_deleted_file_is_in_the_trash_and_comes_back_as_the_same_file(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        st = await save(anna, b"f", b"one", b"two")
        ino = anna.replica.ino_of(st)
    async with bob.open() as vault:
        remove_file(vault, b"f")
        await vault.sync(20)
    async with world.anna.open() as anna:
        (row,) = await ask(anna, "trash")
        assert (row["path"], row["by"], row["size"]) == ("/f", "Bob (laptop)", 3)
        await restore(anna, b"f")
        assert await read_file(anna, b"f") == b"two"
        entry = anna.replica.lookup(1, b"f")
        assert entry is not None
        assert anna.replica.ino_of(entry.st) == ino
        assert await ask(anna, "trash") == []
        assert await texts_of(anna, b"f") == [b"two", b"one"]


async def test_who_deleted_is_told_apart_where_segments_bear_one_stamp(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        for name in (b"a", b"b"):
            await save(anna, name, b"text")
        async with bob.open() as other:
            remove_file(anna, b"a")
            remove_file(other, b"b")
            await anna.exchange.pull()
            await other.exchange.pull()
            # Neither has seen the other's segment when it seals its own.
            pull, other.exchange.pull = other.exchange.pull, anna.exchange.refresh_membership  # type: ignore[method-assign]
            await other.sealer.seal()
            pull_a, anna.exchange.pull = anna.exchange.pull, anna.exchange.refresh_membership  # type: ignore[method-assign]
            await anna.sealer.seal()
            other.exchange.pull, anna.exchange.pull = pull, pull_a  # type: ignore[method-assign]
            await anna.exchange.pull()
            stamps = {node.gone_l for node in Past(anna).gone_in(1)}
            assert len(stamps) == 1
            rows = await ask(anna, "trash")
            assert {row["path"]: row["by"] for row in rows} == {"/a": "Anna (desk)", "/b": "Bob (laptop)"}


async def test_a_deleted_tree_comes_back_whole_but_not_what_was_deleted_long_before(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workshop.open() as vault:
        top = make_dir(vault, b"top")
        deep = make_dir(vault, b"deep", top)
        for parent, name in ((top, b"a"), (top, b"stale"), (deep, b"b")):
            st = make_file(vault, name, vault.replica.ino_of(parent))
            content = vault.open_file(st)
            await content.write(0, name * 10, 1_000)
            vault.release_file(content)
        await vault.sync(20)
        remove_tree(vault, top, b"stale")
        await vault.sync(20)
        now = vault.wall_ms()
        monkeypatch.setattr(vault, "wall_ms", lambda: now + 7_200_000)
        remove_tree(vault, 1, b"top")
        await vault.sync(20)
        (row,) = await ask(vault, "trash")
        assert (row["path"], row["kind"], row["files"], row["size"]) == ("/top", "directory", 3, 10 + 50 + 10)
        assert {row["path"] for row in await ask(vault, "trash", b"/top/deep")} == {"/top/deep/b"}
        done = await restore(vault, b"/top")
        assert (done.files, done.folders, done.left) == (2, 2, 1)
        assert [path for path, _ in vault.replica.walk()] == [b"/top", b"/top/a", b"/top/deep", b"/top/deep/b"]
        await restore(vault, b"/top/stale")
        assert vault.replica.lookup(top, b"stale") is not None


async def test_a_file_out_of_a_deleted_tree_brings_its_folders_back(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        top = make_dir(vault, b"top")
        for name in (b"a", b"b"):
            make_file(vault, name, vault.replica.ino_of(top))
        await vault.sync(20)
        remove_tree(vault, 1, b"top")
        await restore(vault, b"top/a")
        assert [path for path, _ in vault.replica.walk()] == [b"/top", b"/top/a"]


async def test_what_an_atomic_save_replaced_is_an_older_version(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        first = await save(vault, b"f", b"one")
        await save(vault, b"f.tmp", b"two")
        over, under = vault.replica.lookup(1, b"f.tmp"), vault.replica.lookup(1, b"f")
        assert over is not None
        assert under is not None
        from cryptfs.format.operation import Replaced

        replica, node = vault.replica, vault.replica.node(first)
        assert node is not None
        old = Replaced(replica.ino_of(first), replica.extern_ver(under.lver), replica.extern_ver(node.cver))
        vault.submit(Rename(replica.ino_of(over.st), replica.extern_ver(over.lver), replica.ids.root_ino, b"f", old, 0))
        await vault.sync(20)
        assert await texts_of(vault, b"f") == [b"two", b"one"]
        assert await ask(vault, "trash") == []  # to people nothing was deleted
        await restore(vault, b"f")
        assert await read_file(vault, b"f") == b"one"
        assert [name for name, _, _ in vault.replica.entries(1)] == [b"f"]
        await restore(vault, b"f")
        assert await read_file(vault, b"f") == b"two"


async def test_an_unsent_content_is_not_replaced_while_the_store_is_away(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workshop.open() as vault:
        await save(vault, b"f", b"one", b"two")
        await write_file(vault, b"f", b"not sent")

        async def away(seconds: float | None = None) -> None:
            raise trio.TooSlowError

        monkeypatch.setattr(vault, "sync", away)
        with pytest.raises(Retry, match="not been sent"):
            await Restorer(vault).restore(b"f")
        assert await read_file(vault, b"f") == b"not sent"


async def test_a_missing_object_is_named_and_nothing_changes(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        await save(vault, b"f", b"x" * 2_000_000, b"two")
        await vault.sync(20)
    folder = workshop.base / "store"
    for path in (workshop.home.cache_dir / "packs").glob("*.pack"):
        path.unlink()
    (pack,) = [path for path in folder.glob("p*/*") if path.is_file()]
    store = DirectoryStore(folder)
    store.delete(f"p/{pack.name}" if pack.parent.name == "p" else str(pack.relative_to(folder)), Call())
    store.close()
    async with workshop.open() as vault:
        with pytest.raises(Damaged, match=pack.name):
            await Restorer(vault).restore(b"f")
        assert await read_file(vault, b"f") == b"two"


async def test_a_reader_sees_versions_and_trash_but_restores_nothing(world: World) -> None:
    rita = await world.admit("Rita", Tier.READER)
    async with world.anna.open() as anna:
        await save(anna, b"f", b"one", b"two")
        await save(anna, b"g", b"gone")
        remove_file(anna, b"g")
        await anna.sync(20)
    async with rita.open() as vault:
        assert await texts_of(vault, b"f") == [b"two", b"one"]
        assert [row["path"] for row in await ask(vault, "trash")] == ["/g"]
        for path in (b"f", b"g"):
            with pytest.raises(NotAllowed, match="reader"):
                await Restorer(vault).restore(path)
        assert await read_file(vault, b"f") == b"two"


async def test_the_version_before_a_time(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000_000_000_000]
    async with workshop.open() as vault:
        monkeypatch.setattr(vault, "wall_ms", lambda: clock[0])
        for text in (b"one", b"two", b"three"):
            await save(vault, b"f", text)
            clock[0] += 3_600_000
        await restore(vault, b"f", before_ms=1_000_000_000_000 + 3_600_001)
        assert await read_file(vault, b"f") == b"two"
        with pytest.raises(UsageError, match="before that time"):
            await restore(vault, b"f", before_ms=999_999_999_999)


@pytest.mark.parametrize(
    ("path", "error"), [(b"nothing", NotKept), (b"no/such", NotKept), (b"/", UsageError), (b"../f", UsageError)]
)
async def test_what_was_never_there_is_said_to_be(
    workshop: Workshop, path: bytes, error: Callable[[], Exception]
) -> None:
    async with workshop.open() as vault:
        with pytest.raises(error):  # type: ignore[call-overload]
            await Restorer(vault).restore(path)
