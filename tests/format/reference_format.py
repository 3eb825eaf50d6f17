"""The format a second time, written from docs/format.md: a MessagePack reader and writer, and one reader a class.

Shares no code with cryptfs and uses no MessagePack library. Values are plain lists, ints, str, bytes, bool and None, in
the order of docs/format.md. SEAL and the key tree come from the reference implementation of the crypto.
"""

import hashlib
import struct

import reference_crypto as ref
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

# ---- MessagePack, in its shortest spelling only --------------------------------------------------------------------

# first byte: (kind, bytes of the number that follows, least value of that number for which this form is the shortest)
LENGTHS = {
    0xC4: ("bin", 1, 0), 0xC5: ("bin", 2, 1 << 8), 0xC6: ("bin", 4, 1 << 16),
    0xD9: ("str", 1, 32), 0xDA: ("str", 2, 1 << 8), 0xDB: ("str", 4, 1 << 16),
    0xDC: ("array", 2, 16), 0xDD: ("array", 4, 1 << 16),
}  # fmt: skip
UINTS = {0xCC: (1, 1 << 7), 0xCD: (2, 1 << 8), 0xCE: (4, 1 << 16), 0xCF: (8, 1 << 32)}
INTS = {0xD0: (1, -(1 << 5) - 1), 0xD1: (2, -(1 << 7) - 1), 0xD2: (4, -(1 << 15) - 1), 0xD3: (8, -(1 << 31) - 1)}
SINGLES = {0xC0: None, 0xC2: False, 0xC3: True}


def unpack(data: bytes) -> object:
    """The one value in `data`. Raises ValueError for anything but its shortest spelling."""
    value, end = _unpack(bytes(data), 0)
    if end != len(data):
        raise ValueError("trailing bytes")
    return value


