"""Attacks on all objects of one vault: the provider exchanges, cuts, replays, renames and plants, without any key.

Whatever is done to the store, a device that comes new to it sees one of the states that the vault really went through,
or an error; and a file has the bytes it had in that state, or an error.
"""

import base64
import gzip
import random
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import pytest

from cryptfs.crypto import seal as seals
from cryptfs.errors import CryptfsError
from cryptfs.format.names import root_inode
from cryptfs.format.operation import KIND_DIR, KIND_SYMLINK, SET_MODE, Create, Rename, SetAttr, SetXattr
from cryptfs.store import SimStore
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import cause
from tests.vault.vault_faults import SimWorkshop, dying, forget_everything, sim_workshop
from tests.vault.vault_workshop import read_file, write_file

pytestmark = pytest.mark.usefixtures("still")

Tree = dict[bytes, tuple[object, ...]]
"""Path -> kind, mode, owner, size, mtime, target, xattrs, and the bytes of a file or why they cannot be had."""
REFUSED = "refused"


async def look(vault: Vault) -> Tree:
    """All that a user sees of the vault."""
    replica, found = vault.replica, {}

    async def walk(st: int, path: bytes) -> None:
        for name, child, _ in replica.entries(st):
            node = replica.node(child)
            assert node is not None
            xattrs = tuple((key, replica.xattr(child, key)) for key in sorted(replica.xattrs(child)))
            data: object = None
            if node.kind == 0:
                content = vault.open_file(child)
                try:
                    data = bytes(await content.read(0, max(content.size, 1)))
                except CryptfsError:
                    data = REFUSED
                vault.release_file(content)
            mtime_ns = 0 if node.kind == KIND_DIR else node.mtime_ns  # of directories it is this device's own
            attributes = (node.kind, node.mode, node.uid, node.gid, node.size, mtime_ns, node.target)
            found[path + b"/" + name] = (*attributes, xattrs, data)
            if node.kind == KIND_DIR:
                await walk(child, path + b"/" + name)

    await walk(1, b"")
    return found


def fits(seen: Tree, true: Tree) -> bool:
    """Whether `seen` is `true`, with errors here and there in place of the bytes of a file."""
    return seen.keys() == true.keys() and all(
        one[:-1] == true[path][:-1] and one[-1] in {REFUSED, true[path][-1]} for path, one in seen.items()
    )


class History:
    """A vault with a past: `states` are what it went through, one for each segment."""

    def __init__(self, sim: SimWorkshop) -> None:
        self.sim = sim
        self.states: list[Tree] = [{}]
        self.objects: dict[str, bytes] = {}
        self.foreign: dict[str, bytes] = {}
        """Objects of another vault."""

    async def make(self) -> None:
        async with self.sim.open() as vault:
            root, replica = root_inode(vault.vault_id), vault.replica
            steps: list[Callable[[], object]] = [
                lambda: write_file(vault, b"small", b"the small one"),
                lambda: write_file(vault, b"large", random.Random(1).randbytes(400_000)),
                lambda: write_file(vault, b"other", random.Random(2).randbytes(400_000)),
                lambda: vault.submit(Create(root, b"dir", KIND_DIR, 0o700, 1, 1, 0, 1, b"", None)),
                lambda: vault.submit(Create(root, b"link", KIND_SYMLINK, 0o777, 1, 1, 0, 1, b"small", None)),
                lambda: vault.submit(SetAttr(_ino(vault, b"small"), SET_MODE, 0o600, 0, 0, 0)),
                lambda: vault.submit(SetXattr(_ino(vault, b"large"), b"user.x", b"value")),
                lambda: vault.submit(
                    Rename(_ino(vault, b"other"), replica.extern_ver(replica.lookup(1, b"other").lver),
                           _ino(vault, b"dir"), b"moved", None, 0)
                ),
                lambda: write_file(vault, b"large", b"changed in its middle", 200_000),
            ]  # fmt: skip
            for step in steps:
                done = step()
                if not isinstance(done, int):
                    await done  # type: ignore[misc]
                await vault.sync()
                self.states.append(await look(vault))
        self.objects = self.sim.world.snapshot()

    async def seen_with(self, objects: dict[str, bytes]) -> Tree | None:
        """What a new device sees of a store with these objects; None: it does not open."""
        for name in self.sim.world.snapshot():
            self.sim.world.lose(name)
        for name, data in objects.items():
            self.sim.world.plant(name, data)
        forget_everything(self.sim)
        try:
            async with self.sim.open() as vault:
                await vault.exchange.pull()
                return await look(vault)
        except CryptfsError:
            return None
        except BaseExceptionGroup as group:
            if isinstance(cause(group), CryptfsError):
                return None
            raise

    def allows(self, seen: Tree | None) -> bool:
        return seen is None or any(fits(seen, state) for state in self.states)


