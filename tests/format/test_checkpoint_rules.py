"""Checkpoints: the root follows from the rows, blocks tile, and a block opens only where it stands."""

import hashlib
from dataclasses import replace

import pytest
from format_samples import (
    CHECKPOINT,
    LOG,
    META_KEY,
    PUB,
    ROWS,
    STATE,
    TWO,
    V,
    make_checkpoint,
    read_checkpoint,
    replace_struct,
    stream,
)

from cryptfs.crypto.keys import checkpoint_block_ctx, lp
from cryptfs.crypto.seal import seal
from cryptfs.errors import AuthError, Damaged, Invalid, NeedsUpdate
from cryptfs.format import checkpoint
from cryptfs.format.checkpoint import CheckpointLog, open_block, parse_checkpoint
from cryptfs.format.checkpoint_head import BlockRef, TableRef, check_checkpoint_head, state_root, table_hash
from cryptfs.format.codec import Ext
from cryptfs.format.limits import CHECKPOINT_BLOCK_MAX, CHECKPOINT_BLOCK_ROWS, CHECKPOINT_HEAD_MAX, STAMP_MAX

RAW = parse_checkpoint(CHECKPOINT, len(CHECKPOINT), V)
HEAD, TABLES = read_checkpoint(CHECKPOINT)
LAST = HEAD.tables[6]


def test_state_reads_back() -> None:
    assert [(table, row) for table in range(1, 8) for row in ROWS[table]] == TABLES
    assert (RAW.stamp, HEAD.rules, HEAD.mheads, HEAD.heads, HEAD.prev) == (9, 1, (V,), STATE.heads, b"")
    _, two = read_checkpoint(make_checkpoint(ks=TWO))
    assert two == TABLES


def test_root_is_a_function_of_the_state_alone() -> None:
    thashes = {table: table_hash(table, rows) for table, rows in ROWS.items()}
    for table, rows in ROWS.items():
        rest = b"".join(len(row).to_bytes(4, "big") + row for row in rows)
        assert thashes[table] == hashlib.sha256(b"cryptfs/v1 table\0\0" + bytes([table]) + rest).digest()
    data = V + (9).to_bytes(8, "big") + b"\0\1" + b"".join(thashes[table] for table in range(1, 8))
    assert HEAD.root == hashlib.sha256(b"cryptfs/v1 state\0" + data).digest() == state_root(V, 9, 1, thashes)
    hinted = make_checkpoint(state=replace(STATE, tables=ROWS | {65535: [b"hint"]}))
    head, tables = read_checkpoint(hinted)
    assert head.root == HEAD.root
    assert tables[-1] == (65535, b"hint")


def test_rows_and_tables_cannot_be_regrouped() -> None:
    assert table_hash(1, [b"ab", b"c"]) != table_hash(1, [b"a", b"bc"]) != table_hash(2, [b"a", b"bc"])


def change_last(**changed: object) -> tuple[TableRef, ...]:
    return (*HEAD.tables[:6], replace_struct(LAST, **changed))


def change_block(**changed: object) -> tuple[TableRef, ...]:
    return change_last(blocks=(replace_struct(LAST.blocks[0], **changed),))


BAD = [
    {"fmt": 0},
    {"rules": 65536},
    {"mheads": ()},
    {"mheads": (V, V)},
    {"heads": (CheckpointLog(LOG[1:], 0, V, 1),)},
    {"heads": (CheckpointLog(LOG, -1, V, 1),)},
    {"heads": (CheckpointLog(LOG, 0, b"", 1),)},
    {"heads": (CheckpointLog(LOG, 0, V, STAMP_MAX + 1),)},
    {"heads": (CheckpointLog(LOG, 0, V, 1),) * 2},
    {"prev": b"x"},
    {"client": "x" * 65},
    {"root": bytes(32)},
    {"tables": HEAD.tables[:6]},
    {"tables": HEAD.tables[::-1]},
    {"tables": (*HEAD.tables, replace_struct(LAST, table=8))},
    {"tables": change_last(thash=bytes(32))},
    {"tables": change_last(thash=b"")},
    {"tables": change_last(rows=6)},
    {"tables": change_last(rows=-7)},
    {"tables": change_block(rows=6)},
    {"tables": change_block(rows=0)},
    {"tables": change_block(off=LAST.blocks[0].off + 1)},
    {"tables": change_block(off=0)},
    {"tables": change_block(len=72)},
    {"tables": change_block(len=5 << 20)},
    {"tables": change_block(hash=b"")},
    {"ext": (Ext(1, False, b""), Ext(1, False, b""))},
]


@pytest.mark.parametrize("changed", BAD)
def test_bad_head_is_refused(changed: dict[str, object]) -> None:
    blocks = check_checkpoint_head(HEAD, V, 9)
    assert blocks + RAW.blocks_at == len(CHECKPOINT)
    with pytest.raises(Invalid):
        check_checkpoint_head(replace_struct(HEAD, **changed), V, 9)


def test_hashes_of_tables_cannot_be_shifted_against_each_other() -> None:
    """31 and 33 bytes give the same root as 32 and 32."""
    both = HEAD.tables[0].thash + HEAD.tables[1].thash
    first, second = (replace_struct(HEAD.tables[i], thash=part) for i, part in enumerate((both[:31], both[31:])))
    with pytest.raises(Invalid, match="hash of a table"):
        check_checkpoint_head(replace_struct(HEAD, tables=(first, second, *HEAD.tables[2:])), V, 9)


