"""The sizes and counts that readers enforce (docs/format.md, "Limits").

They bound memory and time on hostile input; every one is checked before anything is allocated for what it counts.
"""

from typing import Final

__all__ = [
    "BODY2_MAX",
    "CERT_MAX",
    "CHECKPOINT_BLOCK_MAX",
    "CHECKPOINT_BLOCK_ROWS",
    "CHECKPOINT_HEAD_MAX",
    "CRL_MAX",
    "FRONTIER_MAX",
    "HISTORY_MAX",
    "I64_MAX",
    "I64_MIN",
    "JOIN_MAX",
    "KEY_SET_MAX",
    "MANIFEST_MAX",
    "NAME_MAX",
    "OPS_MAX",
    "PACK_INDEX_MAX",
    "PACK_MAX",
    "PACK_SHARED_TARGET",
    "PACK_SOLO_TARGET",
    "ROLLUP_MAX",
    "SEGMENT_MAX",
    "STAMP_MAX",
    "STATEMENT_MAX",
    "TARGET_MAX",
    "U32_MAX",
    "VER_MAX",
    "WRAPS_MAX",
    "XATTR_KEY_MAX",
    "XATTR_VALUE_MAX",
]

KIB: Final = 1 << 10
MIB: Final = 1 << 20

U32_MAX: Final = (1 << 32) - 1
I64_MIN: Final = -(1 << 63)
I64_MAX: Final = (1 << 63) - 1
"""Every integer of a replica row fits the database's signed 64 bits."""
STAMP_MAX: Final = 1 << 62
"""Highest Lamport stamp, segment number and operation number: a hostile jump cannot overflow a successor."""

SEGMENT_MAX: Final = 4 * MIB
BODY2_MAX: Final = MIB + 64 * KIB
"""Records of at most 1 MiB of plaintext together, and what sealing adds to them."""
OPS_MAX: Final = 20_000
ROLLUP_MAX: Final = 64 * MIB

PACK_SHARED_TARGET: Final = 16 * MIB
PACK_SOLO_TARGET: Final = 64 * MIB
"""Records in a pack of many contents, and of one, in bytes; a writer closes the pack there."""
PACK_INDEX_MAX: Final = 16 * MIB
PACK_MAX: Final = PACK_SOLO_TARGET + PACK_INDEX_MAX + 8 * MIB
"""A whole pack: the last record may pass the target by one chunk of 4 MiB and its overhead."""

STATEMENT_MAX: Final = 256 * KIB
JOIN_MAX: Final = 64 * KIB
WRAPS_MAX: Final = MIB
CRL_MAX: Final = 4 * MIB
CERT_MAX: Final = 16 * KIB

CHECKPOINT_HEAD_MAX: Final = 16 * MIB
CHECKPOINT_BLOCK_MAX: Final = 4 * MIB
CHECKPOINT_BLOCK_ROWS: Final = 5_000

KEY_SET_MAX: Final = 16
FRONTIER_MAX: Final = 256
"""Statement ids in `prev` and `mheads`."""
HISTORY_MAX: Final = 256
"""Epochs in one history box."""

VER_MAX: Final = 8
NAME_MAX: Final = 255
TARGET_MAX: Final = 4095
XATTR_KEY_MAX: Final = 255
XATTR_VALUE_MAX: Final = 64 * KIB
MANIFEST_MAX: Final = MIB
"""Plaintext of a root or page manifest; 4096 runs of one chunk each take about 370 KiB."""
