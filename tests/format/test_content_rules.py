"""File contents: spans tile the file exactly, keys are exactly those in use, records have a place and a length."""

import pytest
from format_samples import (
    BODY2,
    BOX,
    EMPTY,
    FID,
    HERE,
    META_KEY,
    ONE,
    PACK_ID,
    PACKED,
    PAGE,
    PAGED,
    ROOT,
    ROOT_REF,
    TWO,
    V,
    replace_struct,
    stream,
)

from cryptfs.crypto.keys import manifest_ctx
from cryptfs.crypto.seal import seal, sealed_len
from cryptfs.errors import AuthError, Invalid, NeedsUpdate
from cryptfs.format.codec import FMT, encode
from cryptfs.format.content import Content, FileKeyBox, Hole, Inline, Loc, Page, Paged, Patch, Run
from cryptfs.format.content_rules import (
    check_content,
    check_page,
    check_root,
    chunk_count,
    page_chunks,
    plain_chunk_len,
    records_len,
)
from cryptfs.format.manifest import open_page, open_root, seal_page, seal_root

C = 1 << 16


def run(count: int, fkv: int = 0, *, codec: int = 0, loc: Loc | None = None) -> Run:
    return Run(count, codec, fkv, loc or Loc(1, PACK_ID, 64), stream("hashes", 32 * count))


def content(size: int, *spans: object, keys: tuple[FileKeyBox, ...] = (BOX,), chunk_log2: int = 16) -> Content:
    return Content(FID, size, chunk_log2, b"", keys, Inline(spans))


GOOD = [
    EMPTY,
    HERE,
    PACKED,
    PAGED,
    content(1, run(1)),
    content(C, run(1)),
    content(C + 1, run(2)),
    content(C + 1, run(1), Hole(1)),
    content(C + 1, Hole(1), run(1)),
    content(5 * C, Hole(2), Hole(3), keys=()),
    content(2**44, Hole(1 << 22), keys=(), chunk_log2=22),
    content(2 * C, run(1), run(1, 2), keys=(BOX, FileKeyBox(2, TWO, BOX.box))),
    content(2 * C, run(1, 2), run(1), keys=(BOX, FileKeyBox(2, TWO, BOX.box))),
    replace_struct(PAGED, keys=(), body=Paged(ROOT_REF, ())),
]
BAD = {
    "short fid": replace_struct(HERE, fid=FID[:15]),
    "negative size": replace_struct(EMPTY, size=-1),
    "size above the limit": content(2**38 + 1, Hole((1 << 22) + 1), keys=()),
    "chunk size of the future": content(1, run(1), chunk_log2=21),
    "tiny chunks": content(1, run(1), chunk_log2=12),
    "digest of 31 bytes": replace_struct(HERE, digest=bytes(31)),
    "gap at the end": content(2 * C, run(1)),
    "beyond the end": content(C, run(2)),
    "a span in an empty file": content(0, Hole(1), keys=()),
    "no span": content(1, keys=()),
    "empty hole": content(C, Hole(0), run(1)),
    "negative hole": content(C, Hole(-1), run(2)),
    "empty run": content(C, Run(0, 0, 0, Loc(1, PACK_ID, 0), b""), Hole(1)),
    "huge hole": content(C, Hole(2**62), keys=()),
    "hash missing": content(2 * C, Run(2, 0, 0, Loc(1, PACK_ID, 0), bytes(32))),
    "hash too many": content(C, Run(1, 0, 0, Loc(1, PACK_ID, 0), bytes(64))),
    "key missing": content(C, run(1), keys=()),
    "key not in use": content(C, run(1), keys=(BOX, FileKeyBox(1, ONE, BOX.box))),
    "another key": content(C, run(1, 1)),
    "keys not sorted": content(2 * C, run(1), run(1, 2), keys=(FileKeyBox(2, TWO, BOX.box), BOX)),
    "key twice": content(C, run(1), keys=(BOX, BOX)),
    "key version too high": content(C, run(1, 2**32), keys=(FileKeyBox(2**32, ONE, BOX.box),)),
    "short box": content(C, run(1), keys=(FileKeyBox(0, ONE, bytes(103)),)),
    "no epoch": content(C, run(1), keys=(FileKeyBox(0, b"", BOX.box),)),
    "epochs not sorted": content(C, run(1), keys=(FileKeyBox(0, TWO[16:] + TWO[:16], BOX.box),)),
    "epoch twice": content(C, run(1), keys=(FileKeyBox(0, ONE + ONE, BOX.box),)),
    "seventeen epochs": content(C, run(1), keys=(FileKeyBox(0, bytes(16 * 17), BOX.box),)),
    "negative offset": content(C, run(1, loc=Loc(1, PACK_ID, -1))),
    "offset beyond 64 bits": content(C, run(1, loc=Loc(1, PACK_ID, 2**63 - 10))),
    "no such place": content(C, run(1, loc=Loc(3, PACK_ID, 0))),
    "pack without id": content(C, run(1, loc=Loc(1, b"", 0))),
    "own segment with id": content(100, run(1, loc=Loc(0, PACK_ID, 0))),
    "outside body2": content(100, run(1, loc=Loc(0, b"", 1))),
    "empty and paged": replace_struct(PAGED, size=0, keys=(), body=Paged(ROOT_REF, ())),
    "root too short": replace_struct(PAGED, keys=(), body=Paged(replace_struct(ROOT_REF, len=72), ())),
    "root too long": replace_struct(PAGED, keys=(), body=Paged(replace_struct(ROOT_REF, len=1 << 21), ())),
    "root without hash": replace_struct(PAGED, keys=(), body=Paged(replace_struct(ROOT_REF, hash=b""), ())),
    "root without epochs": replace_struct(PAGED, keys=(), body=Paged(replace_struct(ROOT_REF, ks=b""), ())),
    "patches not sorted": replace_struct(PAGED, keys=(), body=Paged(ROOT_REF, (Patch(9, Hole(1)), Patch(8, Hole(1))))),
    "patches overlap": replace_struct(PAGED, keys=(), body=Paged(ROOT_REF, (Patch(8, Hole(2)), Patch(9, Hole(1))))),
    "patch beyond the end": replace_struct(PAGED, keys=(), body=Paged(ROOT_REF, (Patch(4999, Hole(2)),))),
    "patch behind the end": replace_struct(PAGED, keys=(), body=Paged(ROOT_REF, (Patch(5000, Hole(1)),))),
    "negative patch": replace_struct(PAGED, keys=(), body=Paged(ROOT_REF, (Patch(-1, Hole(1)),))),
    "patch under an impossible key": replace_struct(PAGED, keys=(), body=Paged(ROOT_REF, (Patch(0, run(1, 2**32)),))),
    "patch under a negative key": replace_struct(PAGED, keys=(), body=Paged(ROOT_REF, (Patch(0, run(1, -1)),))),
    "key that no patch needs": replace_struct(PAGED, body=Paged(ROOT_REF, ())),
    "longer than 4096 bytes": content(130 * C, run(130)),
}


