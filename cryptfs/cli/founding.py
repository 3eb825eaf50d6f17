"""`cryptfs init`: a new vault, from the empty folder to the recovery words on paper."""

import contextlib
import datetime as dt
import functools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from cryptfs.cli.arguments import passphrase_option
from cryptfs.cli.output import line, note
from cryptfs.cli.ownpair import pair_options, read_pair
from cryptfs.cli.unlocking import ask_new_passphrase
from cryptfs.crypto import keyfile
from cryptfs.crypto.importing import import_certificate
from cryptfs.crypto.keyfile import DeviceKeys, KeyPair
from cryptfs.crypto.keys import LocalSecret, chance, random_bytes
from cryptfs.crypto.recovery import RecoverySecret, new_recovery_seed
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.crypto.words import recovery_shares
from cryptfs.errors import CryptfsError, Invalid, UsageError
from cryptfs.format.statement import Policy
from cryptfs.group.founding import DEFAULT_POLICY, found
from cryptfs.group.handing import examine_under
from cryptfs.store import Call, Retries, parse_store_url
from cryptfs.vault.disk import local_disk, sync_directory
from cryptfs.vault.home import VaultHome
from cryptfs.vault.logins import adopt_login
from cryptfs.vault.stores import settle_address, store_of_newcomer

__all__ = ["init"]

_WORDS_ASKED: Final = 3
_DISPLAY_MAX: Final = 64
"""It also becomes the name in a new certificate, where X.509 allows no more."""
_UPLOAD_SECONDS: Final = 120.0
_README: Final = """\
This folder is a cryptfs vault: an encrypted folder that a group of people shares.

Please do not rename, edit or delete any file here: each one holds a part of somebody's data, and nobody can tell
which. Nothing in here can be read without the keys of a member.

A member opens it with the program cryptfs. Whoever holds the recovery words can let new members in when all
keys are lost: see the chapter on recovery in the documentation of cryptfs.
"""


@click.command(short_help="Make a vault in an empty folder.")
@click.argument("name")
@click.argument("store")
@click.option("--display-name", default="owner", help="What other members, and the provider, see of you.")
@click.option("--device-label", default="first device", help="What they see of this device.")
@click.option("--no-passphrase", is_flag=True, help="Protect the keys of this device by file permissions alone.")
@click.option("--recovery-file", type=click.Path(path_type=Path), help="Write the recovery words to this new file.")
@click.option("--no-recovery", is_flag=True, help="Make no recovery key. It cannot be added later.")
@pair_options()
@click.option(
    "--ca",
    "authorities",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Take only certificates of this authority (its certificate, PEM or DER). May be repeated.",
)
@passphrase_option()
def init(
    *,
    name: str,
    store: str,
    display_name: str,
    device_label: str,
    no_passphrase: bool,
    recovery_file: Path | None,
    no_recovery: bool,
    cert: Path | None,
    key: str | None,
    authorities: tuple[Path, ...],
    passphrase_file: Path | None,
) -> None:
    """Make a vault called NAME in the empty folder STORE (a path, or file:///DIR), and you its owner.

    The new keys are protected by a passphrase. The recovery words are the only help when every owner has lost the
    keys: they are shown once, to be written down on paper.
    """
    home = VaultHome.of(name)
    if home.exists():
        raise UsageError(f"There is a vault called '{name}' on this device already.", "Choose another name.")
    brought = read_pair(cert, key)
    if not 1 <= len(display_name) <= _DISPLAY_MAX:
        raise UsageError(f"A display name has 1 to {_DISPLAY_MAX} characters.", "Choose another one.")
    policy = _policy(authorities)
    url = settle_address(store, make=True)
    _check_empty(url)
    passphrase = None if no_passphrase else ask_new_passphrase(passphrase_file)
    pair = _certificate(display_name, brought, policy)
    recovery = _recovery(recovery_file, no_recovery)

    keys, objects = _found((name, display_name, device_label), pair, recovery, policy)
    home.create_dirs()
    # The keys reach the disk before anything reaches the folder: a vault whose keys were lost would be worth nothing.
    new = home.keys_file.with_suffix(".new")
    _write_durably(new, keyfile.encode(keys, passphrase))
    try:
        _upload(url, [*objects, ("README.txt", _README.encode())])
    except CryptfsError:
        if recovery_file is not None:
            recovery_file.unlink(missing_ok=True)  # words of a vault that never came to be
        raise
    home.write_settings(url)
    adopt_login(home, keys, url)
    new.replace(home.keys_file)

    line(f"The vault '{name}' is ready in {url}.")
    line(f"Mount it with `cryptfs mount {name}`.")


