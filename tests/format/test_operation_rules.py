"""Rule S8: for every field of every operation the values that are refused, and the outermost ones that are not."""

import pytest
from format_samples import BODY2, DIR, FID, HERE, INO, PACK_ID, PACKED, VER, replace_struct, stream

from cryptfs.errors import Invalid
from cryptfs.format.operation import (
    Adopted,
    Create,
    DelXattr,
    Expire,
    Link,
    Op,
    OpId,
    Put,
    Range,
    Rekey,
    Relocate,
    Rename,
    Replaced,
    Restore,
    Retire,
    Rmdir,
    Rules,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    Unretire,
    Where,
    provisional_ino,
    provisional_op_id,
)
from cryptfs.format.operation_rules import ROLE_ADMIN, ROLE_OWNER, ROLE_WRITER, check_op, required_role

I64 = 2**63
PACK, SEG = Where(1, PACK_ID), Where(2, PACK_ID)
FILE = Create(DIR, b"name", 0, 0o644, 0, 0, 0, 0, b"", HERE)
SYMLINK = replace_struct(FILE, kind=2, target=b"x", content=None)
RENAME = Rename(INO, VER, DIR, b"name", Replaced(DIR, VER, VER), 2)
RELOCATE = Relocate(1, PACK_ID, 1, stream("new", 32), (Range(64, 100, 10), Range(74, 64, 1)))
ALL: list[Op] = [
    FILE,
    SYMLINK,
    replace_struct(FILE, kind=3, content=None),
    Put(INO, VER, PACKED, 0),
    Link(INO, DIR, b"name"),
    Unlink(INO, VER, VER),
    Rmdir(INO, VER),
    RENAME,
    SetAttr(INO, 15, 0o644, 1, 1, 1),
    SetXattr(INO, b"user.x", b"value"),
    DelXattr(INO, b"user.x"),
    Undelete(INO, DIR, b"name"),
    Restore(INO, VER, VER),
    Rekey(INO, VER, PACKED),
    Retire((PACK, SEG)),
    Unretire((PACK,)),
    RELOCATE,
    Adopted((PACK,)),
    Expire(5),
    Rules(2),
]
BAD_NAMES = [b"", b".", b"..", b"a/b", b"/", b"a\0", b"\0", b"x" * 256]
GOOD_NAMES = [b"x" * 255, b"...", b".x", b"\n", b"\xff\xfe", b"a\\b", " ü".encode()]
BAD_INODES = [b"", b"x" * 15, b"x" * 17, provisional_ino(0), provisional_ino(2**40)]
ONE, TWO = VER
BAD_VERS = [
    (TWO, ONE),
    (ONE, ONE),
    tuple(OpId(bytes(16), n) for n in range(9)),
    (OpId(b"short", 0),),
    (OpId(bytes(16), -1),),
    (OpId(bytes(16), 2**62 + 1),),
    (provisional_op_id(3),),
]
GOOD_VERS = [(ONE,), tuple(OpId(bytes(16), n) for n in range(8)), (OpId(bytes(16), 2**62),)]

BAD_FIELDS: dict[str, list[object]] = {
    "p": BAD_INODES, "p2": BAD_INODES, "i": BAD_INODES,
    "name": BAD_NAMES, "name2": BAD_NAMES,
    "lver": [(), *BAD_VERS], "base": [(), *BAD_VERS], "old": [(), *BAD_VERS], "cver": BAD_VERS,
    "mode": [-1, 0o10000, 0o100644], "uid": [-1, 2**32], "gid": [-1, 2**32],
    "mtime_ns": [-I64 - 1, I64], "rdev": [-1, I64], "kind": [-1, 7], "mask": [0, 16, -1], "flags": [-1, 3, 4],
    "key": [b"", b"k" * 256, b"a\0b"], "value": [bytes(65537)],
    "containers": [(), (SEG, PACK), (PACK, PACK), (Where(0, PACK_ID),), (Where(3, PACK_ID),), (Where(1, b""),)],
    "old_where": [0, 3], "new_where": [0, 3], "old_id": [b"", bytes(31)], "new_id": [b"", bytes(33), PACK_ID],
    "ranges": [
        (), (Range(74, 64, 1), Range(64, 100, 10)), (Range(64, 0, 10), Range(73, 50, 1)), (Range(0, 0, 0),),
        (Range(-1, 0, 1),), (Range(0, -1, 1),), (Range(0, 0, -1),), (Range(I64, 0, 1),), (Range(0, I64 - 1, 1),),
    ],
    "stamp": [-1, 2**62 + 1], "number": [-1, 65536],
}  # fmt: skip
GOOD_FIELDS: dict[str, list[object]] = {
    "name": GOOD_NAMES, "name2": GOOD_NAMES,
    "lver": GOOD_VERS, "base": GOOD_VERS, "old": GOOD_VERS, "cver": [(), *GOOD_VERS],
    "mode": [0, 0o7777], "uid": [0, 2**32 - 1], "gid": [0, 2**32 - 1], "mtime_ns": [-I64, I64 - 1],
    "rdev": [0, I64 - 1], "flags": [0, 1, 2], "key": [b"k" * 255], "value": [b"", bytes(65536)],
    "containers": [(PACK,), (PACK, SEG)], "stamp": [0, 2**62], "number": [0, 65535],
    "ranges": [(Range(0, 0, 1),), (Range(0, 5, 5), Range(5, 0, 5))],
}  # fmt: skip
each_op = pytest.mark.parametrize("op", ALL, ids=lambda op: type(op).__name__)


