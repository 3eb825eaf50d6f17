"""Makes format_*.json: run `python tests/vectors/make_format.py`. Same bytes every time.

Everything comes from the reference implementations in tests/format and tests/crypto, nothing from cryptfs. Binary
values are hex. Variants to be refused are made by the rightful author - sealed and signed anew - wherever the reason is
not the seal or the signature itself; `error` is the class of the refusal.
"""

import base64
import json
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "format"), str(HERE.parent / "crypto")]

import reference_crypto as ref  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from reference_format import header, pack, sha, sign  # noqa: E402

stream = ref.stream
SALT = stream("salt", 24)


def public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


# ---- the cast ------------------------------------------------------------------------------------------------------

SEED, OTHER, RECOVERY = stream("device", 32), stream("other device", 32), stream("recovery", 32)
PUB = public(SEED)
CERT = stream("certificate", 24)
DEVICE = [CERT, PUB, b"", "laptop"]
POLICY = [0, [], "", 0, 7, 0, 1, []]
FOUNDING = [0, "Family", stream("member", 16), "Anna", DEVICE, POLICY, [public(RECOVERY), stream("kem", 32), b""]]
GENESIS = [1, bytes(32), [], bytes(32), 1_700_000_000_000, stream("nonce", 16), FOUNDING, []]
V = sha(pack(GENESIS))
LOG = V[:16]
SECRETS = [stream(f"epoch {i}", 32) for i in range(2)]
EIDS = [ref.expand(es, "cryptfs/v1 epoch-commit", V)[:16] for es in SECRETS]
KEY_SETS = {1: EIDS[0], 2: b"".join(sorted(EIDS))}
FID, INO, DIR = stream("fid", 16), stream("inode", 16), stream("directory", 16)
SECRET = stream("invitation", 16)


def keys(n: int) -> dict[str, bytes]:
    held = dict(zip(EIDS, SECRETS, strict=True))
    ks = KEY_SETS[n]
    w = ref.write_secret(V, {ks[at : at + 16]: held[ks[at : at + 16]] for at in range(0, len(ks), 16)})
    return {x: ref.expand(w, f"cryptfs/v1 {x}", V, ks) for x in ("fk", "meta", "pack", "log")}


# ---- one maker a class: `value` or `plain` may be anything ----------------------------------------------------------


def make_genesis(plain: bytes) -> tuple[bytes, bytes]:
    vault = sha(plain)
    sigs = sign(SEED, "membership", vault, plain) + sign(RECOVERY, "membership", vault, plain)
    return vault, header(b"STMT", vault, b"", len(plain), bytes(32)) + plain + sigs


def make_statement(plain: bytes, seed: bytes = SEED) -> bytes:
    return header(b"STMT", V, b"", len(plain), V) + plain + sign(seed, "membership", V, plain)


def make_wraps(plain: bytes, seed: bytes = SEED) -> bytes:
    data = header(b"WRAP", V, b"", len(plain), V + EIDS[0]) + plain
    return data + sign(seed, "wraps", V, sha(data))


def make_join(plain: bytes, seed: bytes = SEED, secret: bytes = SECRET) -> bytes:
    prk = ref.hkdf_extract("sha512", V, secret)
    invite = ref.hkdf_expand("sha512", prk, b"cryptfs/v1 invite-id\0", 16)
    head = header(b"JOIN", V, b"", len(plain) + 72, PUB + invite)
    join_key = ref.hkdf_expand("sha512", prk, b"cryptfs/v1 join-key\0", 32)
    data = head + ref.seal(join_key, b"cryptfs/v1 join\0" + sha(head), plain, SALT)
    return data + sign(seed, "join", V, sha(data))


def make_segment(plain: bytes, n: int = 1, seed: bytes = SEED, key_of: int = 0, zero: int = 0) -> bytes:
    fixed = LOG + struct.pack(">QII", 0, len(BODY2), zero)
    head = header(b"SEGM", V, KEY_SETS[n], len(plain) + 72, fixed)
    data = head + ref.seal(keys(key_of or n)["log"], b"cryptfs/v1 segment\0" + sha(head), plain, SALT) + BODY2
    return data + sign(seed, "segment", V, sha(data))