def _check_empty(url: str) -> None:
    """Make the folder at `url` if need be. Raises UsageError if there is something in it."""
    where = parse_store_url(url)
    if where.scheme == "file":
        folder = Path(where.place)
        folder.mkdir(exist_ok=True)  # not its parents: below a disk that is not mounted nothing must be made
        with os.scandir(folder) as entries:
            visible = [entry.name for entry in entries if not entry.name.startswith(".")]
        if visible and "genesis" not in visible:
            raise UsageError(f"{folder} is not empty.", "Name a new or empty folder.")
    with contextlib.closing(store_of_newcomer(url)) as store:
        if store.stat("genesis", Call.within(_UPLOAD_SECONDS)) is not None:
            raise UsageError("There is a vault in that folder already.", "Name a new or empty folder.")


def _recovery(file: Path | None, refused: bool) -> RecoverySecret | None:
    """Make the recovery key and hand its words to the person. None if she does not want one."""
    terminal = sys.stdin.isatty()
    if refused and file is not None:
        raise UsageError("--no-recovery and --recovery-file contradict each other.", "Give one of them.")
    if refused:
        question = "Without recovery words nobody can help when all owners have lost their keys. Go on?"
        if terminal and not click.confirm(question, err=True):
            raise UsageError("Nothing was made.", "Run the command again without --no-recovery.")
        return None
    seed = new_recovery_seed()
    (words,) = recovery_shares(seed)
    if file is not None:
        _write_words(file, words)
        note(f"The recovery words are in {file}. Print or copy them, keep them away from this device, delete the file.")
    elif terminal:
        _show_words(words.split())
    else:
        raise UsageError(
            "The recovery words need a terminal to be shown on.", "Use --recovery-file FILE, or --no-recovery."
        )
    return RecoverySecret(seed)


def _write_words(file: Path, words: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(words + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _show_words(words: list[str]) -> None:
    note("Write these recovery words down on paper. They are shown this once.\n")
    for start in range(0, len(words), 6):
        numbered = (f"{number:2}. {word:<10}" for number, word in enumerate(words[start : start + 6], start + 1))
        note("  " + "".join(numbered).rstrip())
    note("\nNow type three of them, as a check.")
    for place in sorted(chance().sample(range(len(words)), _WORDS_ASKED)):
        while click.prompt(f"Word {place + 1}", err=True).strip().lower() != words[place]:
            note("That is another word. Look at the paper again, please.")
    click.clear()


def _policy(authorities: Sequence[Path]) -> Policy:
    """The first settings: pinned certificates, or those of an authority."""
    if not authorities:
        return DEFAULT_POLICY
    cas = tuple(sorted({import_certificate(one.read_bytes()) for one in authorities}))
    return msgspec.structs.replace(DEFAULT_POLICY, trust=1, cas=cas)


def _certificate(display_name: str, brought: KeyPair | None, policy: Policy) -> KeyPair:
    """The person's own certificate, or a new one. Raises Refused for one that may receive no keys."""
    now = dt.datetime.now(dt.UTC)
    if policy.trust and brought is None:
        raise UsageError("With --ca a certificate of that authority is needed.", "Give --cert and --key.")
    pair = brought or KeyPair(*make_certificate(display_name, now))
    examine_under(policy, now)(pair.cert_der)
    return pair


Objects = Sequence[tuple[str, bytes]]
"""Keys of the store and what lies under them, in the order of upload."""


def _found(
    names: tuple[str, str, str], pair: KeyPair, recovery: RecoverySecret | None, policy: Policy
) -> tuple[DeviceKeys, Objects]:
    """The keys of this device, and the objects of the new vault. `names`: of the vault, the person, the device."""
    name, display_name, device_label = names
    seed = random_bytes(32)
    try:
        made = found(
            name=name,
            display=display_name,
            label=device_label,
            cert_der=pair.cert_der,
            sign_seed=seed,
            recovery=recovery,
            now_ms=time.time_ns() // 1_000_000,
            policy=policy,
        )
    except Invalid as err:  # the only texts in there are the person's own
        raise UsageError(str(err), "Choose a shorter or simpler name.") from err
    local = LocalSecret(random_bytes(32))
    keys = DeviceKeys(
        made.vault, made.entry, pair.pkcs8, pair.cert_der, seed, local, token=pair.token, held=pair.at_hand
    )
    return keys, made.objects


def _write_durably(file: Path, data: bytes) -> None:
    """Write `file` (mode 0600), and its name, through to the disk."""
    with local_disk("writing the keys"):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        sync_directory(file.parent)


def _upload(url: str, objects: Objects) -> None:
    """Put the first objects into the folder; takes them back out if one fails, so that `init` can be run again."""
    done: list[str] = []
    retries = Retries(chance())
    with contextlib.closing(store_of_newcomer(url)) as store:
        try:
            for key, data in objects:
                retries.run(functools.partial(store.put, key, data), Call.within(_UPLOAD_SECONDS))
                done.append(key)
        except CryptfsError:
            for key in reversed(done):
                store.delete(key, Call.within(_UPLOAD_SECONDS))
            raise