def judge(op: Op) -> None:
    check_op(op, len(BODY2))


@each_op
def test_good_operations_pass(op: Op) -> None:
    judge(op)


@each_op
def test_fields_out_of_range_are_refused(op: Op) -> None:
    """T-names among them: `..`, slashes, zero bytes, names too long."""
    fields = [name for name in op.__struct_fields__ if name in BAD_FIELDS]
    assert fields
    for name in fields:
        for value in BAD_FIELDS[name]:
            with pytest.raises(Invalid):
                judge(replace_struct(op, **{name: value}))


@each_op
def test_outermost_values_pass(op: Op) -> None:
    for name in op.__struct_fields__:
        for value in GOOD_FIELDS.get(name, []):
            judge(replace_struct(op, **{name: value}))


def test_every_type_of_operation_is_judged_here() -> None:
    assert {type(op) for op in ALL} == set(Op.__args__)


@pytest.mark.parametrize(
    "op",
    [
        replace_struct(FILE, kind=1),
        replace_struct(FILE, kind=3),
        replace_struct(SYMLINK, content=HERE),
        replace_struct(SYMLINK, target=b""),
        replace_struct(SYMLINK, target=b"a\0"),
        replace_struct(SYMLINK, target=b"x" * 4096),
        replace_struct(FILE, target=b"x"),
    ],
)
def test_create_with_fields_of_another_kind(op: Op) -> None:
    with pytest.raises(Invalid):
        judge(op)


def test_longest_symlink_passes() -> None:
    judge(replace_struct(SYMLINK, target=b"x" * 4095))


@pytest.mark.parametrize(
    "replaced", [Replaced(b"short", VER, ()), Replaced(INO, (), ()), Replaced(INO, VER, (TWO, ONE))]
)
def test_rename_over_a_malformed_link(replaced: Replaced) -> None:
    with pytest.raises(Invalid):
        judge(replace_struct(RENAME, replaced=replaced))


def test_exchange_with_nothing() -> None:
    with pytest.raises(Invalid):
        judge(replace_struct(RENAME, replaced=None))
    judge(replace_struct(RENAME, replaced=None, flags=0))
    judge(replace_struct(RENAME, replaced=None, flags=1))


@pytest.mark.parametrize(("bit", "field"), [(1, "mode"), (2, "uid"), (4, "gid"), (8, "mtime_ns")])
def test_setattr_of_a_field_outside_its_mask(bit: int, field: str) -> None:
    judge(replace_struct(SetAttr(INO, bit, 0, 0, 0, 0), **{field: 1}))
    with pytest.raises(Invalid):
        judge(replace_struct(SetAttr(INO, 15 ^ bit, 0, 0, 0, 0), **{field: 1}))


def test_record_outside_the_segment_that_carries_it() -> None:
    for op in (FILE, Put(INO, VER, HERE, 0), Rekey(INO, VER, HERE)):
        check_op(op, len(BODY2))
        with pytest.raises(Invalid, match="outside"):
            check_op(op, len(BODY2) - 1)
        with pytest.raises(Invalid, match="outside"):
            check_op(op, 0)


def test_content_is_judged_in_every_operation_that_has_one() -> None:
    bad = replace_struct(HERE, fid=FID[:15])
    for op in (FILE, Put(INO, VER, HERE, 0), Rekey(INO, VER, HERE)):
        with pytest.raises(Invalid):
            judge(replace_struct(op, content=bad))


@each_op
def test_least_role(op: Op) -> None:
    expected = {Expire: ROLE_ADMIN, Rekey: ROLE_ADMIN, Rules: ROLE_OWNER}.get(type(op), ROLE_WRITER)
    assert required_role(op) == expected