@pytest.mark.parametrize("good", GOOD)
def test_good_contents_pass(good: Content) -> None:
    check_content(good, len(BODY2))


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_contents_are_refused(bad: Content) -> None:
    """T-hole, T-size: holes, counts and sizes are part of what is signed, and have to tile the file."""
    with pytest.raises(Invalid):
        check_content(bad, len(BODY2))


def test_longest_inline_content_passes_and_one_byte_more_does_not() -> None:
    def padded(hashes: int, epochs: int) -> Content:
        ks = b"".join(i.to_bytes(16, "big") for i in range(epochs))
        return content(hashes * C, run(hashes), keys=(FileKeyBox(0, ks, BOX.box),))

    lengths = {(h, e): len(encode(padded(h, e))) for h in range(114, 122) for e in range(1, 17)}
    for (hashes, epochs), length in lengths.items():
        if length <= 4096:
            check_content(padded(hashes, epochs))
        else:
            with pytest.raises(Invalid, match="too long"):
                check_content(padded(hashes, epochs))
    assert min(lengths.values()) <= 4096 < max(lengths.values())


def test_own_segment_is_no_place_for_replica_and_checkpoint() -> None:
    with pytest.raises(Invalid):
        check_content(HERE)


@pytest.mark.parametrize("codec", [1, 255])
def test_codec_of_a_later_version_asks_for_an_update(codec: int) -> None:
    with pytest.raises(NeedsUpdate):
        check_content(content(C, run(1, codec=codec)))


@pytest.mark.parametrize("codec", [-1, 256])
def test_codec_that_is_no_byte(codec: int) -> None:
    with pytest.raises(Invalid):
        check_content(content(C, run(1, codec=codec)))


# ---- arithmetic ----------------------------------------------------------------------------------------------------


