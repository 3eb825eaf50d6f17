"""Letting in, putting out, recovering: real stores, real keys, several devices; and noise in the folder."""

import logging
import random
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from cryptfs.crypto.certificate import Refused
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import LocalSecret, new_sign_seed, random_bytes
from cryptfs.crypto.recovery import new_recovery_seed
from cryptfs.errors import ConfigError, HostileStore, NotAllowed, UsageError
from cryptfs.format.content import Content
from cryptfs.format.names import parse_name, segment_name
from cryptfs.group.authority import Tier
from cryptfs.vault import administration as do
from cryptfs.vault.acts import perform
from cryptfs.vault.certificates import certificates_at
from cryptfs.vault.invitations import InvitationBook
from cryptfs.vault.joining import Joining, look, words_of
from cryptfs.vault.leaving import leave_vault
from cryptfs.vault.people import choose, describe, unused_label
from cryptfs.vault.policies import POLICY_KEYS, changed_policy, policy_values
from cryptfs.vault.reconciling import keep_reconciled
from cryptfs.vault.recovering import admit_owner, open_by_recovery, remove_by_recovery
from cryptfs.vault.vault import Vault
from tests.patience import SECONDS
from tests.vault.administration_world import Device, World, now_ms
from tests.vault.vault_workshop import read_file, write_file


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def write(device: Device, name: bytes, data: bytes) -> None:
    async with device.open() as vault:
        await write_file(vault, name, data)
        await vault.sync()


async def read(device: Device, name: bytes) -> bytes:
    async with device.open() as vault:
        return await read_file(vault, name)


def entries_of(vault: Vault, who: str) -> list[bytes]:
    return [one.id for one in choose(vault.membership, who).entries]


async def remove(world: World, who: str) -> None:
    async with world.anna.open() as vault:
        chosen = choose(vault.membership, who)
        await do.remove(vault, [one.id for one in chosen.entries], [chosen.member] if chosen.whole else [])


# ---- letting in -----------------------------------------------------------------------------------------------------


async def test_who_was_invited_asked_and_was_approved_reads_and_writes(world: World) -> None:
    await write(world.anna, b"before", b"old")
    bob = await world.admit("Bob", Tier.WRITER)
    assert await read(bob, b"before") == b"old"
    await write(bob, b"mine", b"new")
    assert await read(world.anna, b"mine") == b"new"


async def test_nobody_is_in_before_the_approval(world: World) -> None:
    bob = world.device("Bob")
    await bob.ask(await world.invite(Tier.WRITER))
    with pytest.raises(NotAllowed, match="waits for an administrator"):
        async with bob.open():
            pass
    await world.approve("Bob")
    await remove(world, "Bob")
    with pytest.raises(NotAllowed, match="removed again by Anna"):
        async with bob.open():
            pass
    stranger = world.device("Eve")
    with pytest.raises(ConfigError, match="not in the group"):
        async with stranger.open():
            pass