def _take(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if at + length > len(data):
        raise ValueError("cut off")
    return data[at : at + length], at + length


def _unpack(data: bytes, at: int) -> tuple[object, int]:
    (first,), at = _take(data, at, 1)
    if first <= 0x7F or first >= 0xE0:
        return (first if first <= 0x7F else first - 256), at
    if first in SINGLES:
        return SINGLES[first], at
    if first in UINTS or first in INTS:
        size, limit = (UINTS | INTS)[first]
        number, at = _take(data, at, size)
        value = int.from_bytes(number, "big", signed=first in INTS)
        if (value < limit) if first in UINTS else (value > limit):
            raise ValueError("integer not in its shortest form")
        return value, at
    if 0x90 <= first <= 0x9F:
        return _items(data, at, first & 0x0F)
    if 0xA0 <= first <= 0xBF:
        text, at = _take(data, at, first & 0x1F)
        return text.decode(), at
    if first not in LENGTHS:
        raise ValueError("type not used")
    kind, size, least = LENGTHS[first]
    number, at = _take(data, at, size)
    length = int.from_bytes(number, "big")
    if length < least:
        raise ValueError("length not in its shortest form")
    if kind == "array":
        return _items(data, at, length)
    value, at = _take(data, at, length)
    return (value.decode() if kind == "str" else value), at


def _items(data: bytes, at: int, count: int) -> tuple[list, int]:
    items = []
    for _ in range(count):
        item, at = _unpack(data, at)
        items.append(item)
    return items, at


def pack(value: object) -> bytes:
    """The shortest spelling."""
    return spellings(value)[0]


def spellings(value: object) -> list[bytes]:
    """All spellings of the value itself, shortest first; its items, if it is a list, are in their shortest."""
    if value is None or isinstance(value, bool):
        return [{None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]]
    if isinstance(value, int):
        return _int_spellings(value)
    if isinstance(value, list):
        body, short, kind = b"".join(map(pack, value)), (0x90, 16), "array"
        count = len(value)
    else:
        body = value.encode() if isinstance(value, str) else value
        short, kind = ((0xA0, 32), "str") if isinstance(value, str) else ((0, 0), "bin")
        count = len(body)
    heads = [bytes([short[0] | count])] if count < short[1] else []
    heads += [
        bytes([first]) + count.to_bytes(size, "big")
        for first, (form, size, _) in LENGTHS.items()
        if form == kind and count < 1 << 8 * size
    ]
    return [head + body for head in heads]


def _int_spellings(value: int) -> list[bytes]:
    found = [value.to_bytes(1, "big", signed=value < 0)] if -32 <= value < 128 else []
    if value >= 0:
        found += [bytes([f]) + value.to_bytes(s, "big") for f, (s, _) in UINTS.items() if value < 1 << 8 * s]
    found += [
        bytes([f]) + value.to_bytes(s, "big", signed=True)
        for f, (s, _) in INTS.items()
        if -(1 << 8 * s - 1) <= value < 1 << 8 * s - 1
    ]
    return found


def misspelt(value: object) -> list[bytes]:
    """Every encoding of `value` in which exactly one node is not in its shortest form."""
    found = spellings(value)[1:]
    if isinstance(value, list):
        head = pack(value)[: len(pack(value)) - sum(len(pack(item)) for item in value)]
        for at, item in enumerate(value):
            before, after = b"".join(map(pack, value[:at])), b"".join(map(pack, value[at + 1 :]))
            found += [head + before + odd + after for odd in misspelt(item)]
    return found


# ---- header, signatures --------------------------------------------------------------------------------------------

FIXED = {b"STMT": 32, b"CREV": 0, b"WRAP": 48, b"JOIN": 48, b"SEGM": 32, b"ROLL": 32, b"PACK": 0, b"CHKP": 40}
SEALED = (b"SEGM", b"PACK", b"CHKP")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def header(kind: bytes, vault: bytes, ks: bytes, length: int, fixed: bytes) -> bytes:
    return b"CFS" + kind + b"1" + bytes([1, len(ks) // 16, 0, 0]) + struct.pack(">I", length) + vault + ks + fixed


def split_header(kind: bytes, data: bytes, vault: bytes) -> tuple[bytes, bytes, int, bytes]:
    """Header, KS, len, FIXED. Raises ValueError."""
    n = data[9]
    head = data[: 48 + 16 * n + FIXED[kind]]
    ks, fixed = head[48 : 48 + 16 * n], head[48 + 16 * n :]
    (length,) = struct.unpack(">I", head[12:16])
    if head != header(kind, vault, ks, length, fixed) or (n > 0) != (kind in SEALED) or n > 16:
        raise ValueError("header")
    eids = [ks[at : at + 16] for at in range(0, len(ks), 16)]
    if eids != sorted(set(eids)):
        raise ValueError("key set")
    return head, ks, length, fixed


def signed(label: str, vault: bytes, data: bytes) -> bytes:
    return b"cryptfs/v1 " + label.encode() + b"\0" + ref.lp(vault) + ref.lp(data)


def sign(seed: bytes, label: str, vault: bytes, data: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(signed(label, vault, data))


def check(pub: bytes, label: str, vault: bytes, data: bytes, sig: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(pub).verify(sig, signed(label, vault, data))


def opened(key: bytes, ctx: bytes, sealed: bytes) -> bytes:
    plain = ref.open_sealed(key, ctx, sealed)
    if plain is None:
        raise ValueError("does not open")
    return plain


def exactly(data: bytes, length: int) -> None:
    if len(data) != length:
        raise ValueError("length of the object")


# ---- one reader a class; `keys` maps "log", "meta", "pack" to the key of the object's key set ----------------------


def read_genesis(data: bytes, vault: bytes) -> list:
    head, _, length, author = split_header(b"STMT", data, vault)
    payload, sigs = data[len(head) : len(head) + length], data[len(head) + length :]
    value = unpack(payload)
    if sha(payload) != vault or author != bytes(32):
        raise ValueError("not the genesis of this vault")
    _, _, _, _, device, _, recovery = value[6]
    exactly(sigs, 64 if recovery is None else 128)
    check(device[1], "membership", vault, payload, sigs[:64])
    if recovery is not None:
        check(recovery[0], "membership", vault, payload, sigs[64:])
    return value


def read_statement(data: bytes, vault: bytes, pub: bytes) -> list:
    head, _, length, author = split_header(b"STMT", data, vault)
    exactly(data, len(head) + length + 64)
    payload = data[len(head) : -64]
    check(pub, "membership", vault, payload, data[-64:])
    value = unpack(payload)
    if value[1] != vault or value[3] != author:
        raise ValueError("payload")
    return value


def read_wraps(data: bytes, vault: bytes, pub: bytes) -> list:
    head, _, length, fixed = split_header(b"WRAP", data, vault)
    exactly(data, len(head) + length + 64)
    check(pub, "wraps", vault, sha(data[:-64]), data[-64:])
    value = unpack(data[len(head) : -64])
    if value[1] != fixed[32:]:
        raise ValueError("epoch")
    return value


def read_join(data: bytes, vault: bytes, secret: bytes) -> list:
    head, _, length, fixed = split_header(b"JOIN", data, vault)
    exactly(data, len(head) + length + 64)
    sign_pub, invite = fixed[:32], fixed[32:]
    check(sign_pub, "join", vault, sha(data[:-64]), data[-64:])
    body = data[len(head) : -64]
    if invite != bytes(16):
        prk = ref.hkdf_extract("sha512", vault, secret)
        if ref.hkdf_expand("sha512", prk, b"cryptfs/v1 invite-id\0", 16) != invite:
            raise ValueError("another invitation")
        join_key = ref.hkdf_expand("sha512", prk, b"cryptfs/v1 join-key\0", 32)
        body = opened(join_key, b"cryptfs/v1 join\0" + sha(head), body)
    value = unpack(body)
    check(sign_pub, "pop", vault, sha(value[2][0]) + sign_pub, value[3])
    return value


def read_segment(data: bytes, vault: bytes, pub: bytes, keys: dict) -> tuple[list, bytes]:
    """B and body2."""
    head, _, len1, fixed = split_header(b"SEGM", data, vault)
    _, _, len2, zero = struct.unpack(">16sQII", fixed)
    exactly(data, len(head) + len1 + len2 + 64)
    check(pub, "segment", vault, sha(data[:-64]), data[-64:])
    body2_at = len(head) + len1
    plain = opened(keys["log"], b"cryptfs/v1 segment\0" + sha(head), data[len(head) : body2_at])
    if zero:
        raise ValueError("reserved")
    return unpack(plain), data[body2_at:-64]


def read_rollup(data: bytes, vault: bytes, pub: bytes, keys: dict) -> list:
    head, _, count, fixed = split_header(b"ROLL", data, vault)
    log_id, first, last = struct.unpack(">16sQQ", fixed)
    at, segments = len(head), []
    for seq in range(first, last + 1):
        end = at + 48 + 16 * data[at + 9] + 32
        (len1,), (len2,) = struct.unpack(">I", data[at + 12 : at + 16]), struct.unpack(">I", data[end - 8 : end - 4])
        end += len1 + len2 + 64
        if data[at + 48 + 16 * data[at + 9] :][:24] != log_id + struct.pack(">Q", seq):
            raise ValueError("another segment")
        segments.append(read_segment(data[at:end], vault, pub, keys))
        at = end
    exactly(data, at)
    if count != len(segments):
        raise ValueError("count")
    return segments


def read_pack(data: bytes, vault: bytes, keys: dict) -> tuple[list, list[bytes]]:
    """Index and records."""
    head, _, length, _ = split_header(b"PACK", data, vault)
    index = unpack(opened(keys["pack"], b"cryptfs/v1 pack\0" + sha(head), data[len(data) - length :]))
    records = [data[rec[5] : rec[5] + rec[6]] for rec in index[4]]
    if [sha(record) for record in records] != [rec[9] for rec in index[4]]:
        raise ValueError("record")
    return index, records


def read_checkpoint(data: bytes, vault: bytes, pub: bytes, keys: dict) -> tuple[list, dict[int, list[bytes]]]:
    """HD, and the encoded rows of each table."""
    head, _, length, fixed = split_header(b"CHKP", data, vault)
    sig_at = len(head) + length
    check(pub, "checkpoint", vault, sha(data[:sig_at]), data[sig_at : sig_at + 64])
    value = unpack(opened(keys["meta"], b"cryptfs/v1 ckpt\0" + sha(head), data[len(head) : sig_at]))
    blocks, tables, root = data[sig_at + 64 :], {}, hashlib.sha256(b"cryptfs/v1 state\0" + vault)
    root.update(fixed[32:] + struct.pack(">H", value[1]))
    for table, _, thash, refs in value[5]:
        rows = []
        for number, (_, off, size, digest) in enumerate(refs):
            block = blocks[off : off + size]
            if sha(block) != digest:
                raise ValueError("block")
            ctx = b"cryptfs/v1 ckpt-block\0" + sha(head) + struct.pack(">HI", table, number)
            rows += _rows(opened(keys["meta"], ctx, block))
        if sha(b"cryptfs/v1 table\0" + struct.pack(">H", table) + b"".join(map(ref.lp, rows))) != thash:
            raise ValueError("table")
        if table < 8:
            root.update(thash)
        tables[table] = rows
    if root.digest() != value[6]:
        raise ValueError("root")
    return value, tables


def _rows(block: bytes) -> list[bytes]:
    if block[0]:
        raise ValueError("codec")
    rows, at = [], 1
    while at < len(block):
        (length,) = struct.unpack(">I", block[at : at + 4])
        rows.append(block[at + 4 : at + 4 + length])
        at += 4 + length
    return rows
