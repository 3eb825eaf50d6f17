"""What an open vault says about itself, as JSON values."""

import time
from typing import TYPE_CHECKING

from cryptfs.vault.away import no_room, offline
from cryptfs.vault.reencrypt import asked_for

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["vault_status"]


def _reencryption(vault: "Vault") -> str:
    if vault.sealer.reencrypting:
        return "running"
    return "" if asked_for(vault) is None else "unfinished"


def vault_status(vault: "Vault") -> dict[str, object]:
    """The state of an open vault; names and meanings are in docs/mount.md, "Status"."""
    sender, role = vault.sender, vault.standing.role
    oldest = vault.pending.oldest_ns
    return {
        "name": vault.name,
        "vault": vault.vault_id.hex(),
        "role": role.name.lower() if role is not None else "removed",
        "read_only": vault.read_only,
        "store": sender.state.state,
        "store_message": sender.state.message,
        "advice": sender.state.advice,
        "offline": offline(vault),
        "no_room": no_room(vault),
        "trouble": vault.upkeep.trouble,
        "objection": vault.standing.objection,
        "alarm": ". ".join(filter(None, (vault.trust.words, vault.trust.unvouched))),
        "alarm_advice": vault.trust.advice,
        "stale": vault.trust.freshness.words,
        "certificates": vault.certificates.remarks(),
        "late_segments": sum(map(len, vault.reader.late.values())),
        "refused_objects": dict(vault.reader.problems),
        "ignored_objects": [
            {"reason": one.reason, "count": one.count, "names": list(one.names)}
            for one in vault.standing.news.ignored(vault.membership)
        ],
        "group_news": list(vault.standing.news.group),
        "pending_operations": len(vault.pending),
        "pending_bytes": vault.pending_bytes(),
        "dirty_bytes": vault.dirty_bytes,
        "oldest_unsent_seconds": max(0, time.time_ns() - oldest) // 1_000_000_000 if oldest else 0,
        "segments_sent": vault.sealer.segments,
        "packs_sent": vault.packer.sent_packs,
        "bytes_sent": vault.packer.sent_bytes,
        "bytes_fetched": sender.read_bytes,
        "store_puts": sender.puts,
        "store_gets": sender.gets,
        "open_files": sum(1 for content in vault.contents() if content.opens > 0),
        "reencryption": _reencryption(vault),
        "nodes": vault.replica.count_nodes(),
        "cache_bytes": vault.cache.used(),
        "pinned": vault.keeper.status(),
        "damaged": dict(vault.cache.damaged),
        "missing": list(vault.healer.words),
        "checkpoint": vault.checkpointing.words_for(),
        "collection": vault.collector.last.as_json() if vault.collector.last is not None else None,
        "log": {
            "id": vault.standing.log_id.hex(),
            "next_segment": vault.standing.log.next_seq,
            "operations": vault.standing.log.next_n,
        },
    }
