"""`cryptfs-admin`: the table of the commands about who is in the group."""

import sys
from typing import Final, NoReturn

import click

from cryptfs import VERSION
from cryptfs.cli.main import LazyGroup
from cryptfs.cli.output import execute

__all__ = ["cryptfs_admin", "run"]

_COMMANDS: Final = {
    "members": ("members", "List who is in, with which role and devices."),
    "invite": ("inviting", "Make an invitation for one device."),
    "uninvite": ("inviting", "Withdraw an invitation of this device."),
    "requests": ("inviting", "List who asks to be let in."),
    "approve": ("inviting", "Let in a device that asks."),
    "deny": ("inviting", "Turn a request down."),
    "add": ("inviting", "Let in the holder of a certificate."),
    "remove": ("removing", "Put a member or a device out."),
    "role": ("removing", "Change what a member or device may do."),
    "rotate": ("removing", "Change the key."),
    "reencrypt": ("reencrypting", "Seal anew what lies under older keys."),
    "adopt": ("adopting", "Take over the packs of somebody else."),
    "late": ("latework", "List changes that arrived after the end of their log."),
    "accept": ("latework", "Have late changes count after all."),
    "discard": ("latework", "Take late changes off the list of this device."),
    "close": ("latework", "Close the log of a device that is silent."),
    "reconcile": ("removing", "Hand the key to those who lack it."),
    "checkpoint": ("checkpointing", "Write the tree as all devices know it into one object."),
    "collect": ("collecting", "Delete what nobody uses any more."),
    "verify": ("verifying", "Check every statement and signature, and show the words to compare."),
    "audit": ("auditing", "List who did what, in order, and what is odd about it."),
    "policy": ("policy", "Show or change the settings of a vault."),
    "renew": ("renewing", "Replace the certificate of this device."),
    "crl": ("policy", "Publish a certificate revocation list."),
    "trust": ("trusting", "Show what this device has seen, and whom it believes."),
    "recover": ("recovering", "Become an owner, with the recovery words."),
    "recovery": ("recovering", "Split or check the recovery words."),
}

cryptfs_admin = LazyGroup(
    _COMMANDS,
    name="cryptfs-admin",
    help="Who is in the group of a vault.",
    epilog="A group in ten minutes: docs/membership.md.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
cryptfs_admin = click.version_option(VERSION, prog_name="cryptfs-admin", message="%(prog)s %(version)s")(cryptfs_admin)


def run() -> NoReturn:
    """Entry point of `cryptfs-admin`."""
    sys.exit(execute(cryptfs_admin, "cryptfs-admin"))
