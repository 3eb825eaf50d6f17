"""Fixed vectors: objects that the reference implementation made read as they say, and the refused ones are refused.

And the other way round: what cryptfs makes, the reference implementation reads.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import format_samples as samples
import pytest
import reference_format as ref
from cryptography.exceptions import InvalidSignature
from reference_format import pack as ref_pack
from reference_format import unpack

from cryptfs import errors
from cryptfs.crypto.keys import KeyLabel, chunk_ctx, file_key_ctx
from cryptfs.crypto.seal import open_sealed
from cryptfs.format import checkpoint, crl, join, manifest, names, pack, rollup, segment, statement, wraps
from cryptfs.format.codec import decode, encode
from cryptfs.format.content import Content
from cryptfs.format.content_rules import check_content
from cryptfs.format.operation import OpId

VECTORS = Path(__file__).parent.parent / "vectors"


def load(name: str) -> dict:
    return json.loads((VECTORS / f"format_{name}.json").read_text())


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_format", VECTORS / "make_format.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said(value: object) -> object:
    """The value behind the JSON of a vector."""
    if isinstance(value, dict):
        return bytes.fromhex(value["bin"])
    return [said(item) for item in value] if isinstance(value, list) else value


class Vector:
    """One file of vectors of a class of objects."""

    def __init__(self, name: str) -> None:
        self.json = load(name)
        self.vault, self.pub = self.hex("vault"), self.hex("sign_pub")
        self.keys = {name: bytes.fromhex(key) for name, key in self.json.get("keys", {}).items()}

    def hex(self, name: str) -> bytes:
        return bytes.fromhex(self.json[name])


def read_genesis(vector: Vector, data: bytes, vault: bytes) -> object:
    parsed = statement.parse_statement(data, vault)
    parsed.verify(parsed.payload.op.device.sign_pub)
    return parsed.payload


def read_statement(vector: Vector, data: bytes, vault: bytes) -> object:
    raw = statement.split_statement(data, vault)
    raw.verify(vector.pub)
    return raw.open().payload


def read_wraps(vector: Vector, data: bytes, vault: bytes) -> object:
    return wraps.parse_wraps(data, vault).open(vector.pub)


def read_join(vector: Vector, data: bytes, vault: bytes) -> object:
    return join.parse_join(data, vault).open(vector.hex("secret"))


def read_segment(vector: Vector, data: bytes, vault: bytes) -> object:
    raw = segment.parse_segment(data, vault)
    segment.verify_segment(raw, vector.pub)
    body = segment.open_segment(raw, vector.keys["log"])
    assert raw.body2 == vector.hex("body2")
    return body


def read_rollup(vector: Vector, data: bytes, vault: bytes) -> object:
    parsed = rollup.parse_rollup(data, vault)
    assert not parsed.bad
    (raw,) = parsed.segments
    segment.verify_segment(raw, vector.pub)
    segment.open_segment(raw, vector.keys["log"])
    return (data[80:],)


def read_pack(vector: Vector, data: bytes, vault: bytes) -> object:
    parsed = pack.parse_pack_header(data[:304], len(data), vault)
    return pack.open_index(vector.keys["pack"], parsed, data[parsed.index_at :])


def read_checkpoint(vector: Vector, data: bytes, vault: bytes) -> object:
    raw = checkpoint.parse_checkpoint(data, len(data), vault)
    checkpoint.verify_checkpoint(raw, vector.pub)
    head = checkpoint.open_head(raw, vector.keys["meta"])
    rows = [(str(table), row.hex()) for table, row in checkpoint.read_tables(raw, head, vector.keys["meta"], data)]
    assert rows == [(table, row) for table, found in vector.json["rows"].items() for row in found]
    return head


def read_crl(vector: Vector, data: bytes, vault: bytes) -> object:
    return (crl.parse_crl(data, vault),)


READERS = {
    "genesis": read_genesis,
    "statement": read_statement,
    "wraps": read_wraps,
    "join": read_join,
    "segment": read_segment,
    "segment_two_epochs": read_segment,
    "rollup": read_rollup,
    "pack": read_pack,
    "pack_two_epochs": read_pack,
    "checkpoint": read_checkpoint,
    "checkpoint_two_epochs": read_checkpoint,
    "crl": read_crl,
}
each_class = pytest.mark.parametrize("name", READERS)


@each_class
def test_objects_say_what_they_should(name: str) -> None:
    vector = Vector(name)
    value = READERS[name](vector, vector.hex("data"), vector.vault)
    assert unpack(encode(value)) == said(vector.json["says"])


@each_class
def test_refused_objects_are_refused_for_the_right_reason(name: str) -> None:
    vector = Vector(name)
    assert len(vector.json["refused"]) >= 9
    for variant in vector.json["refused"]:
        expected = getattr(errors, variant["error"])
        vault = bytes.fromhex(variant.get("vault", "")) or vector.vault
        with pytest.raises(errors.CryptfsError) as caught:
            READERS[name](vector, bytes.fromhex(variant["data"]), vault)
        assert type(caught.value) is expected, f"{variant['why']}: {caught.value}"


def test_tokens() -> None:
    vectors = load("token")
    token = join.decode_token(vectors["line"])
    assert unpack(encode(token)) == said(vectors["says"])
    assert join.encode_token(token) == vectors["line"]
    for variant in vectors["refused"]:
        with pytest.raises(errors.CryptfsError) as caught:
            join.decode_token(variant["line"])
        assert type(caught.value).__name__ == variant["error"], variant["why"]


def test_contents_keys_manifests_and_chunks() -> None:
    vectors, vault = load("content"), Vector("segment").vault
    found = {name: bytes.fromhex(value) for name, value in vectors.items() if isinstance(value, str)}
    paged, inline = (decode(Content, found[name], 4096) for name in ("paged", "inline"))
    check_content(paged)
    check_content(inline, len(found["chunk"]))
    keys = (found["meta_key"], vault, found["ks"])
    root_record, page_record = (bytes.fromhex(vectors[part]["record"]) for part in ("root", "page"))
    root = manifest.open_root(*keys, paged, root_record)
    page = manifest.open_page(*keys, paged, page_record, number=0)
    assert unpack(encode(root)) == said(vectors["root"]["says"])
    assert unpack(encode(page)) == said(vectors["page"]["says"])
    (box,) = inline.keys
    ctx = file_key_ctx(vault, box.ks, inline.fid, 0)
    assert box.box == found["file_key_box"]
    assert open_sealed(found["fk_key"], ctx, box.box) == found["file_key"]
    assert open_sealed(found["file_key"], chunk_ctx(vault, inline.fid, 0, 0, 5, 0), found["chunk"]) == found["plain"]


def test_ids_and_names() -> None:
    vectors = load("ids")
    vault, log, digest = (bytes.fromhex(vectors[name]) for name in ("vault", "log", "digest"))
    op = OpId(log, vectors["n"])
    assert names.inode_of(vault, op).hex() == vectors["inode"]
    assert names.copy_inode_of(vault, op).hex() == vectors["copy"]
    assert names.root_inode(vault).hex() == vectors["root"]
    assert names.lost_inode(vault).hex() == vectors["lost"]
    assert vectors["names"] == {
        "statement": names.statement_name(digest),
        "crl": names.crl_name(digest),
        "wraps": names.wraps_name(log, digest),
        "join": names.join_name(digest),
        "segment": names.segment_name(log, 300, digest),
        "rollup": names.rollup_name(log, 0, 300, digest),
        "pack": names.pack_name(digest),
        "spread pack": names.pack_name(digest, spread=True),
        "checkpoint": names.checkpoint_name(300, digest, digest),
    }


def test_the_script_makes_the_files_that_are_here() -> None:
    made = maker().all_vectors()
    assert {f"format_{name}.json" for name in made} == {path.name for path in VECTORS.glob("format_*.json")}
    for name, vectors in made.items():
        assert json.loads(json.dumps(vectors)) == load(name), name


# ---- the reference reads what cryptfs makes ------------------------------------------------------------------------

V, PUB = samples.V, samples.PUB
KEYS = {n: {x.value.decode(): samples.key(x, ks) for x in KeyLabel} for n, ks in ((1, samples.ONE), (2, samples.TWO))}


def test_reference_reads_each_class() -> None:
    assert ref_pack(ref.read_genesis(samples.GENESIS.data, V)) == encode(samples.GENESIS.payload)
    assert ref_pack(ref.read_statement(samples.ROTATE.data, V, PUB)) == encode(samples.ROTATE.payload)
    assert ref.read_wraps(samples.WRAPS, V, PUB)[2] == unpack(
        encode(tuple(sorted(samples.RECS, key=lambda r: r.entry)))
    )
    for data in (samples.SEALED_JOIN, samples.CLEAR_JOIN):
        assert ref_pack(ref.read_join(data, V, samples.SECRET)) == encode(samples.JOIN_BODY)
    for n, ks in ((1, samples.ONE), (2, samples.TWO)):
        body, body2 = ref.read_segment(samples.make_segment(ks=ks), V, PUB, KEYS[n])
        assert (ref_pack(body), body2) == (encode(samples.BODY), samples.BODY2)
        index, records = ref.read_pack(samples.make_pack(ks), V, KEYS[n])
        assert len(records) == len(index[4]) == 3
        head, tables = ref.read_checkpoint(samples.make_checkpoint(ks), V, PUB, KEYS[n])
        assert tables == samples.ROWS
        assert head[2] == [V]
    assert len(ref.read_rollup(samples.ROLLUP, V, PUB, KEYS[1])) == 2


def test_reference_can_refuse_too() -> None:
    """A reference that accepted everything would prove nothing."""
    data = bytearray(samples.make_segment())
    for at in range(0, len(data), 7):
        data[at] ^= 1
        with pytest.raises((ValueError, InvalidSignature)):
            ref.read_segment(bytes(data), V, PUB, KEYS[1])
        data[at] ^= 1