def _ino(vault: Vault, name: bytes) -> bytes:
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    return vault.replica.ino_of(entry.st)


@pytest.fixture
async def history(sim: SimWorkshop) -> History:
    made = History(sim)
    await made.make()
    assert len(made.states) == len(sim.names("l")) + 1
    return made


async def test_an_untouched_store_shows_the_last_state(history: History) -> None:
    """Otherwise the rest would prove nothing."""
    assert await history.seen_with(history.objects) == history.states[-1]


async def test_splice_rename_swap_and_reorder_of_all_pairs_of_objects(history: History) -> None:
    """T-splice, T-rename-swap, T-reorder: every two objects change names; every one takes the other's place, too."""
    refused = 0
    for one, other in combinations(sorted(history.objects), 2):
        a, b = history.objects[one], history.objects[other]
        for twist in ({one: b, other: a}, {one: b}):
            seen = await history.seen_with(history.objects | twist)
            assert history.allows(seen), (one, other)
            refused += seen != history.states[-1]
    assert refused > len(history.objects)


async def test_splice_of_halves_of_all_pairs_of_one_class(history: History) -> None:
    """T-splice: the beginning of one object and the end of another."""
    for folder in "lpmw":
        names = [name for name in history.objects if name.startswith(folder)]
        for one, other in combinations(names, 2):
            a, b = history.objects[one], history.objects[other]
            for cut in (len(a) // 2, len(a) - 64):
                assert history.allows(await history.seen_with(history.objects | {one: a[:cut] + b[cut:]}))


async def test_mode_tamper_and_flips_all_over_the_log_change_no_attribute(history: History) -> None:
    """T-mode-tamper, T-flip: names, modes, owners, times, links and xattrs are those of a state there was."""
    rng = random.Random(3)
    for name in [one for one in history.objects if one[0] in "lmw"]:
        data = history.objects[name]
        for at in sorted(rng.sample(range(len(data)), 6)):
            twisted = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            assert history.allows(await history.seen_with(history.objects | {name: twisted})), (name, at)


async def test_delete_of_any_object_shows_an_earlier_state_or_an_error(history: History) -> None:
    """T-delete."""
    for name in history.objects:
        seen = await history.seen_with({one: data for one, data in history.objects.items() if one != name})
        assert history.allows(seen), name


def _planted(history: History) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Objects under names they do not have: next numbers of the log, other logs, other vaults, twins, nonsense."""
    objects = history.objects
    logs = sorted(name for name in objects if name.startswith("l/"))
    log_id, last = logs[-1][2:34], len(logs)
    for name in logs:
        yield "framing", {f"l/{log_id}-{last:010}-{'0' * 16}": objects[name]}
        yield "inject file", {f"l/{'a' * 32}-{int(name.split('-')[1]):010}-{name[-16:]}": objects[name]}
        header = bytearray(objects[name])
        header[64 + 16 : 64 + 24] = last.to_bytes(8, "big")  # says that it is the next
        yield "framing", {f"l/{log_id}-{last:010}-{'1' * 16}": bytes(header)}
    for name in objects:
        yield "twins", {f"{name[:-4]}{'beef' if not name.endswith('beef') else 'cafe'}": objects[name]}
        yield "poison", {name[:-4] + "dead": b"\0" * 300}
    for name, data in history.foreign.items():
        yield "inject dir", {name: data} if name not in objects else {name[:-4] + "abcd": data}


async def test_inject_file_inject_dir_framing_twins_and_poison_show_nothing_new(
    history: History, tmp_path: Path
) -> None:
    """T-inject-file, T-inject-dir, T-framing, T-twins, T-poison: what is planted never shows, and hides nothing."""
    (tmp_path / "other").mkdir()
    elsewhere = sim_workshop(tmp_path / "other", 2)
    async with elsewhere.open() as vault:
        await write_file(vault, b"planted", b"by another vault")
        await vault.sync()
    history.foreign = elsewhere.world.snapshot()
    for what, planted in _planted(history):
        assert await history.seen_with(history.objects | planted) == history.states[-1], (what, *planted)


async def test_poison_all_of_it_at_once(history: History) -> None:
    """T-poison."""
    everything: dict[str, bytes] = {}
    for _, planted in _planted(history):
        everything |= planted
    assert await history.seen_with(everything | history.objects) == history.states[-1]


# ---- what the store learns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["closed", "killed"])
async def test_plainscan_no_form_of_a_word_is_in_store_or_local_state(sim: SimWorkshop, end: str) -> None:
    """T-plainscan, T-disk: raw, UTF-16, base64 and compressed; as contents, names, xattrs, link targets."""
    word = "canary-7f3a9c-canary"
    forms = {
        "raw": word.encode(),
        "utf-16": word.encode("utf-16-le"),
        "base64": base64.b64encode(word.encode() * 3),
        "compressed": gzip.compress(word.encode() * 50, mtime=0)[10:],
    }
    async with sim.open() if end == "closed" else dying(sim) as vault:
        root = root_inode(vault.vault_id)
        for name, data in forms.items():
            await write_file(vault, name.encode(), data)
            await write_file(vault, name.encode() + b" large", data * 20_000)
            vault.submit(Create(root, data.replace(b"/", b"_").replace(b"\0", b"_")[:200], KIND_DIR, 0o755, 1, 1, 0, 1,
                                b"", None))  # fmt: skip
            vault.submit(SetXattr(_ino(vault, name.encode()), b"user.k", data))
        vault.submit(Create(root, b"link", KIND_SYMLINK, 0o777, 1, 1, 0, 1, forms["raw"], None))
        if end == "closed":
            await vault.sync()
        else:
            await vault.commit()  # it is in the journal and in packs that nobody has
        await read_file(vault, b"raw large")
    places = dict(sim.world.snapshot())
    places |= {str(path): path.read_bytes() for path in sim.base.rglob("*") if path.is_file()}
    assert len(places) > 10
    for name, data in forms.items():
        found = [place for place, content in places.items() if data in content or data[:20] in content]
        assert not found, (name, found)


async def test_nodedup_determinism_and_snapshots_the_same_file_twice_is_unrelated_bytes(sim: SimWorkshop) -> None:
    """T-nodedup, T-determinism, T-snapshots: nothing in the store tells that two files, or two versions, are equal."""
    data = random.Random(4).randbytes(300_000)
    async with sim.open() as vault:
        await write_file(vault, b"one", data)
        await write_file(vault, b"two", data)
        await vault.sync()
        await write_file(vault, b"one", data)
        await vault.sync()
    blocks: dict[bytes, int] = {}
    for name, content in sim.world.snapshot().items():
        if name[0] in "lp":
            body = content[80:]
            for at in range(0, len(body) - 16, 16):
                for shift in (0, 8):
                    block = body[at + shift : at + shift + 16]
                    blocks[block] = blocks.get(block, 0) + 1
    assert len(blocks) > 100_000
    assert max(blocks.values()) == 1


def _recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """(key, salt) of every SEAL from now on."""
    real, seen = seals.Cobblestone256Encryptor, []

    class Recording:
        def __init__(self, key: bytes, ctx: bytes) -> None:
            self._inner, self._key, self._told = real(key, ctx), bytes(key), False

        def _tell(self, out: bytes) -> bytes:
            if out and not self._told:
                self._told = True
                assert len(out) >= 24
                seen.append((self._key, bytes(out[:24])))
            return out

        def update(self, data: bytes) -> bytes:
            return self._tell(self._inner.update(data))

        def update_into(self, data: bytes, out: memoryview) -> int:
            written = self._inner.update_into(data, out)
            self._tell(out[:written])
            return written

        def finalize(self) -> bytes:
            return self._tell(self._inner.finalize())

    monkeypatch.setattr(seals, "Cobblestone256Encryptor", Recording)
    return seen


async def test_nonce_unique_over_a_long_run_and_two_clones(sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """T-nonce-unique: no (key, salt) comes twice, also when one device runs twice with the same keys and state."""
    seen = _recorded(monkeypatch)
    other = SimWorkshop(sim.base / "clone", sim.keys, lambda: SimStore(sim.world, 2, sim.knobs))
    other.world, other.knobs = sim.world, sim.knobs
    rng = random.Random(5)
    for device in (sim, other, sim):
        async with device.open() as vault:
            for number in range(120):
                await write_file(vault, b"%d" % rng.randrange(20), rng.randbytes(rng.choice((10, 5_000, 90_000))))
                if number % 10 == 0:
                    await vault.commit()
            if device is sim:
                await vault.sync()
    assert len(seen) > 500
    assert len(set(seen)) == len(seen)
