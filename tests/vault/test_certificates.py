"""Certificates of a company in a whole vault: revocation lists in the folder, expiry, and who is told."""

import base64
from pathlib import Path

import msgspec
import pytest

from cryptfs.crypto.certificate import Refused
from cryptfs.errors import NotAllowed, UsageError
from cryptfs.group.authority import Tier
from cryptfs.group.founding import DEFAULT_POLICY
from cryptfs.vault import administration as do
from cryptfs.vault.acts import perform
from cryptfs.vault.people import choose
from cryptfs.vault.recovering import admit_owner, open_by_recovery
from cryptfs.vault.revocation import carrier
from tests.crypto.certificate_workshop import DAY, NOW, Authority
from tests.vault.administration_world import Device, World
from tests.vault.certificate_world import Clock, admit, issued
from tests.vault.vault_workshop import read_file, write_file

CA = Authority()
BOBS = 77


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> World:
    """A vault that takes only certificates of CA, with lists demanded."""
    policy = msgspec.structs.replace(DEFAULT_POLICY, trust=1, cas=(CA.der,), crl=2)
    return World(tmp_path, policy=policy, pair=issued(CA, serial=1))


async def publish(who: Device, crl: bytes) -> dict[str, object]:
    async with who.open() as vault:
        return await perform(vault, "crl", {"crl": base64.b64encode(crl).decode()})


async def bob_of(world: World) -> Device:
    await publish(world.anna, CA.crl(1))
    return await admit(world, "Bob", Tier.WRITER, issued(CA, serial=BOBS, subject="Bob"))


def carriers(world: World) -> list[str]:
    return sorted(path.name for path in (world.folder / "m").glob("*.crl"))


async def rotated(world: World) -> tuple[tuple[bytes, str], ...]:
    async with world.anna.open() as vault:
        return (await do.rotate(vault)).unreached


async def may_seal(who: Device) -> bool:
    async with who.open() as vault:
        return vault.keyring.may_seal


def row_of(vault_rows: object, name: str) -> dict[str, object]:
    return next(row for row in vault_rows if row["member"] == name)  # type: ignore[attr-defined]


# ---- T-crl ---------------------------------------------------------------------------------------------------------


async def test_crl_without_a_list_nobody_is_let_in_where_the_policy_blocks(world: World) -> None:
    """T-crl."""
    with pytest.raises(Refused, match="no current revocation list"):
        await admit(world, "Bob", Tier.WRITER, issued(CA, serial=BOBS))
    await publish(world.anna, CA.crl(1))
    await world.approve("Bob")


