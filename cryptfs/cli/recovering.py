"""`cryptfs-admin recover`, `recovery split`, `recovery check`: what the words on paper can do."""

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.control import require_unmounted
from cryptfs.cli.joining import at_store, make_keys, settle
from cryptfs.cli.loggingin import keys_of_login
from cryptfs.cli.opening import open_here, open_with
from cryptfs.cli.output import document, line, note, safe
from cryptfs.cli.paperwords import read_phrases, word_rows, words_option, write_phrase
from cryptfs.cli.unlocking import ask_new_passphrase, unlock
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.words import recovery_shares
from cryptfs.errors import Retry, UsageError
from cryptfs.format.statement import Cut
from cryptfs.group.membership import Membership
from cryptfs.vault.administration import ends_of
from cryptfs.vault.home import VaultHome
from cryptfs.vault.people import Chosen, choose
from cryptfs.vault.recovering import admit_owner, open_by_recovery, remove_by_recovery
from cryptfs.vault.stores import settle_address

__all__ = ["recover", "recovery"]

_SYNC_SECONDS: Final = 600.0


@click.command(short_help="Become an owner, with the recovery words.")
@vault_argument()
@words_option()
@click.option("--store", "address", help="The folder of the vault, for a device that does not know it.")
@click.option("--display-name", default="owner", show_default=True, help="How a new device's owner is listed.")
@click.option("--device-label", default="device", show_default=True, help="How a new device is listed.")
@click.option("--remove", "out", multiple=True, metavar="MEMBER|DEVICE", help="Then remove these; the founder, too.")
@click.option("--no-passphrase", is_flag=True, help="Protect new keys by file permissions alone.")
@yes_option()
@json_option()
@passphrase_option()
def recover(
    *,
    name: str,
    recovery_files: tuple[Path, ...],
    address: str | None,
    display_name: str,
    device_label: str,
    out: tuple[str, ...],
    no_passphrase: bool,
    yes: bool,
    as_json: bool,
    passphrase_file: Path | None,
) -> None:
    """Make this device an owner of the vault NAME by the recovery words, and optionally remove others.

    Works on a device that was never in: with --store it is set up anew. The words are used and forgotten.
    """
    home = VaultHome.of(name)
    require_unmounted(home)
    if not home.exists() and address is None:
        raise UsageError(f"This device does not know the vault '{name}'.", "Say where its folder is: --store.")
    url = home.read_settings().store if home.exists() else settle_address(address or "")
    seed = read_phrases(recovery_files)
    known = unlock(home, passphrase_file) if home.exists() else None
    seen = trio.run(_look, url, seed, home, known)
    chosen = [choose(seen, word) for word in out]
    agree(_consequences(seen, chosen, new=known is None), "Use the recovery key?", yes=yes)
    if known is not None:
        keys = known
        if keys.vault != seen.vault:
            raise UsageError(f"'{name}' is another vault than the one in the folder.", "Give another NAME.")
        in_already = any(one.device.sign_pub == keys.sign_public for one in seen.resolved.roster.values())
        ends = trio.run(_hand_in, home, passphrase_file) if in_already else {}
    else:
        ends = {}
        passphrase = None if no_passphrase else ask_new_passphrase(passphrase_file)
        keys = make_keys(seen.vault, display_name)
        settle(home, url, keys, passphrase)
    trio.run(_admit, (url, home, keys), seed, (display_name, device_label), ends)
    if not as_json:
        line(f"This device is an owner of '{name}' now.")
    if chosen:
        trio.run(_remove, home, url, seed, chosen, passphrase_file)
    gone = [entry.id.hex() for one in chosen for entry in one.entries]
    if as_json:
        document({"name": name, "removed": gone})
        return
    for one in chosen:
        line(safe(f"{one.display} ({', '.join(entry.device.label for entry in one.entries)}) is out."))
    note(f"Mount it with `cryptfs mount {name}`. Put the recovery words back where they are safe.")


async def _look(url: str, seed: bytes, home: VaultHome, keys: DeviceKeys | None) -> Membership:
    async with at_store(url, home, keys) as sender:
        return (await open_by_recovery(sender, seed))[0]


def _consequences(seen: Membership, chosen: Sequence[Chosen], *, new: bool) -> list[str]:
    genesis = seen.graph.genesis
    title, count = genesis.name if genesis is not None else "", len(seen.resolved.roster)
    said = [
        f"The words belong to this vault: '{title}', {count} devices.",
        "The recovery key makes this device an owner" + (", with new keys." if new else "."),
    ]
    for one in chosen:
        devices = ", ".join(entry.device.label for entry in one.entries)
        said.append(
            f"It removes {one.display} ({devices}), and changes the key. What is not in the folder yet is lost."
        )
    return said