def make_pack(plain: bytes, n: int = 1, key_of: int = 0) -> bytes:
    head = header(b"PACK", V, KEY_SETS[n], len(plain) + 72, b"")
    return head + RECORD + ref.seal(keys(key_of or n)["pack"], b"cryptfs/v1 pack\0" + sha(head), plain, SALT)


def make_checkpoint(
    value: list, n: int = 1, seed: bytes = SEED, key_of: int = 0, change: Callable | None = None
) -> bytes:
    """`value` is HD; the hashes of its blocks are filled in, then `change` makes its encoding."""
    change = change or pack
    meta = keys(key_of or n)["meta"]
    head = header(b"CHKP", V, KEY_SETS[n], len(change(value)) + 72, V + struct.pack(">Q", 9))
    blocks = b""
    for table, rows in ROWS.items():
        if rows:
            ctx = b"cryptfs/v1 ckpt-block\0" + sha(head) + struct.pack(">HI", table, 0)
            block = ref.seal(meta, ctx, b"\0" + b"".join(map(ref.lp, rows)), SALT)
            value[5][table - 1][3][0][3] = sha(block)
            blocks += block
    data = head + ref.seal(meta, b"cryptfs/v1 ckpt\0" + sha(head), change(value), SALT)
    return data + sign(seed, "checkpoint", V, sha(data)) + blocks


# ---- what they say -------------------------------------------------------------------------------------------------

EPOCH = [ref.expand(SECRETS[0], "cryptfs/v1 epoch-commit", V), sorted([V, stream("entry", 32)]), b""]
STATEMENT = [1, V, [V], V, 1_700_000_001_000, stream("nonce 2", 16), [3, EPOCH], []]
WRAPS = [
    1,
    EIDS[0],
    [[bytes(32), stream("r", 32), 1, stream("wrap r", 80)], [V, sha(CERT), 1, stream("wrap", 113)]],
    [],
    [],
]
JOIN = [1, "Bob", DEVICE, sign(SEED, "pop", V, sha(CERT) + PUB), -5, []]
CHUNK_CTX = b"cryptfs/v1 chunk\0" + V + FID + struct.pack(">IQIB", 0, 0, 5, 0)
RECORD = ref.seal(stream("file key", 32), CHUNK_CTX, b"hello", SALT)
BODY2 = RECORD


def box(n: int, fkv: int) -> bytes:
    ctx = b"cryptfs/v1 fk\0" + V + ref.lp(KEY_SETS[n]) + FID + struct.pack(">I", fkv)
    return ref.seal(keys(n)["fk"], ctx, stream("file key", 32), SALT)


def content(n: int) -> list:
    return [FID, 5, 16, sha(b"hello"), [[0, KEY_SETS[n], box(n, 0)]], [1, [[1, 1, 0, 0, [0, b"", 0], sha(RECORD)]]]]


def body(n: int) -> list:
    ver = [[stream("log a", 16), 300]]
    ops = [
        [1, DIR, b"hello.txt", 0, 0o644, 1000, 1000, 0, 1_700_000_000_123_456_789, b"", content(n)],
        [6, INO, ver, DIR, b"\xff", [DIR, ver, []], 2],
        [7, INO, 8, 0, 0, 0, -1],
        [9, INO, b"user.x"],
    ]
    vec = [[stream("log a", 16), 4, stream("D", 32)]]
    return [
        1,
        bytes(32),
        70_000,
        sorted([V, stream("head", 32)]),
        vec,
        -1,
        1,
        "vectors",
        0,
        [],
        [[9, stream("root", 32)]],
        ops,
        [],
    ]


def index(n: int) -> list:
    record = [FID, 0, 0, b"", 0, 48 + 16 * n, len(RECORD), 5, 0, sha(RECORD)]
    return [1, 1, [[FID, 0, KEY_SETS[n], box(n, 0)]], [[FID, INO, b"a/hello.txt", 5, 7]], [record], []]