async def test_crl_revoked_gets_no_new_key_and_goes_on_reading(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """T-crl: at rotation; the others get the key; administrators are told."""
    bob = await bob_of(world)
    async with world.anna.open() as vault:
        await write_file(vault, b"before", b"old")
        await vault.sync()
    async with bob.open() as vault:
        assert await read_file(vault, b"before") == b"old"
    answer = await publish(world.anna, CA.crl(2, BOBS))
    told = "The certificate of Bob (laptop): the certificate authority has revoked the certificate. It gets no new keys"
    assert [one.startswith(told) for one in answer["remarks"]] == [True]  # type: ignore[union-attr]
    assert [why for _, why in await rotated(world)] == ["the certificate authority has revoked the certificate"]
    caplog.clear()
    async with world.anna.open() as vault:
        assert vault.keyring.may_seal
        assert do.needs_reconciling(vault) is False
        vault.certificates.tell()
        rows = (await perform(vault, "members", {}))["members"]
        assert row_of(rows, "Bob")["without_new_keys"] is True
        assert row_of(rows, "Anna")["without_new_keys"] is False
        assert vault.status()["certificates"] == vault.certificates.remarks()
    assert sum(told in line for line in caplog.messages) == 1
    async with bob.open() as vault:
        assert not vault.keyring.may_seal
        assert await read_file(vault, b"before") == b"old"
        assert vault.standing.role is Tier.WRITER


async def test_crl_that_takes_a_certificate_back_into_grace_lets_reconcile_hand_the_key_on(world: World) -> None:
    """T-crl, at reconcile."""
    bob = await bob_of(world)
    await publish(world.anna, CA.crl(2, BOBS))
    await rotated(world)
    assert not await may_seal(bob)
    await publish(world.anna, CA.crl(3))
    async with world.anna.open() as vault:
        assert await do.reconcile(vault) is not None
    assert await may_seal(bob)


async def test_crl_a_revoked_certificate_is_refused_at_admission_by_every_administrator(world: World) -> None:
    """T-crl, at admit: the list comes through the folder, not from who asks."""
    await publish(world.anna, CA.crl(1))
    carl = await admit(world, "Carl", Tier.ADMIN, issued(CA, serial=3, subject="Carl"))
    await publish(world.anna, CA.crl(2, BOBS))
    _, cert = issued(CA, serial=BOBS)
    async with carl.open() as vault:
        with pytest.raises(Refused, match="has revoked"):
            await do.add_by_certificate(vault, cert=cert, display="Bob", label="laptop", role=Tier.WRITER, member=b"")


async def test_crl_that_disappears_or_is_exchanged_for_an_older_one_takes_nothing_back(world: World) -> None:
    """T-crl: rollback of the list; what an authority has said once is remembered here."""
    await bob_of(world)
    old = {name: (world.folder / "m" / name).read_bytes() for name in carriers(world)}
    await publish(world.anna, CA.crl(2, BOBS))
    assert carriers(world) != list(old)  # the older one was removed
    for name in carriers(world):
        (world.folder / "m" / name).unlink()
    for name, data in old.items():
        (world.folder / "m" / name).write_bytes(data)
    assert len(await rotated(world)) == 1


async def test_crl_of_strangers_and_noise_are_ignored(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """T-crl: anybody may put an object there."""
    bob = await bob_of(world)
    impostor = Authority()  # of the same name, with another key
    for data in (impostor.crl(9, BOBS), b"junk"):
        name, made = carrier(world.vault, data)
        (world.folder / name).write_bytes(made)
    (world.folder / "m" / f"{bytes(32).hex()}.crl").write_bytes(b"no object at all")
    assert await rotated(world) == ()
    assert await may_seal(bob)
    assert "a revocation list in the folder is ignored" in caplog.text


async def test_crl_out_of_date_blocks_or_only_warns_as_the_policy_says(world: World, clock: Clock) -> None:
    """T-crl: a stale list."""
    await bob_of(world)
    clock.pass_days(2)
    async with world.anna.open() as vault:
        with pytest.raises(NotAllowed, match="This device could not receive the new key itself"):
            await do.rotate(vault)
        await do.set_policy(vault, {"crl": 1})
        assert (await do.rotate(vault)).unreached == ()
        assert all("missing or out of date" in one for one in vault.certificates.remarks())
        assert len(vault.certificates.remarks()) == 2


@pytest.mark.parametrize(
    ("crl", "words"),
    [(Authority("Other").crl(9), "No certificate authority of this vault"), (CA.crl(1), "A later list is in force")],
)
async def test_crl_of_no_use_is_not_published(world: World, crl: bytes, words: str) -> None:
    await publish(world.anna, CA.crl(2))
    before = carriers(world)
    with pytest.raises(UsageError, match=words):
        await publish(world.anna, crl)
    assert carriers(world) == before


async def test_crl_where_certificates_are_pinned_is_refused_and_never_read(tmp_path: Path, clock: Clock) -> None:
    world = World(tmp_path)
    with pytest.raises(UsageError, match="are pinned"):
        await publish(world.anna, CA.crl(1))
    name, data = carrier(world.vault, CA.crl(1))
    (world.folder / name).write_bytes(data)
    async with world.anna.open() as vault:
        assert vault.certificates.lists.ders == ()


async def test_a_change_to_certificates_of_an_authority_says_who_would_be_shut_out(
    tmp_path: Path, clock: Clock
) -> None:
    world = World(tmp_path, pair=issued(CA, serial=1))
    await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as vault:
        await do.set_policy(vault, {"cas": (CA.der,)})
        answer = await perform(vault, "policy", {"key": "trust", "value": "org-ca", "preview": True})
        assert answer["refused"] == ["Bob (laptop): no certificate authority of this vault has issued the certificate"]
        assert vault.membership.resolved.policy.trust == 0


async def test_clock_that_ran_ahead_or_is_set_back_does_not_revive_a_certificate(world: World, clock: Clock) -> None:
    """T-clock: the floor is what the clock has shown before, and when verified lists were made."""
    await publish(world.anna, CA.crl(1))
    short = issued(CA, serial=BOBS, subject="Bob", expires=NOW + 20 * DAY)
    await admit(world, "Bob", Tier.WRITER, short)
    later = NOW + 25 * DAY
    await publish(world.anna, CA.crl(2, this=later, following=later + 30 * DAY))
    assert [why for _, why in await rotated(world)] == ["the certificate has expired"]


async def test_recovery_judges_by_the_lists_of_the_folder_too(world: World) -> None:
    """T-crl: the recovery key has no memory; what the authority signed lies in the folder."""
    await bob_of(world)
    dora = world.device("Dora")
    async with world.anna.sender() as sender:
        membership, _ = await open_by_recovery(sender, world.seed)
        with pytest.raises(Refused, match="no certificate authority"):
            await admit_owner(sender, membership, dora.keys, ("Dora", "laptop"), {})


# ---- T-expiry ------------------------------------------------------------------------------------------------------


async def remarks(who: Device) -> list[str]:
    async with who.open() as vault:
        return vault.certificates.remarks()


async def test_expiry_is_told_thirty_days_before_and_ends_new_keys_at_once_with_an_authority(
    world: World, clock: Clock
) -> None:
    """T-expiry, org-ca."""
    await publish(world.anna, CA.crl(1, following=NOW + 300 * DAY))
    bob = await admit(world, "Bob", Tier.WRITER, issued(CA, serial=BOBS, subject="Bob", expires=NOW + 100 * DAY))
    assert await remarks(bob) == await remarks(world.anna) == []
    clock.pass_days(71)
    day = (NOW + 100 * DAY).strftime("%Y-%m-%d")
    assert await remarks(bob) == [
        f"The certificate of this device: it expires on {day}. Replace it: `cryptfs-admin renew`."
    ]
    assert (await remarks(world.anna))[0].startswith(f"The certificate of Bob (laptop): it expires on {day}. Have")
    assert await rotated(world) == ()
    clock.pass_days(30)
    assert [why for _, why in await rotated(world)] == ["the certificate has expired"]


async def test_expiry_has_thirty_days_of_grace_where_certificates_are_pinned(tmp_path: Path, clock: Clock) -> None:
    """T-expiry, pinned."""
    world = World(tmp_path)
    bob = await admit(world, "Bob", Tier.WRITER, issued(CA, serial=BOBS, subject="Bob", expires=NOW + 10 * DAY))
    clock.pass_days(39)
    assert "it has expired on" in (await remarks(bob))[0]
    assert await rotated(world) == ()
    clock.pass_days(2)
    assert [why for _, why in await rotated(world)] == ["the certificate has expired"]
    assert "It gets no new keys" in (await remarks(world.anna))[0]
    async with bob.open() as vault:
        assert vault.standing.role is Tier.WRITER
        assert not vault.keyring.may_seal


async def test_expiry_of_an_administrators_own_certificate_never_shuts_it_out(tmp_path: Path, clock: Clock) -> None:
    """T-expiry: a key change by which its author lost the key would leave nobody to hand it on."""
    world = World(tmp_path, pair=issued(CA, serial=1, expires=NOW + 10 * DAY))
    await world.admit("Bob", Tier.WRITER)
    clock.pass_days(41)

    def names() -> set[str]:
        return {path.name for path in (world.folder / "m").iterdir()}

    before = names()
    async with world.anna.open() as vault:
        bob = choose(vault.membership, "Bob")
        with pytest.raises(NotAllowed, match="could not receive the new key itself: the certificate has expired"):
            await do.remove(vault, [one.id for one in bob.entries], [bob.member])
    assert names() == before