def test_chunks_of_a_file() -> None:
    assert [chunk_count(size, 16) for size in (0, 1, C, C + 1, 5 * C)] == [0, 1, 1, 2, 5]
    assert [plain_chunk_len(C + 7, 16, i) for i in (0, 1)] == [C, 7]
    assert plain_chunk_len(C, 16, 0) == C
    assert records_len(C + 7, 16, 0, 1) == sealed_len(C)
    assert records_len(C + 7, 16, 0, 2) == sealed_len(C) + sealed_len(7)
    assert records_len(C + 7, 16, 1, 1) == sealed_len(7)
    assert [page_chunks(5000 * C, 16, i) for i in (0, 1)] == [4096, 904]


# ---- manifests -----------------------------------------------------------------------------------------------------


def test_manifests_read_back() -> None:
    root = seal_root(META_KEY, V, ONE, PAGED, ROOT)
    assert open_root(META_KEY, V, ONE, PAGED, root) == ROOT
    page = seal_page(META_KEY, V, ONE, PAGED, PAGE, number=0)
    assert open_page(META_KEY, V, ONE, PAGED, page, number=0) == PAGE


def test_manifest_in_another_place_does_not_open() -> None:
    root, page = seal_root(META_KEY, V, ONE, PAGED, ROOT), seal_page(META_KEY, V, ONE, PAGED, PAGE, number=0)
    other_file = replace_struct(PAGED, fid=stream("other", 16))
    attempts = [
        lambda: open_root(META_KEY, V, ONE, PAGED, page),
        lambda: open_page(META_KEY, V, ONE, PAGED, root, number=0),
        lambda: open_page(META_KEY, V, ONE, PAGED, page, number=1),
        lambda: open_page(META_KEY, V, ONE, other_file, page, number=0),
        lambda: open_root(META_KEY, V, ONE, other_file, root),
        lambda: open_root(META_KEY, V, TWO, PAGED, root),
        lambda: open_root(META_KEY, stream("v", 32), ONE, PAGED, root),
        lambda: open_root(stream("key", 32), V, ONE, PAGED, root),
        lambda: open_root(META_KEY, V, ONE, PAGED, root[:-1]),
        lambda: open_root(META_KEY, V, ONE, PAGED, root + b"\0"),
    ]
    for attempt in attempts:
        with pytest.raises(AuthError):
            attempt()


@pytest.mark.parametrize(
    "root",
    [
        replace_struct(ROOT, pages=ROOT.pages[:1]),
        replace_struct(ROOT, pages=(*ROOT.pages, None)),
        replace_struct(ROOT, keys=(BOX, BOX)),
        replace_struct(ROOT, pages=(replace_struct(ROOT_REF, loc=Loc(0, b"", 0)), None)),
        replace_struct(ROOT, fmt=0),
    ],
)
def test_bad_roots_are_refused(root: object) -> None:
    check_root(ROOT, PAGED)
    with pytest.raises(Invalid):
        check_root(root, PAGED)


@pytest.mark.parametrize(
    ("page", "number"),
    [
        (PAGE, 1),
        (Page(FMT, (Hole(4095),)), 0),
        (Page(FMT, (Hole(4097),)), 0),
        (Page(FMT, (Hole(4096), Hole(1))), 0),
        (Page(FMT, (Hole(4095), run(1, loc=Loc(0, b"", 0)))), 0),
        (Page(FMT, ()), 0),
        (Page(0, (Hole(4096),)), 0),
        (Page(FMT, (Hole(903),)), 1),
        (Page(FMT, (Hole(905),)), 1),
    ],
)
def test_bad_pages_are_refused(page: Page, number: int) -> None:
    check_page(PAGE, PAGED, 0)
    check_page(Page(FMT, (Hole(904),)), PAGED, 1)
    with pytest.raises(Invalid):
        check_page(page, PAGED, number)


def test_manifests_are_judged_when_made_and_when_opened() -> None:
    short, gap = replace_struct(ROOT, pages=()), Page(FMT, (Hole(1),))
    with pytest.raises(Invalid):
        seal_root(META_KEY, V, ONE, PAGED, short)
    with pytest.raises(Invalid):
        seal_page(META_KEY, V, ONE, PAGED, gap, number=0)
    root, page = (
        seal(META_KEY, manifest_ctx(V, ONE, FID, level, 0), encode(value)) for level, value in ((1, short), (0, gap))
    )
    with pytest.raises(Invalid):
        open_root(META_KEY, V, ONE, PAGED, root)
    with pytest.raises(Invalid):
        open_page(META_KEY, V, ONE, PAGED, page, number=0)


def test_manifest_of_a_later_version_asks_for_an_update() -> None:
    with pytest.raises(NeedsUpdate):
        check_root(replace_struct(ROOT, fmt=2), PAGED)
    with pytest.raises(NeedsUpdate):
        check_page(replace_struct(PAGE, fmt=2), PAGED, 0)
