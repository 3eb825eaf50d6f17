"""Members who forge, on a vault that is open and running: readers, writers, and ex-members whom a reader helps.

They hold real keys and build objects that every key opens. What they lack is a signature that counts, a role, or a
place in the log; so nothing of it shows, it is named, and the vault goes on.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from cryptfs.crypto.keys import KeyLabel, manifest_ctx
from cryptfs.crypto.seal import seal
from cryptfs.errors import CryptfsError
from cryptfs.format.names import first_log_id, root_inode, segment_name
from cryptfs.format.operation import KIND_DIR, Create, Expire
from cryptfs.format.segment import build_segment, parse_segment
from cryptfs.format.segment_body import LogHead, SegmentBody
from cryptfs.group.authority import Tier
from cryptfs.vault import administration as do
from cryptfs.vault.people import choose
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.reference_reader import Reader
from tests.vault.vault_faults import state_of
from tests.vault.vault_workshop import read_file, write_file

MIB = 1 << 20


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@dataclass
class Forgery:
    """A segment that continues a log as its owner would, as somebody with the keys of `seen` can make it."""

    vault: bytes
    ks: bytes
    log_key: bytes
    log_id: bytes
    seq: int
    body: SegmentBody
    seed: bytes = field(repr=False)

    @classmethod
    def of(cls, seen: Vault, log_id: bytes, seed: bytes) -> "Forgery":
        standing = seen.standing
        state, ks = standing.logs.state(log_id), seen.keyring.write_keyset
        heads = tuple(
            LogHead(one, head.seq, head.digest)
            for one in sorted(standing.logs.ids())
            if one != log_id and (head := standing.logs.state(one).head(one)) and head.seq > state.seen.get(one, -1)
        )
        planted = Create(root_inode(seen.vault_id), b"forged", KIND_DIR, 0o755, 1, 1, 0, 1, b"", None)
        stamp = standing.logs.stamp_after(log_id, heads)
        body = SegmentBody(
            fmt=1, prev=state.digest, stamp=stamp, mheads=standing.mheads(), vec=heads,
            wall_ms=1, rules=1, client="forger", first_op=state.next_n, packs=(), attest=(), ops=(planted,), ext=(),
        )  # fmt: skip
        return cls(seen.vault_id, ks, seen.keyring.key(KeyLabel.LOG, ks), log_id, state.next_seq, body, seed)

    def but(self, **changes: object) -> "Forgery":
        """The same with other fields of the body."""
        return replace(self, body=msgspec.structs.replace(self.body, **changes))

    def plant(self, folder: Path, signature: bytes = b"") -> str:
        data, digest = build_segment(
            vault=self.vault, ks=self.ks, log_id=self.log_id, seq=self.seq, log_key=self.log_key, body=self.body,
            sign_seed=self.seed,
        )  # fmt: skip
        name = segment_name(self.log_id, self.seq, digest)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data[:-64] + signature if signature else data)
        return name


async def goes_on(vault: Vault, before: object) -> None:
    """The planted thing does not show; nothing is on hold."""
    await vault.exchange.pull()
    assert vault.replica.lookup(1, b"forged") is None
    assert state_of(vault) == before
    await write_file(vault, b"still", b"works")
    await vault.sync()
    assert await read_file(vault, b"still") == b"works"
    assert not vault.read_only


def log_of(who: Device, vault: Vault) -> bytes:
    (entry,) = (one.id for one in vault.membership.resolved.roster.values() if one.display == who.name)
    return first_log_id(entry)


@pytest.mark.parametrize("how", ["own log", "another's log", "another's log and signature", "new log of another"])
async def test_reader_forge_a_segment_that_every_key_opens(world: World, how: str) -> None:
    """T-reader-forge: signature and role keep a reader out, whatever it can seal."""
    rita = await world.admit("Rita", Tier.READER)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await write_file(anna, b"f", b"1")
        await anna.sync()
        async with rita.open() as hers:
            owner = {"own log": rita, "new log of another": bob}.get(how, world.anna)
            forgery = Forgery.of(hers, log_of(owner, anna), rita.keys.sign_seed)
        before = state_of(anna)
        signature = b""
        if how == "another's log and signature":
            last = max((world.folder / "l").iterdir(), key=lambda path: path.name.split("-")[1])
            signature = parse_segment(last.read_bytes(), world.vault).sig
        name = forgery.plant(world.folder, signature)
        await goes_on(anna, before)
        assert how == "own log" or name in anna.reader.problems
    async with bob.open() as his:  # the owner of the log whose first segment was forged
        await write_file(his, b"b", b"by Bob")
        await his.sync()
        assert await read_file(his, b"still") == b"works"


async def test_reader_forge_a_manifest_of_the_same_place(world: World) -> None:
    """T-reader-forge: a manifest that opens, under the right key and context, in place of the signed one."""
    rita = await world.admit("Rita", Tier.READER)
    async with world.anna.open() as anna:
        await write_file(anna, b"paged", bytes(range(256)) * (9 * MIB // 256))
        await write_file(anna, b"beside", b"b" * 200_000)
        await anna.sync()
    objects = {f"p/{path.name}": path.read_bytes() for path in (world.folder / "p").iterdir()}
    objects |= {f"l/{path.name}": path.read_bytes() for path in (world.folder / "l").iterdir()}
    objects |= {f"{one}/{path.name}": path.read_bytes() for one in "mw" for path in (world.folder / one).iterdir()}
    reader = Reader(world.vault, objects, [(rita.keys.cert_key_pkcs8, rita.keys.cert_der)])
    (page,) = (one for one in reader.opened if one.kind == "manifest" and one.about[0] == 0)
    async with rita.open() as hers:
        ks = hers.keyring.write_keyset
        plain = bytearray(reader.opened[page])
        plain[-1] ^= 1  # another hash of the last chunk
        fid = page.about[2].fid
        forged = seal(hers.keyring.key(KeyLabel.META, ks), manifest_ctx(world.vault, ks, fid, 0, 0), bytes(plain))
    name, off = page.where
    assert len(forged) == len(page.sealed)
    data = bytearray((world.folder / name).read_bytes())
    data[off : off + len(forged)] = forged
    (world.folder / name).chmod(0o600)
    (world.folder / name).write_bytes(data)
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open() as his:  # a device without any copy
        with pytest.raises(CryptfsError):
            await read_file(his, b"paged")
        assert await read_file(his, b"beside") == b"b" * 200_000


async def test_collude_reader_helps_an_ex_member_in_vain(world: World) -> None:
    """T-collude-reader, T-cut, T-late: old signing key and current keys together add nothing to the ex-member's log."""
    rita = await world.admit("Rita", Tier.READER)
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open() as his:
        await write_file(his, b"his", b"stays")
        await his.sync()
        backdated = Forgery.of(his, his.standing.log_id, bob.keys.sign_seed)
    async with world.anna.open() as anna:
        await anna.exchange.pull()
        await do.remove(anna, [one.id for one in choose(anna.membership, "Bob").entries], [])
        async with rita.open() as hers:
            await hers.exchange.pull()
            under_new_keys = Forgery.of(hers, backdated.log_id, bob.keys.sign_seed)
        assert under_new_keys.ks != backdated.ks
        before = state_of(anna)
        for forgery in (backdated, under_new_keys):
            forgery.plant(world.folder)
        await goes_on(anna, before)
        assert anna.status()["late_segments"]
        assert await read_file(anna, b"his") == b"stays"