async def test_one_more_device_of_a_member_is_listed_as_theirs(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as vault:
        member = choose(vault.membership, "Bob").member
    phone = world.device("Bobby")
    await phone.ask(await world.invite(Tier.WRITER, member=member))
    welcome = await world.approve("Bobby")
    assert (welcome.display, welcome.device) == ("Bob", "laptop 2")
    async with bob.sender() as sender:
        membership = await look(sender, bob.keys)
        certificates = await certificates_at(sender, bob.home, membership, now_ms)
        rows = describe(membership, {}, certificates.findings())
    assert [(row["member"], row["device"]) for row in rows if row["member_id"] == member.hex()] == [
        ("Bob", "laptop"),
        ("Bob", "laptop 2"),
    ]


async def test_the_administrators_name_counts_and_not_the_newcomers(world: World) -> None:
    eve = world.device("Anna the second")
    await eve.ask(await world.invite(Tier.READER, name="Eve"))
    assert (await world.approve("Eve")).display == "Eve"


async def test_the_role_is_that_of_the_invitation_whatever_the_token_was_changed_to(world: World) -> None:
    token = await world.invite(Tier.READER)
    bob = world.device("Bob")
    await bob.ask(type(token)(*(Tier.OWNER if f == "role" else getattr(token, f) for f in token.__struct_fields__)))
    assert (await world.approve("Bob")).role is Tier.READER


async def test_token_a_second_device_under_one_token_is_held_up(world: World) -> None:
    """T-token."""
    token = await world.invite(Tier.WRITER)
    await world.device("Bob").ask(token)
    await world.device("Eve").ask(token)
    for name in ("Bob", "Eve"):
        with pytest.raises(NotAllowed, match="several devices ask"):
            await world.approve(name)


async def test_token_reuse_and_expiry_need_words(world: World) -> None:
    """T-token."""
    token = await world.invite(Tier.WRITER)
    await world.device("Bob").ask(token)
    await world.approve("Bob")
    eve = world.device("Eve")
    await eve.ask(token)
    with pytest.raises(NotAllowed, match="was used already"):
        await world.approve("Eve")
    late = world.device("Late")
    await late.ask(await world.invite(Tier.WRITER, expires_ms=1))
    with pytest.raises(NotAllowed, match="has expired"):
        await world.approve("Late")
    with pytest.raises(NotAllowed, match="not the words"):
        await world.approve("Late", words=" ".join(words_of(eve.keys)))
    assert (await world.approve("Late", words=" ".join(words_of(late.keys)).upper())).role is Tier.WRITER


async def test_a_request_replayed_after_its_device_was_removed_lets_nobody_in(world: World) -> None:
    bob = world.device("Bob")
    await bob.ask(await world.invite(Tier.WRITER))
    (request,) = (world.folder / "j").iterdir()
    data = request.read_bytes()
    await world.approve("Bob")
    await remove(world, "Bob")
    request.write_bytes(data)
    with pytest.raises(NotAllowed, match="was used already"):
        await world.approve("Bob")


async def test_without_an_invitation_words_and_a_role_are_needed(world: World) -> None:
    async with world.anna.open() as vault:
        token = await do.point_here(vault, Tier.READER)
    bob = world.device("Bob")
    await bob.ask(token)
    with pytest.raises(NotAllowed, match="without an invitation"):
        await world.approve("Bob")
    with pytest.raises(UsageError, match="needs a role"):
        await world.approve("Bob", words=" ".join(words_of(bob.keys)))
    assert (await world.approve("Bob", words=" ".join(words_of(bob.keys)), role=Tier.READER)).role is Tier.READER  # type: ignore[arg-type]


async def test_a_denied_request_is_gone_and_stays_away_when_it_is_posted_again(world: World) -> None:
    bob = world.device("Bob")
    joining = await bob.ask(await world.invite(Tier.WRITER))
    async with world.anna.open() as vault:
        await do.deny(vault, await do.find_request(vault, "Bob"))
        assert not list((world.folder / "j").iterdir())
        async with bob.sender() as sender:
            await joining.post(sender)
        assert (await do.pending_requests(vault)).requests == ()


async def test_wraps_are_in_the_folder_before_the_statement_that_needs_them(world: World) -> None:
    puts: list[str] = []
    await world.device("Bob").ask(await world.invite(Tier.WRITER))
    async with world.anna.open() as vault:
        put = vault.sender.put_until_confirmed

        async def noticed(key: str, data: bytes | Path) -> None:
            puts.append(key[:2])
            await put(key, data)

        vault.sender.put_until_confirmed = noticed  # type: ignore[method-assign]
        await do.approve(vault, await do.find_request(vault, "Bob"))
        await do.rotate(vault)
    assert "".join(puts) == "w/m/l/" * 2


async def test_who_has_the_certificate_is_in_without_asking(world: World) -> None:
    dora = world.device("Dora")
    dora.keys = DeviceKeys(
        world.vault, bytes(32), dora.keys.cert_key_pkcs8, dora.keys.cert_der, b"", LocalSecret(random_bytes(32))
    )
    async with world.anna.open() as vault:
        _, token = await do.add_by_certificate(
            vault, cert=dora.keys.cert_der, display="Dora", label="desk", role=Tier.WRITER, member=b""
        )
        with pytest.raises(Refused):
            await do.add_by_certificate(vault, cert=b"none", display="X", label="", role=Tier.WRITER, member=b"")
    joining = Joining(dora.home, dora.keys)
    joining.prepare(token, "Dora", "desk", now_ms())
    await write(dora, b"hers", b"data")
    assert await read(world.anna, b"hers") == b"data"


# ---- the first view -------------------------------------------------------------------------------------------------


async def test_a_folder_older_than_the_inviters_is_not_opened(world: World) -> None:
    token = await world.invite(Tier.WRITER)
    bob = world.device("Bob")
    await bob.ask(token)
    await world.approve("Bob")
    anchor = world.folder / segment_name(token.as_of.log, token.as_of.seq, token.as_of.digest)
    hidden = world.base / "hidden"
    anchor.rename(hidden)
    with pytest.raises(HostileStore, match="older state"):
        async with bob.open():
            pass
    hidden.rename(anchor)
    async with bob.open() as vault:
        assert vault.membership.role is Tier.WRITER
    anchor.unlink()  # checked once, at the first opening
    assert Joining(bob.home, bob.keys).token is None


# ---- putting out ----------------------------------------------------------------------------------------------------


async def test_what_is_written_after_a_removal_is_under_a_key_the_removed_does_not_get(world: World) -> None:
    """T-exmember, the part that administration settles."""
    bob = await world.admit("Bob", Tier.WRITER)
    await write(bob, b"his", b"stays")
    await remove(world, "Bob")
    await write(world.anna, b"after", b"secret")
    assert await read(world.anna, b"his") == b"stays"
    async with bob.sender() as sender:
        seen = await look(sender, bob.keys)
    assert seen.entry is None
    assert set(seen.resolved.eids).isdisjoint(seen.keyring.eids)
    async with bob.open() as vault:
        assert vault.read_only
        assert vault.replica.lookup(1, b"after") is None


async def test_device_remove_the_members_other_devices_go_on(world: World) -> None:
    """T-device-remove."""
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as vault:
        member = choose(vault.membership, "Bob").member
    await world.admit("Bobby", Tier.WRITER, member)
    await remove(world, "Bob/laptop 2")
    await write(bob, b"still", b"here")
    assert await read(world.anna, b"still") == b"here"


async def test_last_owner_nobody_removes_or_lowers_the_last_owner(world: World) -> None:
    """T-last-owner."""
    carl = await world.admit("Carl", Tier.ADMIN)
    async with carl.open() as vault:
        with pytest.raises(NotAllowed, match="does not stand above"):
            await do.remove(vault, entries_of(vault, "Anna"), [])
    async with world.anna.open() as vault:
        with pytest.raises(NotAllowed, match="cannot remove itself"):
            await do.remove(vault, entries_of(vault, "Anna"), [])
        with pytest.raises(NotAllowed, match="own role"):
            await do.change_role(vault, entries_of(vault, "Anna"), Tier.ADMIN)


async def test_writer_roster_acts_are_for_administrators(world: World) -> None:
    """T-writer-roster, the part that a person meets."""
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open() as vault:
        for act in (
            do.rotate(vault),
            do.remove(vault, entries_of(vault, "Anna"), []),
            do.set_policy(vault, {"crl": 1}),
        ):
            with pytest.raises(NotAllowed, match="Only admins and owners"):
                await act
        with pytest.raises(NotAllowed, match="Only admins and owners"):
            await do.make_invitation(vault, role=Tier.READER, expires_ms=1, name="", member=b"")
    carl = await world.admit("Carl", Tier.ADMIN)
    async with carl.open() as vault:
        with pytest.raises(NotAllowed, match="Only owners"):
            await do.make_invitation(vault, role=Tier.ADMIN, expires_ms=1, name="", member=b"")


async def test_after_a_change_of_role_the_device_goes_on_and_loses_nothing(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    await write(bob, b"one", b"1")
    async with bob.open() as vault:
        await write_file(vault, b"two", b"2")
        await vault.commit()
        vault.sealer.seal = nothing  # type: ignore[method-assign]  # still in the journal when the role changes
        async with world.anna.open() as hers:
            (changed,) = await do.change_role(hers, entries_of(hers, "Bob"), Tier.ADMIN)
    assert changed.role is Tier.ADMIN
    async with bob.open() as vault:
        await vault.sync()
        await do.rotate(vault)
    for name, data in ((b"one", b"1"), (b"two", b"2")):
        assert await read(world.anna, name) == data


async def nothing(**_: object) -> bool:
    await trio.sleep_forever()
    return False


async def test_two_changes_of_the_key_at_once_are_reconciled(world: World) -> None:
    carl = await world.admit("Carl", Tier.ADMIN)
    async with world.anna.open() as hers, carl.open() as his:
        ours = [do.desk_of(one).rotate() for one in (hers, his)]
        for one, decision in zip((hers, his), ours, strict=True):
            await do.publish(one.sender, decision.objects)
        await hers.exchange.pull()
        assert len(hers.membership.resolved.epochs) == 2
        assert await do.reconcile(hers) is not None
        assert len(hers.membership.resolved.epochs) == 1
        assert await do.reconcile(hers) is None


async def test_who_leaves_is_shown_to_have_left(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    await write(bob, b"his", b"stays")
    async with bob.open() as vault:
        await leave_vault(vault)
    async with world.anna.open() as vault:
        assert [row["left"] for row in describe(vault.membership, {}, vault.certificates.findings())] == [False, True]
        assert await read_file(vault, b"his") == b"stays"


# ---- recovery -------------------------------------------------------------------------------------------------------


async def test_recovery_a_lost_founder_is_replaced_from_the_words_alone(world: World) -> None:
    """T-recovery."""
    await write(world.anna, b"f", b"kept")
    bob = await world.admit("Bob", Tier.WRITER)
    rescuer = world.device("Rescuer")
    async with rescuer.sender() as sender:
        membership, _ = await open_by_recovery(sender, world.seed)
        await admit_owner(sender, membership, rescuer.keys, ("Rescuer", "desk"), {})
    async with rescuer.open() as vault, rescuer.sender() as sender:
        assert vault.membership.role is Tier.OWNER
        membership, _ = await open_by_recovery(sender, world.seed)
        await remove_by_recovery(sender, membership, [world.anna.keys.entry], [], do.ends_of(vault))
        await vault.exchange.pull()
        await write_file(vault, b"g", b"new")
        await vault.sync()
    assert (await read(bob, b"f"), await read(bob, b"g")) == (b"kept", b"new")
    async with world.anna.open() as vault:
        assert vault.read_only
        assert vault.replica.lookup(1, b"g") is None


async def test_recovery_words_of_another_vault_do_nothing(world: World) -> None:
    before = sorted(world.folder.rglob("*"))
    async with world.anna.sender() as sender:
        with pytest.raises(NotAllowed, match="do not belong to this vault"):
            await open_by_recovery(sender, new_recovery_seed())
    assert sorted(world.folder.rglob("*")) == before


# ---- noise in the folder --------------------------------------------------------------------------------------------


def make_noise(world: World, other: World, rng: random.Random) -> dict[str, int]:
    """Garbage of every kind under names that look right; returns how much in each folder."""
    count = {"m": 0, "w": 0, "j": 0}
    for folder in count:
        (world.folder / folder).mkdir(exist_ok=True)
        honest = [path.read_bytes() for path in (world.folder / folder).iterdir()]
        foreign = [path.read_bytes() for path in (other.folder / folder).iterdir()]
        noise = [b"", b"\0", rng.randbytes(500), *foreign, *honest]
        for data in honest:
            noise += [data[: rng.randrange(len(data))], data + b"\0", data[:-1] + bytes([data[-1] ^ 1])]
            place = rng.randrange(len(data))
            noise.append(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        for data in noise:
            name = {"m": 32, "w": 0, "j": 16}[folder]
            text = rng.randbytes(name).hex() if name else f"{rng.randbytes(16).hex()}-{rng.randbytes(8).hex()}"
            assert parse_name(f"{folder}/{text}") is not None
            (world.folder / folder / text).write_bytes(data)
            count[folder] += 1
    return count


async def test_noise_of_every_kind_is_counted_and_named_and_stops_nothing(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = World(tmp_path / "elsewhere")
    await other.device("Mallory").ask(await other.invite(Tier.WRITER))
    bob = await world.admit("Bob", Tier.WRITER)
    carol = world.device("Carol")
    await carol.ask(await world.invite(Tier.WRITER))
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    count = make_noise(world, other, random.Random(seed))
    with caplog.at_level(logging.WARNING):
        await write(bob, b"f", b"works")
    assert "ignored" in caplog.text
    async with world.anna.open() as vault:
        assert sum(one.count for one in vault.membership.ignored) == count["m"] + count["w"]
        assert all(one.names for one in vault.membership.ignored)
        pending = await do.pending_requests(vault)
        assert {one.asking.body.display for one in pending.requests} == {"Carol"}
        assert len(pending.left_out) >= count["j"] - 1  # a second copy of Carol's is no harm and no news
        await do.approve(vault, pending.requests[0])
        await do.remove(vault, entries_of(vault, "Bob"), [])
    await write(carol, b"g", b"works too")
    assert await read(world.anna, b"g") == b"works too"


async def test_no_object_is_read_beyond_what_an_honest_one_has_and_noise_is_not_kept(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    (world.folder / "j").mkdir(exist_ok=True)
    honest = sum(1 for folder in ("m", "w") for _ in (world.folder / folder).iterdir())
    for name in (f"m/{'a' * 64}", f"w/{'a' * 32}-{'b' * 16}", f"j/{'a' * 32}"):
        with (world.folder / name).open("wb") as endless:
            endless.truncate(16 << 20)
    lengths: list[int] = []
    async with bob.open():
        copies = list((bob.home.cache_dir / "members").iterdir())
        assert len(copies) == honest + 1  # and the genesis
    async with world.anna.open() as vault:
        get = vault.sender.get

        async def noticed(*args: object, **more: object) -> bytes:
            data = await get(*args, **more)  # type: ignore[arg-type]
            lengths.append(len(data))
            return data

        vault.sender.get = noticed  # type: ignore[method-assign]
        pending = await do.pending_requests(vault)
        await vault.refresh_membership()
    assert pending.requests == ()
    assert len(pending.left_out) == 1
    assert len(lengths) >= 3
    assert max(lengths) < 2 << 20


async def test_half_a_statement_is_read_again_when_it_is_whole(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open():
        pass
    before = set((world.folder / "m").iterdir())
    await remove(world, "Bob")
    (removal,) = set((world.folder / "m").iterdir()) - before
    whole = removal.read_bytes()
    removal.chmod(0o600)
    removal.write_bytes(whole[:-10])
    async with bob.open() as vault:
        assert vault.membership.role is Tier.WRITER
        removal.write_bytes(whole)
        await vault.refresh_membership()
        assert vault.membership.role is None
    removal.write_bytes(whole[:-10])  # from now on this device has a copy of its own
    async with bob.open() as vault:
        assert vault.membership.role is None


async def test_a_removal_that_vanishes_from_the_folder_still_counts_here(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open():
        pass
    before = set((world.folder / "m").iterdir())
    await remove(world, "Bob")
    (removal,) = set((world.folder / "m").iterdir()) - before
    async with bob.open() as vault:
        assert vault.membership.role is None
    removal.unlink()
    async with bob.open() as vault:
        assert vault.membership.role is None


# ---- small things ---------------------------------------------------------------------------------------------------


async def test_invitations_are_sealed_and_an_altered_file_is_refused(world: World) -> None:
    token = await world.invite(Tier.WRITER)
    path = world.anna.home.data_dir / "invitations.cfs"
    data = path.read_bytes()
    assert token.secret not in data
    async with world.anna.open() as vault:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(HostileStore):
            InvitationBook(vault.home, vault.membership)


async def test_names_choose_only_where_they_fit_one_member(world: World) -> None:
    await world.admit("Bob", Tier.WRITER)
    await world.admit("Bob", Tier.READER)
    async with world.anna.open() as vault:
        membership = vault.membership
        with pytest.raises(UsageError, match="can mean several"):
            choose(membership, "Bob")
        with pytest.raises(UsageError, match="nobody called"):
            choose(membership, "Eve")
        for one in membership.resolved.roster.values():
            assert choose(membership, one.id.hex()[:10]).entries == (one,)
            assert choose(membership, one.member.hex()[:10]).whole
            assert unused_label(membership, one.member, one.device.label) == f"{one.device.label} 2"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trust", "everybody"), ("trust", "org-ca"), ("crl", "maybe"), ("roster_age_days", "0"), ("min_format", "2"),
        ("roster_age_days", "\u0663"), ("eku", "1.x"), ("ca", "!"), ("color", "red"),
    ],
)  # fmt: skip
async def test_settings_out_of_range_are_refused(world: World, key: str, value: str) -> None:
    async with world.anna.open() as vault:
        with pytest.raises(UsageError):
            changed_policy(vault.membership.resolved.policy, key, value)


async def test_a_setting_holds_for_everybody(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as vault:
        await perform(vault, "policy", {"key": "roster_age_days", "value": "3"})
    async with bob.open() as vault:
        shown = policy_values(vault.membership.resolved.policy)
        assert shown["roster_age_days"] == 3
        assert {*shown, "ca"} >= set(POLICY_KEYS)


@pytest.mark.parametrize(
    ("act", "arguments"),
    [
        ("explode", {}), ("invite", {"role": "king"}), ("invite", {"role": "reader", "expires_ms": "soon"}),
        ("invite", {"role": "reader", "name": "a\nb", "expires_ms": 1}), ("approve", {"request": 5}),
        ("remove", {"entries": "all"}), ("remove", {"entries": ["xyz"]}), ("add", {"cert": "%"}),
        ("who", {"who": "Eve"}), ("approve", {"request": "ffffffff"}), ("add", {"cert": "", "member": "Eve"}),
    ],
)  # fmt: skip
async def test_arguments_that_make_no_sense_are_usage_errors(
    world: World, act: str, arguments: dict[str, object]
) -> None:
    async with world.anna.open() as vault:
        with pytest.raises(UsageError):
            await perform(vault, act, arguments)


async def test_a_device_with_its_own_seed_does_not_pass_for_another(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    eve = world.device("Eve")
    eve.keys = DeviceKeys(
        world.vault,
        bytes(32),
        bob.keys.cert_key_pkcs8,
        bob.keys.cert_der,
        new_sign_seed(),
        LocalSecret(random_bytes(32)),
    )
    await eve.ask(await world.invite(Tier.WRITER))
    with pytest.raises(NotAllowed, match="belong to Bob already"):
        await world.approve("Eve")


# ---- by itself -------------------------------------------------------------------------------------------------------


async def test_two_removals_at_once_are_finished_by_an_administrators_mount(world: World) -> None:
    """T-collude-removed, the part that administration settles: the gate is closed, then opened by one rotation."""
    carl = await world.admit("Carl", Tier.ADMIN)
    await world.admit("Bob", Tier.WRITER)
    await world.admit("Eve", Tier.WRITER)
    async with world.anna.open() as hers, carl.open() as his:
        await hers.exchange.pull()
        await his.exchange.pull()
        decisions = [
            do.desk_of(vault).remove(entries_of(vault, who), [], do.ends_of(vault))
            for vault, who in ((hers, "Bob"), (his, "Eve"))
        ]
        for decision in decisions:
            await do.publish(hers.sender, decision.objects)
        await hers.exchange.pull()
        assert not hers.membership.gate.open
        with pytest.raises(NotAllowed, match="finish removing Bob"):
            await hers.introduce()
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_reconciled, hers, trio.Lock(), (0.0, 0.0))
                while not hers.membership.gate.open:
                    await trio.lowlevel.checkpoint()
                while not hers.standing.log.next_seq:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        await his.exchange.pull()
        assert his.membership.gate.open
        assert len(his.membership.resolved.epochs) == 1
        assert {one.display for one in his.membership.resolved.roster.values()} == {"Anna", "Carl"}


async def test_a_mount_with_nothing_to_reconcile_changes_nothing(world: World) -> None:
    async with world.anna.open() as vault:
        before = sorted((world.folder / "m").iterdir())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_reconciled, vault, trio.Lock(), (0.0, 0.0))
            told, vault.exchange.settled = vault.exchange.settled, trio.Event()
            told.set()
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()
        assert sorted((world.folder / "m").iterdir()) == before


async def test_work_goes_on_while_nobody_knows_the_key_and_is_kept_over_a_restart(world: World) -> None:
    """Found by the simulation of whole vaults, seed 1460: a device that had saved something could not be opened."""
    carl = await world.admit("Carl", Tier.ADMIN)
    await world.admit("Bob", Tier.WRITER)
    await world.admit("Eve", Tier.WRITER)
    async with world.anna.open() as hers:
        await write_file(hers, b"before", b"1" * 100_000)
        await hers.sync()
        async with carl.open() as his:
            await his.exchange.pull()
            for vault, who in ((hers, "Bob"), (his, "Eve")):
                decision = do.desk_of(vault).remove(entries_of(vault, who), [], do.ends_of(vault))
                await do.publish(hers.sender, decision.objects)
        await hers.exchange.pull()
        assert not hers.keyring.may_seal
        await write_file(hers, b"before", b"2" * 70_000, 5)
        content = hers.open_file(await write_file(hers, b"saved", b"x"))
        await content.write(1, b"yz", 1)
        content.persist()
        await hers.commit()
    async with world.anna.open() as hers:
        assert not hers.keyring.may_seal
        assert await read_file(hers, b"saved") == b"xyz"
        await do.reconcile(hers)
        await hers.sync()
    async with carl.open() as his:
        await his.exchange.pull()
        assert await read_file(his, b"before") == b"1" * 5 + b"2" * 70_000 + b"1" * 29_995
        assert await read_file(his, b"saved") == b"xyz"
        sealed = his.replica.content_of(his.replica.find(b"before"))
        assert sealed is not None
        boxes = {box.fkv: box.ks for box in msgspec.msgpack.decode(sealed, type=Content).keys}
        assert boxes[max(boxes)] == his.keyring.write_keyset, "what was written meanwhile is under the new key alone"
