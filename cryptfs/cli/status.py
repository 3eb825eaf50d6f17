"""`cryptfs status` and `cryptfs list`: how the vaults of this device are, asked of those who know."""

import time
from collections.abc import Mapping
from typing import Any, Final

import click

from cryptfs.cli.arguments import json_option, vault_argument
from cryptfs.cli.control import Daemon
from cryptfs.cli.deadmount import dead_mount
from cryptfs.cli.output import cell, document, fields, line, note, size, table
from cryptfs.errors import CryptfsError
from cryptfs.vault.home import VaultHome, known_vaults

__all__ = ["list_", "state_of", "status"]

_WATCH_SECONDS: Final = 1.0
_NONE: Final = "There is no vault on this device. `cryptfs init NAME STORE` makes one."


@click.command(short_help="Say how the vaults of this device are.")
@vault_argument(required=False)
@click.option("--watch", is_flag=True, help="Say it again every second, until Ctrl-C.")
@json_option()
def status(*, name: str | None, watch: bool, as_json: bool) -> None:
    """Say whether the vault NAME, or every vault, is mounted, and what is still to be sent."""
    if name is not None:
        VaultHome.of(name).require()
    while True:
        states = [state_of(VaultHome.of(one)) for one in ([name] if name else known_vaults())]
        if as_json:
            document(states[0] if name else states)
        elif name:
            fields(_flat(states[0]))
        elif states:
            _overview(states)
        else:
            note(_NONE)
        if not watch:
            return
        if not as_json:
            line()
        time.sleep(_WATCH_SECONDS)


@click.command("list", short_help="List the vaults of this device.")
@json_option()
def list_(*, as_json: bool) -> None:
    """List the vaults of this device and where their stores are."""
    states = [state_of(VaultHome.of(name)) for name in known_vaults()]
    if as_json:
        document([{key: state[key] for key in ("name", "store", "mounted", "mountpoint")} for state in states])
    elif states:
        rows = [[cell(state[key]) for key in ("name", "store", "mountpoint")] for state in states]
        table(("Name", "Store", "Mounted at"), rows)
    else:
        note(_NONE)


def state_of(home: VaultHome) -> dict[str, Any]:
    """Everything known of a vault without its keys. Always has: name, mounted, mountpoint, state, store."""
    known = {
        "name": home.name,
        "mounted": False,
        "mountpoint": None,
        "state": "not mounted",
        "store": _store_of(home),
    }
    try:
        daemon = Daemon.find(home)
        if daemon is None:
            dead = dead_mount(home)
            return known | {"state": "dead mount", "mountpoint": str(dead)} if dead else known
        with daemon:
            answer = daemon.ask("status")
    except CryptfsError as err:
        return known | {"state": "no answer", "error": str(err)}
    answer.pop("ok")
    answer["store_state"] = answer.pop("store", None)
    return known | {"mounted": True, "state": "mounted"} | answer | {"pid": daemon.pid}


def _store_of(home: VaultHome) -> str | None:
    try:
        return home.read_settings().store
    except CryptfsError:
        return None


def _overview(states: list[dict[str, Any]]) -> None:
    rows = [[str(one["name"]), str(one["state"]), str(one["mountpoint"] or "-"), _pending(one)] for one in states]
    table(("Name", "State", "Mounted at", "To be sent"), rows)


def _pending(state: Mapping[str, Any]) -> str:
    count = state.get("pending_bytes")
    return "-" if count is None else size(int(count))


def _flat(state: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested values under dotted names."""
    flat: dict[str, object] = {}
    for key, value in state.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat[prefix + key] = "; ".join(map(_item, value))
        else:
            flat[prefix + key] = value
    return flat


def _item(value: object) -> str:
    """One entry of a list: a sentence, or what was left out with the first names of it."""
    if isinstance(value, dict):
        return f"{value['count']} x {value['reason']} ({', '.join(value['names'])})"
    return str(value)