async def _hand_in(home: VaultHome, passphrase_file: Path | None) -> dict[bytes, Cut]:
    """Send what a member's device has not sent yet; where every log ends then, its own too."""
    async with open_here(home, passphrase_file) as vault:
        try:
            await vault.sync(_SYNC_SECONDS)
        except trio.TooSlowError as err:
            raise Retry("Not everything of this device could be sent.", "Try again when the store answers.") from err
        return ends_of(vault)


async def _admit(
    place: tuple[str, VaultHome, DeviceKeys], seed: bytes, names: tuple[str, str], ends: dict[bytes, Cut]
) -> None:
    keys = place[2]
    async with at_store(*place) as sender:
        membership, _ = await open_by_recovery(sender, seed)
        await admit_owner(sender, membership, keys, names, ends)


async def _remove(
    home: VaultHome, url: str, seed: bytes, chosen: Sequence[Chosen], passphrase_file: Path | None
) -> None:
    """The new owner reads everything, so that what the removed wrote until now counts; the recovery key signs."""
    keys = unlock(home, passphrase_file)
    async with open_with(home, keys) as vault, at_store(url, home, keys) as sender:
        await vault.introduce()
        membership, _ = await open_by_recovery(sender, seed)
        entries = [entry.id for one in chosen for entry in one.entries]
        members = [one.member for one in chosen if one.whole]
        await remove_by_recovery(sender, membership, entries, members, ends_of(vault))
        await vault.exchange.pull()
        await vault.introduce()


# ---- the words themselves --------------------------------------------------------------------------------------------


@click.group(short_help="Split or check the recovery words.")
def recovery() -> None:
    """What can be done with the recovery words without acting on the vault."""


@recovery.command(short_help="Prove that the words belong to a vault.")
@vault_argument()
@words_option()
@json_option()
@passphrase_option()
def check(*, name: str, recovery_files: tuple[Path, ...], as_json: bool, passphrase_file: Path | None) -> None:
    """Prove that the recovery words belong to the vault NAME. Changes nothing."""
    home = VaultHome.of(name)
    home.require()
    seed = read_phrases(recovery_files)
    trio.run(_look, home.read_settings().store, seed, home, keys_of_login(home, passphrase_file))
    if as_json:
        document({"name": name, "right": True})
    else:
        line(f"These are the recovery words of '{name}'.")


@recovery.command(short_help="Split the words into shares.")
@vault_argument()
@click.argument("how", metavar="M-of-N")
@words_option()
@click.option(
    "--into", type=click.Path(path_type=Path), help="Write each share to a file of its own in this directory."
)
@passphrase_option()
def split(
    *, name: str, how: str, recovery_files: tuple[Path, ...], into: Path | None, passphrase_file: Path | None
) -> None:
    """Make N phrases of which any M open what the recovery words of the vault NAME open (SLIP-39).

    The undivided words stay valid: destroy them once the shares are checked (`recovery check`) and in safe hands.
    """
    home = VaultHome.of(name)
    home.require()
    found = re.fullmatch(r"(\d{1,2})(?:-of-|/)(\d{1,2})", how)
    if not found:
        raise UsageError(f"'{how}' is not M-of-N.", "Write, say, 2-of-3.")
    if into is None and not sys.stdout.isatty():
        raise UsageError("The shares need a terminal to be shown on.", "Name a directory: --into DIR.")
    seed = read_phrases(recovery_files)
    # Shares of words that open nothing would be a trap.
    trio.run(_look, home.read_settings().store, seed, home, keys_of_login(home, passphrase_file))
    shares = recovery_shares(seed, int(found[1]), int(found[2]))
    stamp = time.strftime("%Y-%m-%d")
    for number, share in enumerate(shares, 1):
        if into is not None:
            into.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = into / f"{name}-share-{number}-of-{len(shares)}-{stamp}.txt"
            write_phrase(file, share)
            line(str(file))
        else:
            click.clear()
            line(f"Share {number} of {len(shares)}, any {found[1]} are needed:\n")
            for row in word_rows(share):
                line(f"  {row}")
            line()
            click.pause("Write it down, then press a key.", err=True)
            click.clear()
    note(f"Give each to another person. Any {found[1]} of them together rule the vault.")
