"""Packs: the index is checked against the object, opens only in its place, and stays within its caps."""

import pytest
from format_samples import BOX, FID, INO, ONE, PACK, PACK_KEY, TWO, V, make_pack, read_pack, replace_struct, sha, stream

from cryptfs.crypto.seal import sealed_len
from cryptfs.errors import Damaged, Invalid, NeedsUpdate
from cryptfs.format import pack
from cryptfs.format.codec import Ext
from cryptfs.format.limits import PACK_INDEX_MAX, PACK_MAX

INDEX = read_pack(PACK)
REC = INDEX.recs[0]
KEY, HINT = INDEX.keys[0], INDEX.hints[0]
END = REC.off + sum(rec.len for rec in INDEX.recs)


def bad_record(**changed: object) -> pack.PackIndex:
    return replace_struct(INDEX, recs=(replace_struct(REC, **changed),))


BAD = [
    replace_struct(INDEX, fmt=0),
    replace_struct(INDEX, kind=0),
    replace_struct(INDEX, kind=3),
    replace_struct(INDEX, keys=(KEY, KEY)),
    replace_struct(INDEX, keys=(replace_struct(KEY, fkv=1), KEY)),
    replace_struct(INDEX, keys=(replace_struct(KEY, fid=b""),)),
    replace_struct(INDEX, keys=(replace_struct(KEY, fkv=-1),)),
    replace_struct(INDEX, keys=(replace_struct(KEY, ks=b""),)),
    replace_struct(INDEX, keys=(replace_struct(KEY, box=b""),)),
    replace_struct(INDEX, hints=(replace_struct(HINT, fid=b""),)),
    replace_struct(INDEX, hints=(replace_struct(HINT, ino=b""),)),
    replace_struct(INDEX, hints=(replace_struct(HINT, size=-1),)),
    replace_struct(INDEX, hints=(replace_struct(HINT, wall_ms=2**63),)),
    replace_struct(INDEX, recs=(INDEX.recs[1], INDEX.recs[0])),
    replace_struct(INDEX, recs=(REC, REC)),
    replace_struct(INDEX, ext=(Ext(1, False, b""), Ext(1, False, b""))),
    bad_record(fid=b""),
    bad_record(type=3),
    bad_record(type=3, ks=ONE),
    bad_record(fkv=2**32),
    bad_record(ks=ONE),
    bad_record(type=1),
    bad_record(type=1, ks=ONE, fkv=1),
    bad_record(first_chunk=-1),
    bad_record(off=63),
    bad_record(off=END - REC.len + 1),
    bad_record(len=REC.len + 1),
    bad_record(plain_len=-1),
    bad_record(plain_len=-1, codec=1),
    bad_record(codec=256),
    bad_record(hash=b""),
    bad_record(codec=1, len=-1),
]


def test_good_index_passes() -> None:
    pack.check_index(INDEX, records=64, end=END)
    pack.check_index(replace_struct(INDEX, keys=(), hints=(), recs=()), records=64, end=64)
    manifest = replace_struct(REC, type=2, ks=TWO)
    pack.check_index(replace_struct(INDEX, recs=(manifest,)), records=64, end=END)


@pytest.mark.parametrize("bad", BAD)
def test_bad_index_is_refused(bad: pack.PackIndex) -> None:
    with pytest.raises(Invalid):
        pack.check_index(bad, records=64, end=END)


def test_records_of_a_later_codec_are_listed_but_not_judged() -> None:
    pack.check_index(bad_record(codec=7, len=REC.len - 5), records=64, end=END)


def test_later_index_asks_for_an_update() -> None:
    for changed in ({"fmt": 2}, {"ext": (Ext(1, True, b""),)}):
        with pytest.raises(NeedsUpdate):
            pack.check_index(replace_struct(INDEX, **changed), records=64, end=END)


def test_header_lengths() -> None:
    assert pack.records_at(1) == 64
    assert pack.records_at(16) == 304
    two = make_pack(ks=TWO)
    header = pack.parse_pack_header(two[:304], len(two), V)
    assert (header.records_at, header.ks) == (80, TWO)
    assert header.index_at + int.from_bytes(two[12:16], "big") == len(two)


def test_sizes_beyond_the_caps_are_refused() -> None:
    header = pack.pack_header(V, ONE, PACK_INDEX_MAX)
    pack.parse_pack_header(header, PACK_INDEX_MAX + 64, V)
    for raw, size in (
        (header, PACK_INDEX_MAX + 63),
        (header, PACK_MAX + 1),
        (pack.pack_header(V, ONE, PACK_INDEX_MAX + 1), PACK_INDEX_MAX + 65),
        (header[:63], PACK_INDEX_MAX + 64),
    ):
        with pytest.raises(Damaged):
            pack.parse_pack_header(raw, size, V)


def test_writer_must_announce_the_length_it_seals() -> None:
    with pytest.raises(ValueError, match="announces"):
        pack.seal_index(PACK_KEY, pack.pack_header(V, ONE, pack.index_len(INDEX) + 1), INDEX)
    bad = replace_struct(INDEX, kind=0)
    with pytest.raises(Invalid):
        pack.seal_index(PACK_KEY, pack.pack_header(V, ONE, pack.index_len(bad)), bad)


def test_index_of_another_pack_does_not_open() -> None:
    """The header is the context, so an index cannot be laid behind other records of other length."""
    two = make_pack(ks=TWO)
    header = pack.parse_pack_header(PACK[:304], len(PACK), V)
    with pytest.raises(Exception, match="do not open"):
        pack.open_index(PACK_KEY, header, two[-pack.index_len(INDEX) :])


def test_constants_of_the_format() -> None:
    assert (pack.RECORD_CHUNK, pack.RECORD_PAGE, pack.RECORD_ROOT) == (0, 1, 2)
    assert (pack.PACK_SHARED, pack.PACK_SOLO) == (1, 2)
    assert (len(BOX.box), len(FID), len(INO)) == (104, 16, 16)
    assert REC.len == sealed_len(REC.plain_len)
    assert sha(PACK) != sha(make_pack())
    assert stream("a", 4) != stream("b", 4)