def test_too_many_rows_in_a_block_are_refused() -> None:
    count = CHECKPOINT_BLOCK_ROWS + 1
    tables = change_last(rows=count, blocks=(replace_struct(LAST.blocks[0], rows=count),))
    with pytest.raises(Invalid, match="number of rows"):
        check_checkpoint_head(replace_struct(HEAD, tables=tables), V, 9)


def test_root_belongs_to_vault_stamp_and_rules() -> None:
    for vault, stamp, head in ((stream("v", 32), 9, HEAD), (V, 8, HEAD), (V, 9, replace_struct(HEAD, rules=2))):
        with pytest.raises(Invalid, match="root"):
            check_checkpoint_head(head, vault, stamp)


def test_later_head_asks_for_an_update() -> None:
    for changed in ({"fmt": 2}, {"ext": (Ext(1, True, b""),)}):
        with pytest.raises(NeedsUpdate):
            check_checkpoint_head(replace_struct(HEAD, **changed), V, 9)


def block(table: TableRef) -> bytes:
    ref = table.blocks[0]
    return CHECKPOINT[RAW.blocks_at + ref.off :][: ref.len]


def with_block(plain: bytes, rows: int = 1, table: int = 7) -> tuple[TableRef, bytes]:
    """A block that its rightful author sealed with any plaintext."""
    sealed = seal(META_KEY, checkpoint_block_ctx(RAW.header, table, 0), plain)
    ref = BlockRef(rows, 0, len(sealed), hashlib.sha256(sealed).digest())
    return TableRef(7, rows, bytes(32), (ref,)), sealed


def test_block_in_anothers_place() -> None:
    assert open_block(RAW, META_KEY, LAST, 0, block(LAST)) == ROWS[7]
    with pytest.raises(Damaged):
        open_block(RAW, META_KEY, LAST, 0, block(HEAD.tables[5]))
    with pytest.raises(AuthError):
        open_block(RAW, META_KEY, replace_struct(LAST, table=6), 0, block(LAST))
    table, sealed = with_block(b"\0" + lp(b"row"), table=6)
    with pytest.raises(AuthError):
        open_block(RAW, META_KEY, table, 0, sealed)


@pytest.mark.parametrize(
    ("plain", "rows", "error"),
    [
        (b"\1" + lp(b"row"), 1, NeedsUpdate),
        (b"", 1, NeedsUpdate),
        (b"\0" + lp(b"row")[:-1], 1, Invalid),
        (b"\0" + lp(b"row") + b"\0\0\0", 1, Invalid),
        (b"\0\xff\xff\xff\xff", 1, Invalid),
        (b"\0" + lp(b"row"), 2, Invalid),
        (b"\0" + lp(b"row") * 2, 1, Invalid),
    ],
)
def test_block_that_its_author_filled_badly(plain: bytes, rows: int, error: type[Exception]) -> None:
    table, sealed = with_block(plain, rows)
    with pytest.raises(error):
        open_block(RAW, META_KEY, table, 0, sealed)
    good, sealed = with_block(b"\0" + lp(b"row") + lp(b""), 2)
    assert open_block(RAW, META_KEY, good, 0, sealed) == [b"row", b""]


def test_rows_other_than_those_in_the_root() -> None:
    """An author who signs a root and lays other rows beside it is found out when the table ends."""
    tables = change_last(thash=table_hash(7, [b"other"]))
    thashes = {table.table: table.thash for table in tables}
    head = replace_struct(HEAD, tables=tables, root=state_root(V, 9, 1, thashes))
    check_checkpoint_head(head, V, 9)
    with pytest.raises(Invalid, match="hash its head says"):
        list(checkpoint.read_tables(RAW, head, META_KEY, CHECKPOINT))


def test_large_tables_are_cut_into_blocks() -> None:
    many = [i.to_bytes(4, "big") for i in range(2 * CHECKPOINT_BLOCK_ROWS + 1)]
    wide = [bytes([i]) * (CHECKPOINT_BLOCK_MAX // 3) for i in range(7)]
    head, tables = read_checkpoint(make_checkpoint(state=replace(STATE, tables=ROWS | {1: many, 7: wide, 3: []})))
    assert [block.rows for block in head.tables[0].blocks] == [CHECKPOINT_BLOCK_ROWS, CHECKPOINT_BLOCK_ROWS, 1]
    assert [block.rows for block in head.tables[6].blocks] == [2, 2, 2, 1]
    assert head.tables[2].blocks == ()
    assert [row for table, row in tables if table in {1, 7}] == many + wide


def test_the_first_bytes_suffice_to_judge_it() -> None:
    raw = parse_checkpoint(CHECKPOINT[: RAW.blocks_at], len(CHECKPOINT), V)
    checkpoint.verify_checkpoint(raw, PUB)
    assert checkpoint.open_head(raw, META_KEY) == HEAD
    with pytest.raises(Damaged):
        parse_checkpoint(CHECKPOINT[: RAW.blocks_at - 1], len(CHECKPOINT), V)
    for size in (len(CHECKPOINT) - 1, len(CHECKPOINT) + 1):
        with pytest.raises(Damaged):
            checkpoint.open_head(replace(raw, size=size), META_KEY)


def test_huge_head_is_refused_by_its_header() -> None:
    claimed = CHECKPOINT[:12] + (CHECKPOINT_HEAD_MAX + 1).to_bytes(4, "big") + CHECKPOINT[16:]
    with pytest.raises(Damaged):
        parse_checkpoint(claimed, 1 << 40, V)
    late = CHECKPOINT[:96] + (STAMP_MAX + 1).to_bytes(8, "big") + CHECKPOINT[104:]
    with pytest.raises(Damaged):
        parse_checkpoint(late, len(late), V)