WRONG = {
    "lamport: a stamp that is not the next": lambda one: one.but(stamp=one.body.stamp + 1),
    "fastforward: a huge stamp": lambda one: one.but(stamp=1 << 61),
    "a number already used": lambda one: one.but(first_op=0),
    "another past": lambda one: one.but(prev=bytes(31) + b"\1"),
    "keyset: an old key set": None,
    "rules: an operation of administrators": lambda one: one.but(ops=(Expire(1),)),
}


@pytest.mark.parametrize("how", WRONG)
async def test_writer_segments_against_a_rule_are_refused_named_and_hold_up_nobody_else(world: World, how: str) -> None:
    """T-lamport, T-fastforward, T-keyset, T-reorder: Bob's own key signs, and breaks a rule of segments."""
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open() as his:
        await write_file(his, b"his", b"1")
        await his.sync()
        await his.exchange.pull()
        if WRONG[how] is None:
            old = Forgery.of(his, his.standing.log_id, bob.keys.sign_seed)
            async with world.anna.open() as anna:
                await do.rotate(anna)
            await his.exchange.pull()
            wrong = replace(Forgery.of(his, old.log_id, old.seed), ks=old.ks, log_key=old.log_key)
        else:
            wrong = WRONG[how](Forgery.of(his, his.standing.log_id, bob.keys.sign_seed))
    async with world.anna.open() as anna:
        await anna.exchange.pull()
        before = state_of(anna)
        name = wrong.plant(world.folder)
        await goes_on(anna, before)
        assert name in anna.status()["refused_objects"]


async def test_logclaim_a_writer_signs_in_the_log_of_another(world: World) -> None:
    """T-logclaim."""
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await write_file(anna, b"f", b"1")
        await anna.sync()
        async with bob.open() as his:
            forgery = Forgery.of(his, anna.standing.log_id, bob.keys.sign_seed)
        before = state_of(anna)
        name = forgery.plant(world.folder)
        await goes_on(anna, before)
        assert name in anna.reader.problems


async def test_an_honest_segment_made_in_the_same_way_shows(world: World) -> None:
    """Otherwise all of the above would prove nothing."""
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open() as his:
        await write_file(his, b"his", b"1")
        await his.sync()
        honest = Forgery.of(his, his.standing.log_id, bob.keys.sign_seed)
    async with world.anna.open() as anna:
        honest.plant(world.folder)
        await anna.exchange.pull()
        assert anna.replica.lookup(1, b"forged") is not None