ROWS = {table: [pack([stream(f"key {table}", 16), row]) for row in range(2)] for table in (1, 2)}
ROWS |= {table: [] for table in range(3, 8)}


def checkpoint_head() -> list:
    tables, at, root = [], 0, b"cryptfs/v1 state\0" + V + struct.pack(">QH", 9, 1)
    for table, rows in ROWS.items():
        laid = b"".join(map(ref.lp, rows))
        thash = sha(b"cryptfs/v1 table\0" + struct.pack(">H", table) + laid)
        blocks = [[len(rows), at, len(laid) + 73, bytes(32)]] if rows else []
        at += len(laid) + 73 if rows else 0
        tables.append([table, len(rows), thash, blocks])
        root += thash
    return [1, 1, [V], [[LOG, 0, stream("D 0", 32), 9]], b"", tables, sha(root), "vectors", []]


# ---- what must be refused ------------------------------------------------------------------------------------------


def spelled_variants() -> Iterator[tuple[str, str, Callable[[list], bytes]]]:
    """Reason, error, and the encoding to seal and sign instead of the right one."""
    yield "over-long integer", "Invalid", lambda v: pack(v)[:1] + b"\xcc\x01" + pack(v)[2:]
    yield "over-long array", "Invalid", lambda v: b"\xdc" + struct.pack(">H", len(v)) + pack(v)[1:]
    yield "one element more", "Invalid", lambda v: pack([*v, 0])
    yield "one element less", "Invalid", lambda v: pack(v[:-1])
    yield "bytes behind the value", "Invalid", lambda v: pack(v) + b"\0"
    yield "float for an integer", "Invalid", lambda v: pack(v)[:1] + b"\xcb" + struct.pack(">d", 1.0) + pack(v)[2:]
    yield "nil for an integer", "Invalid", lambda v: pack(v)[:1] + b"\xc0" + pack(v)[2:]
    yield "format 0", "Invalid", lambda v: pack([0, *v[1:]])
    yield "format 2", "NeedsUpdate", lambda v: pack([2, *v[1:]])
    yield "format 2 of another shape", "NeedsUpdate", lambda v: pack([2, *v[1:], "more"])
    yield "unsorted extensions", "Invalid", lambda v: pack([*v[:-1], [[2, False, b""], [1, False, b""]]])
    yield "critical extension", "NeedsUpdate", lambda v: pack([*v[:-1], [[1, True, b""]]])


def framed_variants(data: bytes, sealed: bool) -> Iterator[tuple[str, str, bytes]]:
    """Bytes that no author made."""
    yield "another layout", "Damaged", data[:7] + b"2" + data[8:]
    yield "another suite", "NeedsUpdate", data[:8] + b"\2" + data[9:]
    yield "n of another kind of class", "Damaged", data[:9] + (b"\0" if sealed else b"\1") + data[10:]
    yield "reserved byte", "Damaged", data[:11] + b"\1" + data[12:]
    yield "another V", "Damaged", data[:16] + stream("another vault", 32) + data[48:]
    yield "length in the header", "Damaged", data[:12] + struct.pack(">I", 1 << 31) + data[16:]
    yield "header cut off", "Damaged", data[:60]
    yield "nothing", "Damaged", b""


