"""Names in the store are an index with one spelling; ids are derived from what their author cannot choose."""

import hashlib

import pytest
from format_samples import OTHER_V, V, stream

from cryptfs.format.limits import STAMP_MAX
from cryptfs.format.names import (
    FOLDERS,
    CheckpointName,
    CrlName,
    GenesisName,
    JoinName,
    PackName,
    RollupName,
    SegmentName,
    StatementName,
    WrapsName,
    checkpoint_name,
    copy_inode_of,
    crl_name,
    first_log_id,
    inode_of,
    join_name,
    later_log_id,
    log_prefix,
    lost_inode,
    pack_name,
    parse_name,
    rollup_name,
    root_inode,
    segment_name,
    statement_name,
    wraps_name,
)
from cryptfs.format.operation import OpId

D, LOG, EID = stream("D", 32), stream("log", 16), stream("eid", 16)
H16 = D[:8]
ARABIC_ZEROS = "\u0660" * 10

NAMES = [
    ("genesis", GenesisName()),
    (statement_name(D), StatementName(D)),
    (crl_name(D), CrlName(D)),
    (wraps_name(EID, D), WrapsName(EID, H16)),
    (join_name(D), JoinName(D[:16])),
    (segment_name(LOG, 0, D), SegmentName(LOG, 0, H16)),
    (segment_name(LOG, 10**10 - 1, D), SegmentName(LOG, 10**10 - 1, H16)),
    (segment_name(LOG, 10**10, D), SegmentName(LOG, 10**10, H16)),
    (segment_name(LOG, STAMP_MAX, D), SegmentName(LOG, STAMP_MAX, H16)),
    (rollup_name(LOG, 0, 63, D), RollupName(LOG, 0, 63, H16)),
    (pack_name(D), PackName(D)),
    (pack_name(D, spread=True), PackName(D)),
    (checkpoint_name(0, D, D), CheckpointName(0, H16, H16)),
    (checkpoint_name(STAMP_MAX, D, D), CheckpointName(STAMP_MAX, H16, H16)),
]


@pytest.mark.parametrize(("name", "parsed"), NAMES)
def test_names_read_back(name: str, parsed: object) -> None:
    assert parse_name(name) == parsed
    assert name == "genesis" or name.split("/", maxsplit=1)[0] in {*FOLDERS, f"p{D.hex()[0]}"}


@pytest.mark.parametrize(("name", "parsed"), NAMES)
def test_spelled_otherwise_they_are_ignored(name: str, parsed: object) -> None:
    del parsed
    folder, _, last = name.rpartition("/")
    variants = [
        name + "\n",
        " " + name,
        name + ".tmp",
        name + "0",
        "x" + name,
        f"./{name}",
        f"{folder}/.{last}",
        name[:-1],
    ]
    if any(char in "abcdef" for char in last):
        variants.append(f"{folder}/{last.upper()}")
    for odd in variants:
        assert parse_name(odd) is None


@pytest.mark.parametrize(
    "name",
    [
        "", "README.txt", "m/", "l", "genesis/x", "m/" + "a" * 63, "m/" + "g" * 64, "p/x", "pg/" + "a" * 64,
        ".tmp-1234", "p0/" + "a" * 64, f"l/{LOG.hex()}-00000000001-{H16.hex()}", f"l/{LOG.hex()}-1-{H16.hex()}",
        f"l/{LOG.hex()}-9999999999999999999-{H16.hex()}", f"l/{LOG.hex()}-r0000000005-0000000004-{H16.hex()}",
        f"c/ffffffffffffffff-{H16.hex()}-{H16.hex()}", f"l/{LOG.hex()}-{ARABIC_ZEROS}-{H16.hex()}",
        f"m/{D.hex()}.crl.crl", f"../m/{D.hex()}", "l/" + "0" * 100_000,
    ],
)  # fmt: skip
def test_foreign_names_are_ignored(name: str) -> None:
    assert parse_name(name) is None


def test_names_of_a_log_sort_by_number() -> None:
    names = [segment_name(LOG, seq, D) for seq in range(0, 10**10, 10**9 // 7)]
    assert names == sorted(names)
    assert all(name.startswith(log_prefix(LOG)) for name in names)


def test_derived_ids() -> None:
    op = OpId(LOG, 258)

    def expected(label: bytes, *rest: bytes) -> bytes:
        return hashlib.sha256(b"cryptfs/v1 " + label + b"\0" + V + b"".join(rest)).digest()[:16]

    assert inode_of(V, op) == expected(b"ino", LOG, b"\0\0\0\0\0\0\1\2")
    assert copy_inode_of(V, op) == expected(b"copy", LOG, b"\0\0\0\0\0\0\1\2")
    assert root_inode(V) == expected(b"root")
    assert lost_inode(V) == expected(b"lost")
    assert first_log_id(D) == later_log_id(D) == D[:16]
    ids = {
        f(v, o) for f in (inode_of, copy_inode_of) for v in (V, OTHER_V) for o in (op, OpId(LOG, 259), OpId(EID, 258))
    }
    assert len(ids) == 12
