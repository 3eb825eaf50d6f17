"""A reader of whole stores that shares no code with cryptfs, written from docs/format.md.

It is what somebody can do who has certificate keys and every object: unwrap everything, open every history box, derive
every key under every key set, and try each of them on every sealed piece. It checks no signature and asks for no
authority, epoch or role: what opens, opens.

A member finds pieces by what it has opened before. Whoever is shut out would not even know where they begin and what
they are bound to, so `told` gives it places and contexts as a member found them. SEAL commits to key and context,
so one context, the true one, is enough: with another none of these keys could open the piece either.
"""

import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.serialization import load_der_private_key

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "format"), str(TESTS / "crypto")]

import reference_crypto as ref  # noqa: E402
from reference_format import sha, unpack  # noqa: E402

FIXED = {b"STMT": 32, b"CREV": 0, b"WRAP": 48, b"JOIN": 48, b"SEGM": 32, b"ROLL": 32, b"PACK": 0, b"CHKP": 40}
PURPOSES = ("fk", "meta", "pack", "log")


@dataclass(frozen=True)
class Piece:
    """Something sealed, and what it is bound to; `kind` and `about` tell what it becomes when opened."""

    sealed: bytes = field(repr=False)
    ctx: bytes = field(repr=False)
    kind: str
    about: tuple = field(repr=False, compare=False, default=())
    where: tuple[str, int] = field(compare=False, default=("", 0))
    """Object and offset; offset -1 for what lies inside another piece."""


class File(NamedTuple):
    """The file a content belongs to; `segment` is the object its description stands in. Size 0: not known."""

    fid: bytes
    size: int
    log2: int
    segment: str


class Head:
    """The clear header of an object."""

    def __init__(self, data: bytes) -> None:
        if len(data) < 48 or data[:3] != b"CFS" or data[3:7] not in FIXED:
            raise ValueError("no object")
        self.kind = data[3:7]
        self.end = 48 + 16 * data[9] + FIXED[self.kind]
        self.raw, self.vault = data[: self.end], data[16:48]
        self.ks = data[48 : 48 + 16 * data[9]]
        self.fixed = data[48 + len(self.ks) : self.end]
        (self.len,) = struct.unpack(">I", data[12:16])