def lengths(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    yield "one byte less", "Damaged", data[:-1]
    yield "one byte more", "Damaged", data + b"\0"


def vector(value: list, data: bytes, refused: list[tuple[str, str, bytes]], **more: object) -> dict:
    variants = [{"why": why, "error": error, "data": odd.hex()} for why, error, odd in refused]
    return {"data": data.hex(), "says": plainly(value), **more, "refused": variants}


def plainly(value: object) -> object:
    """JSON: bytes become {"bin": hex}."""
    if isinstance(value, bytes):
        return {"bin": value.hex()}
    return [plainly(item) for item in value] if isinstance(value, list) else value


def signed_class(value: list, make: Callable, unsorted: Callable[[list], list]) -> dict:
    data = make(pack(value))
    refused = [(why, error, make(change(value))) for why, error, change in spelled_variants()]
    refused += [*framed_variants(data, sealed=False), *lengths(data)]
    refused.append(("unsorted list", "Invalid", make(pack(unsorted(value)))))
    refused.append(("signature of another device", "AuthError", make(pack(value), seed=OTHER)))
    refused.append(("signature changed", "AuthError", data[:-1] + bytes([data[-1] ^ 1])))
    return vector(value, data, refused)


def replaced(value: list, at: int, new: object) -> list:
    return [*value[:at], new, *value[at + 1 :]]


def genesis_vectors() -> dict:
    vault, data = make_genesis(pack(GENESIS))
    assert vault == V
    refused = [*framed_variants(data, sealed=False), *lengths(data)]
    refused.append(("recovery signature missing", "Invalid", data[:-64]))
    refused.append(("signatures exchanged", "AuthError", data[:-128] + data[-64:] + data[-128:-64]))
    found = vector(GENESIS, data, refused)
    others = [(why, error, change(GENESIS)) for why, error, change in spelled_variants()]
    others.append(("names a vault", "Invalid", pack(replaced(GENESIS, 1, V))))
    others.append(("has something before it", "Invalid", pack(replaced(GENESIS, 2, [V]))))
    for why, error, plain in others:
        other, odd = make_genesis(plain)
        found["refused"].append({"why": why, "error": error, "vault": other.hex(), "data": odd.hex()})
    return found


def statement_vectors() -> dict:
    def unsorted(value: list) -> list:
        return replaced(value, 6, [3, [value[6][1][0], value[6][1][1][::-1], b""]])

    found = signed_class(STATEMENT, make_statement, unsorted)
    for why, error, value in [
        ("an act of a later version", "NeedsUpdate", replaced(STATEMENT, 6, [9, 1])),
        ("payload of another vault", "Invalid", replaced(STATEMENT, 1, stream("another vault", 32))),
        ("payload by another author", "Invalid", replaced(STATEMENT, 3, stream("entry", 32))),
    ]:
        found["refused"].append({"why": why, "error": error, "data": make_statement(pack(value)).hex()})
    return found


def segment_vectors(n: int) -> dict:
    value = body(n)
    data = make_segment(pack(value), n)
    refused = [(why, error, make_segment(change(value), n)) for why, error, change in spelled_variants()]
    refused += [*framed_variants(data, sealed=True), *lengths(data)]
    far = content(n)
    far[5] = [1, [[1, 1, 0, 0, [0, b"", 1], sha(RECORD)]]]
    ops = value[11]
    for why, error, odd in [
        ("unsorted list", "Invalid", replaced(value, 3, value[3][::-1])),
        ("operation of a later version", "NeedsUpdate", replaced(value, 11, [[31, 1]])),
        ("codec of a later version", "NeedsUpdate", replaced(value, 11, [with_codec(ops[0], 1)])),
        ("name with a slash", "Invalid", replaced(value, 11, [replaced(ops[0], 2, b"a/b")])),
        ("record outside body2", "Invalid", replaced(value, 11, [replaced(ops[0], 10, far)])),
        ("first segment with a predecessor", "Invalid", replaced(value, 1, stream("D", 32))),
        ("own log in the vector", "Invalid", replaced(value, 4, [[LOG, 0, stream("D", 32)]])),
        ("provisional inode", "Invalid", replaced(value, 11, [replaced(ops[3], 1, b"\xff" * 8 + bytes(8))])),
    ]:
        refused.append((why, error, make_segment(pack(odd), n)))
    refused.append(("signature of another device", "AuthError", make_segment(pack(value), n, seed=OTHER)))
    refused.append(("sealed under another key set", "AuthError", make_segment(pack(value), n, key_of=3 - n)))
    refused.append(("reserved bytes of the class", "Damaged", make_segment(pack(value), n, zero=1)))
    return vector(value, data, refused, body2=BODY2.hex(), keys={x: k.hex() for x, k in keys(n).items()})


def with_codec(op: list, codec: int) -> list:
    inner = replaced(op[10], 5, [1, [replaced(op[10][5][1][0], 2, codec)]])
    return replaced(op, 10, inner)


def pack_vectors(n: int) -> dict:
    value = index(n)
    data = make_pack(pack(value), n)
    refused = [(why, error, make_pack(change(value), n)) for why, error, change in spelled_variants()]
    refused += framed_variants(data, sealed=True)
    key = value[2][0]
    refused.append(("unsorted list", "Invalid", make_pack(pack(replaced(value, 2, [key, key])), n)))
    refused.append(("record outside the pack", "Invalid", make_pack(pack(moved(value)), n)))
    refused.append(("sealed under another key set", "AuthError", make_pack(pack(value), n, key_of=3 - n)))
    return vector(value, data, refused, keys={x: k.hex() for x, k in keys(n).items()})


def moved(value: list) -> list:
    return replaced(value, 4, [replaced(value[4][0], 5, value[4][0][5] + 1)])


def checkpoint_vectors(n: int) -> dict:
    value = checkpoint_head()
    data = make_checkpoint(value, n)
    refused = [
        (why, error, make_checkpoint(checkpoint_head(), n, change=change)) for why, error, change in spelled_variants()
    ]
    refused += [*framed_variants(data, sealed=True), *lengths(data)]
    for why, at, new in [
        ("unsorted list", 5, value[5][::-1]),
        ("another root", 6, bytes(32)),
        ("a table missing", 5, value[5][:6]),
        ("no membership heads", 2, []),
    ]:
        odd = make_checkpoint(checkpoint_head(), n, change=lambda v, at=at, new=new: pack(replaced(v, at, new)))
        refused.append((why, "Invalid", odd))
    refused.append(("signature of another device", "AuthError", make_checkpoint(checkpoint_head(), n, seed=OTHER)))
    refused.append(("sealed under another key set", "AuthError", make_checkpoint(checkpoint_head(), n, key_of=3 - n)))
    refused.append(("block changed", "Damaged", data[:-1] + bytes([data[-1] ^ 1])))
    rows = {str(table): [row.hex() for row in found] for table, found in ROWS.items()}
    return vector(value, data, refused, rows=rows, keys={x: k.hex() for x, k in keys(n).items()})


def rollup_vectors() -> dict:
    segment = make_segment(pack(body(1)))
    data = header(b"ROLL", V, b"", 1, LOG + struct.pack(">QQ", 0, 0)) + segment
    refused = [*framed_variants(data, sealed=False), ("one byte more", "Damaged", data + b"\0")]
    return vector([segment], data, refused, keys={x: k.hex() for x, k in keys(1).items()})


def crl_vectors() -> dict:
    der = stream("crl", 50)
    data = header(b"CREV", V, b"", len(der), b"") + der
    return vector([der], data, [*framed_variants(data, sealed=False), *lengths(data)])


def token_vectors() -> dict:
    value = [1, V, SECRET, 1, 1_800_000_000_000, [V], [LOG, 4, stream("D", 32)], "file:///shared"]

    def line(plain: bytes) -> str:
        return "cfs1-" + base64.urlsafe_b64encode(plain + sha(plain)[:4]).rstrip(b"=").decode()

    good = line(pack(value))
    refused = [(why, error, line(change(value))) for why, error, change in spelled_variants() if "ext" not in why]
    refused += [("one character less", "Invalid", good[:-1]), ("another prefix", "Invalid", "cfs2" + good[4:])]
    refused += [("padding", "Invalid", good + "="), ("another character", "Invalid", good[:9] + "-" + good[10:])]
    variants = [{"why": why, "error": error, "line": odd} for why, error, odd in refused]
    return {"line": good, "says": plainly(value), "refused": variants}


def content_vectors() -> dict:
    """A paged content with holes: its manifests, one chunk, and the keys that open them."""
    meta, ks = keys(2)["meta"], KEY_SETS[2]
    pack_id = stream("pack", 32)
    file_key = [0, ks, box(2, 0)]
    page = [1, [[0, 10], [1, 2, 0, 0, [1, pack_id, 80], stream("two hashes", 64)], [0, 4084]]]
    page_record = ref.seal(meta, manifest_ctx(0, 0), pack(page), SALT)
    page_ref = [ks, [2, stream("D", 32), 1000], len(page_record), sha(page_record)]
    root = [1, [file_key], [page_ref, None]]
    root_record = ref.seal(meta, manifest_ctx(1, 0), pack(root), SALT)
    root_ref = [ks, [1, pack_id, 5000], len(root_record), sha(root_record)]
    patch = [4096, [1, 1, 0, 3, [1, pack_id, 7], stream("hash", 32)]]
    paged = [FID, 4097 << 16, 16, b"", [[3, ks, box(2, 3)]], [2, root_ref, [patch]]]
    return {
        "meta_key": meta.hex(), "ks": ks.hex(), "paged": pack(paged).hex(),
        "root": {"record": root_record.hex(), "says": plainly(root)},
        "page": {"record": page_record.hex(), "says": plainly(page)},
        "inline": pack(content(1)).hex(), "file_key_box": box(1, 0).hex(), "fk_key": keys(1)["fk"].hex(),
        "file_key": stream("file key", 32).hex(), "chunk": RECORD.hex(), "plain": b"hello".hex(),
    }  # fmt: skip


def manifest_ctx(level: int, first: int) -> bytes:
    return b"cryptfs/v1 manifest\0" + V + ref.lp(KEY_SETS[2]) + FID + struct.pack(">BQ", level, first)


def id_vectors() -> dict:
    op = LOG + struct.pack(">Q", 300)

    def inode(label: bytes, rest: bytes = b"") -> str:
        return sha(b"cryptfs/v1 " + label + b"\0" + V + rest)[:16].hex()

    d = stream("D", 32)
    h16 = d.hex()[:16]
    return {
        "vault": V.hex(), "log": LOG.hex(), "n": 300, "digest": d.hex(),
        "inode": inode(b"ino", op), "copy": inode(b"copy", op), "root": inode(b"root"), "lost": inode(b"lost"),
        "names": {
            "statement": f"m/{d.hex()}", "crl": f"m/{d.hex()}.crl", "wraps": f"w/{LOG.hex()}-{h16}",
            "join": f"j/{d.hex()[:32]}", "segment": f"l/{LOG.hex()}-0000000300-{h16}",
            "rollup": f"l/{LOG.hex()}-r0000000000-0000000300-{h16}", "pack": f"p/{d.hex()}",
            "spread pack": f"p{d.hex()[0]}/{d.hex()}", "checkpoint": f"c/000000000000012c-{h16}-{h16}",
        },
    }  # fmt: skip


def all_vectors() -> dict[str, dict]:
    found = {
        "genesis": genesis_vectors(),
        "statement": statement_vectors(),
        "wraps": signed_class(WRAPS, make_wraps, lambda value: replaced(value, 2, value[2][::-1])),
        "join": signed_class(JOIN, make_join, lambda value: replaced(value, 5, [[2, False, b""], [2, False, b""]])),
        "segment": segment_vectors(1),
        "segment_two_epochs": segment_vectors(2),
        "rollup": rollup_vectors(),
        "pack": pack_vectors(1),
        "pack_two_epochs": pack_vectors(2),
        "checkpoint": checkpoint_vectors(1),
        "checkpoint_two_epochs": checkpoint_vectors(2),
        "crl": crl_vectors(),
        "token": token_vectors(),
        "content": content_vectors(),
        "ids": id_vectors(),
    }
    cast = {"vault": V.hex(), "sign_pub": PUB.hex(), "secret": SECRET.hex(), "entry": V.hex(), "eid": EIDS[0].hex()}
    return {name: one if name in {"ids", "token", "content"} else one | cast for name, one in found.items()}


def main() -> None:
    for name, one in all_vectors().items():
        (HERE / f"format_{name}.json").write_text(json.dumps(one, indent=1) + "\n")


if __name__ == "__main__":
    main()