class Reader:
    """Everything that these keys open in these objects. `people`: (certificate key as PKCS#8, certificate), DER."""

    def __init__(
        self,
        vault: bytes,
        objects: Mapping[str, bytes],
        people: Iterable[tuple[bytes, bytes]],
        told: Iterable[Piece] = (),
    ) -> None:
        self.vault = vault
        self.objects = dict(objects)
        self.secrets: set[bytes] = set()
        self.keys: dict[bytes, None] = {}
        """Every key there is, in the order found."""
        self.pieces: dict[Piece, None] = dict.fromkeys(told)
        self.opened: dict[Piece, bytes] = {}
        self._heads = {name: Head(data) for name, data in self.objects.items() if data[:3] == b"CFS"}
        self._key_sets = {head.ks for head in self._heads.values() if head.ks}
        self._segments = {
            sha(self.objects[name][:-64]): name for name, head in self._heads.items() if head.kind == b"SEGM"
        }
        self._packs = {sha(self.objects[name]): name for name, head in self._heads.items() if head.kind == b"PACK"}
        self._derived: set[tuple[bytes, bytes]] = set()
        self._tried: dict[Piece, int] = {}
        for private, certificate in people:
            self._unwrap(load_der_private_key(private, None), sha(certificate))
        for piece in self._in_the_clear():
            self.pieces.setdefault(piece)
        self._run()

    # ---- keys ------------------------------------------------------------------------------------------------------

    def _unwrap(self, private: object, cert_fp: bytes) -> None:
        """Every wrap in the store, whoever it is for, whatever it is said to be."""
        for name, head in self._heads.items():
            if head.kind != b"WRAP":
                continue
            _, eid, recs, enrol, _ = unpack(self.objects[name][head.end : head.end + head.len])
            for entry, fp, _, blob in recs + enrol:
                for to in {fp, cert_fp}:
                    for info in (
                        b"cryptfs/v1 wrap\0" + ref.lp(self.vault) + ref.lp(eid) + ref.lp(to),
                        b"cryptfs/v1 enrol\0" + ref.lp(self.vault) + ref.lp(entry) + ref.lp(to),
                    ):
                        try:
                            self.secrets.add(ref.hpke_open(private, info, blob))
                        except Exception:  # whatever it is: that does not open
                            continue

    def _eid(self, secret: bytes) -> bytes:
        return ref.expand(secret, "cryptfs/v1 epoch-commit", self.vault)[:16]

    def _write_secrets(self, ks: bytes) -> Iterator[bytes]:
        """The write secret of a key set, and all that one could mistake for it: each secret, and every merged part."""
        yield from self.secrets
        eids = [ks[at : at + 16] for at in range(0, len(ks), 16)]
        known = {self._eid(secret): secret for secret in self.secrets}
        have = [eid for eid in eids if eid in known]
        for count in range(2, len(have) + 1):
            for part in combinations(have, count):
                yield ref.write_secret(self.vault, {eid: known[eid] for eid in part})

    def _derive(self) -> None:
        for secret in sorted(self.secrets):
            self.keys.setdefault(secret)
            for eid in sorted({self._eid(secret), *(piece.about[0] for piece in self.pieces if piece.kind == "hist")}):
                self.keys.setdefault(ref.expand(secret, "cryptfs/v1 hist", self.vault, eid))
        for ks in sorted(self._key_sets):
            for secret in self._write_secrets(ks):
                if (ks, secret) not in self._derived:
                    self._derived.add((ks, secret))
                    for purpose in PURPOSES:
                        self.keys.setdefault(ref.expand(secret, f"cryptfs/v1 {purpose}", self.vault, ks))

    # ---- pieces ----------------------------------------------------------------------------------------------------

    def _in_the_clear(self) -> Iterator[Piece]:
        """What one sees of the store without any key."""
        for name, head in self._heads.items():
            data = self.objects[name]
            if head.kind == b"STMT":
                op = unpack(data[head.end : head.end + head.len])[6]
                if op[0] in {2, 3} and op[-1][2]:
                    eid = op[-1][0][:16]
                    yield Piece(op[-1][2], b"cryptfs/v1 hist\0" + self.vault + eid, "hist", (eid,), (name, -1))
            elif head.kind == b"SEGM":
                ctx = b"cryptfs/v1 segment\0" + sha(head.raw)
                yield Piece(data[head.end : head.end + head.len], ctx, "segment", (name,), (name, head.end))
            elif head.kind == b"PACK":
                at = len(data) - head.len
                yield Piece(data[at:], b"cryptfs/v1 pack\0" + sha(head.raw), "index", (name,), (name, at))
            elif head.kind == b"CHKP":
                ctx = b"cryptfs/v1 ckpt\0" + sha(head.raw)
                yield Piece(data[head.end : head.end + head.len], ctx, "checkpoint", (name,), (name, head.end))

    def _run(self) -> None:
        """Try everything on everything until nothing new opens."""
        while True:
            self._derive()
            keys = list(self.keys)
            before = len(keys), len(self.pieces), len(self.opened)
            for piece in list(self.pieces):
                if piece not in self.opened:
                    self._try(piece, keys)
            if before == (len(self.keys), len(self.pieces), len(self.opened)):
                return

    def _try(self, piece: Piece, keys: list[bytes]) -> None:
        for key in keys[self._tried.get(piece, 0) :]:
            plain = ref.open_sealed(key, piece.ctx, piece.sealed)
            if plain is not None:
                self.opened[piece] = plain
                getattr(self, f"_learn_{piece.kind}")(piece, plain)
                return
        self._tried[piece] = len(keys)

    def _learn_hist(self, _piece: Piece, plain: bytes) -> None:
        self.secrets.update(secret for _, secret in unpack(plain))

    def _learn_box(self, _piece: Piece, plain: bytes) -> None:
        self.keys.setdefault(plain)

    def _learn_chunk(self, _piece: Piece, _plain: bytes) -> None:
        pass

    def _learn_segment(self, piece: Piece, plain: bytes) -> None:
        (name,) = piece.about
        for op in unpack(plain)[11]:
            content = {1: lambda op: op[10], 2: lambda op: op[3], 12: lambda op: op[3]}.get(op[0], lambda _: None)(op)
            if content is not None:
                self._content(content, name)

    def _learn_index(self, piece: Piece, plain: bytes) -> None:
        (name,) = piece.about
        _, _, keys, _, recs, _ = unpack(plain)
        for fid, fkv, ks, box in keys:
            self._box(fid, fkv, ks, box)
        for fid, kind, fkv, ks, first, off, length, plain_len, codec, _ in recs:
            if kind == 0:
                ctx = self._chunk_ctx(fid, fkv, first, plain_len, codec)
                self._add("chunk", (name, off), length, ctx)
            else:
                self._manifest((name, off), length, ks, (kind - 1, first), File(fid, 0, 0, name))

    def _learn_checkpoint(self, piece: Piece, plain: bytes) -> None:
        (name,) = piece.about
        head, data = self._heads[name], self.objects[name]
        blocks_at = head.end + head.len + 64
        for table, _, _, blocks in unpack(plain)[5]:
            for number, (_, off, length, _) in enumerate(blocks):
                ctx = b"cryptfs/v1 ckpt-block\0" + sha(head.raw) + struct.pack(">HI", table, number)
                at = blocks_at + off
                self.pieces.setdefault(Piece(data[at : at + length], ctx, "block", (table,), (name, at)))

    def _learn_block(self, piece: Piece, plain: bytes) -> None:
        at, column = 1, {1: 11, 7: 2}.get(piece.about[0])
        while at < len(plain) and column is not None:
            (length,) = struct.unpack(">I", plain[at : at + 4])
            row = unpack(plain[at + 4 : at + 4 + length])
            if row[column]:
                self._content(unpack(row[column]), "")
            at += 4 + length

    # ---- contents --------------------------------------------------------------------------------------------------

    def _content(self, content: list, segment: str) -> None:
        fid, size, log2, _, keys, body = content
        file = File(fid, size, log2, segment)
        for fkv, ks, box in keys:
            self._box(fid, fkv, ks, box)
        if body[0] == 1:
            self._spans(body[1], 0, file)
            return
        ks, loc, length, _ = body[1]
        self._manifest(self._at(loc, segment), length, ks, (1, 0), file)
        for first, span in body[2]:
            self._spans([span], first, file)

    def _spans(self, spans: list, first: int, file: File) -> None:
        for span in spans:
            if span[0] == 1:
                _, count, codec, fkv, loc, _ = span
                place = self._at(loc, file.segment)
                for index in range(first, first + count):
                    plain_len = min(1 << file.log2, file.size - (index << file.log2))
                    length = 56 + plain_len + 16 * (plain_len // 16384 + 1)
                    self._add("chunk", place, length, self._chunk_ctx(file.fid, fkv, index, plain_len, codec))
                    place = place and (place[0], place[1] + length)
            first += span[1]

    def _at(self, loc: list, segment: str) -> tuple[str, int] | None:
        """Object and offset of a Loc that stands in this segment; None if the object is not here."""
        where, ident, off = loc
        if where == 1:
            return (self._packs[ident], off) if ident in self._packs else None
        container = segment if where == 0 else self._segments.get(ident, "")
        if not container:
            return None
        head = self._heads[container]
        return container, head.end + head.len + off

    def _chunk_ctx(self, fid: bytes, *numbers: int) -> bytes:
        """Numbers: key version, index, plain length, codec."""
        return b"cryptfs/v1 chunk\0" + self.vault + fid + struct.pack(">IQIB", *numbers)

    def _box(self, fid: bytes, fkv: int, ks: bytes, box: bytes) -> None:
        self._key_sets.add(ks)
        ctx = b"cryptfs/v1 fk\0" + self.vault + ref.lp(ks) + fid + struct.pack(">I", fkv)
        self.pieces.setdefault(Piece(box, ctx, "box"))

    def _manifest(
        self, place: tuple[str, int] | None, length: int, ks: bytes, place_in_file: tuple[int, int], file: File
    ) -> None:
        """A manifest record. As an index lists it, without the size of its file, it leads no further."""
        self._key_sets.add(ks)
        ctx = b"cryptfs/v1 manifest\0" + self.vault + ref.lp(ks) + file.fid + struct.pack(">BQ", *place_in_file)
        self._add("manifest", place, length, ctx, (*place_in_file, file))

    def _add(
        self, kind: str, place: tuple[str, int] | None, length: int, ctx: bytes, about: tuple = ()
    ) -> None:  # fmt: skip
        if place is None:
            return
        name, off = place
        piece = Piece(self.objects[name][off : off + length], ctx, kind, about, place)
        if kind == "manifest" and about[-1].size:
            if piece in self.opened:  # an index listed it before
                self._learn_manifest(piece, self.opened[piece])
                return
            self.pieces.pop(piece, None)
        self.pieces.setdefault(piece)

    def _learn_manifest(self, piece: Piece, plain: bytes) -> None:
        level, first, file = piece.about
        value = unpack(plain)
        if not file.size:
            return
        if level == 0:
            self._spans(value[1], first, file)
            return
        for fkv, ks, box in value[1]:
            self._box(file.fid, fkv, ks, box)
        for number, page in enumerate(value[2]):
            if page is not None:
                ks, loc, length, _ = page
                self._manifest(self._at(loc, file.segment), length, ks, (0, number * 4096), file)

    # ---- what came of it -------------------------------------------------------------------------------------------

    def unread(self) -> dict[str, int]:
        """Bytes of the sealed parts of each object that lie in no opened piece. Empty: nothing was overlooked."""
        found = {}
        for name, head in self._heads.items():
            if not head.ks:
                continue
            data = self.objects[name]
            covered = bytearray(len(data))
            covered[: head.end] = b"\1" * head.end
            if head.kind != b"PACK":  # a signature
                at = len(data) - 64 if head.kind == b"SEGM" else head.end + head.len
                covered[at : at + 64] = b"\1" * 64
            for piece in self.opened:
                if piece.where[0] == name and piece.where[1] >= 0:
                    covered[piece.where[1] : piece.where[1] + len(piece.sealed)] = b"\1" * len(piece.sealed)
            if covered.count(0):
                found[name] = covered.count(0)
        return found

    def reads(self, words: bytes) -> bool:
        """Whether these bytes stand in anything that opened."""
        return any(words in plain for plain in self.opened.values())
