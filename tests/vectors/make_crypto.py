"""Makes crypto_*.json: run `python tests/vectors/make_crypto.py`. Same bytes every time.

Everything comes from the reference implementation in tests/crypto, nothing from cryptfs. Binary values are hex; long
ones stand as {"stream": seed, "length": n} (SHAKE-256 of the seed) or, for outputs, as their SHA-256.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "crypto"))

import reference_crypto as ref  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519  # noqa: E402
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: E402

V = ref.stream("vault", 32)
SIZES = (0, 1, 100, 16383, 16384, 16385, 32768, 65536, 1 << 20)
CURVES = {"secp256r1": ec.SECP256R1, "secp384r1": ec.SECP384R1, "secp521r1": ec.SECP521R1}


def seal_vectors() -> dict:
    cases = []
    for size in SIZES:
        key, salt, ctx = ref.stream(f"key {size}", 32), ref.stream(f"salt {size}", 24), f"context {size}".encode()
        sealed = ref.seal(key, ctx, ref.stream(f"plain {size}", size), salt)
        case = {"key": key.hex(), "ctx": ctx.hex(), "salt": salt.hex()}
        case |= {"plain": {"stream": f"plain {size}", "length": size}, "sealed_length": len(sealed)}
        case |= {"sealed": sealed.hex()} if size <= 100 else {"sealed_sha256": hashlib.sha256(sealed).hexdigest()}
        cases.append(case)
    good = ref.seal(bytes(32), b"", b"x", bytes(24))
    refused = {
        "empty": b"",
        "shorter than an empty message": good[:71],
        "commitment of another key": good[:24] + bytes(32) + good[56:],
        "salt changed": bytes([1]) + good[1:],
        "last byte changed": good[:-1] + bytes([good[-1] ^ 1]),
        "one byte more": good + b"\0",
    }
    return {"cases": cases, "refused": {name: value.hex() for name, value in refused.items()}}


def key_vectors() -> dict:
    secrets = [ref.stream(f"epoch {i}", 32) for i in range(3)]
    commits = [ref.expand(es, "cryptfs/v1 epoch-commit", V) for es in secrets]
    eids = [commit[:16] for commit in commits]
    sets = []
    for n in (1, 2, 3):
        chosen = dict(zip(eids[:n], secrets[:n], strict=True))
        ks, w = b"".join(sorted(chosen)), ref.write_secret(V, chosen)
        keys = {x: ref.expand(w, f"cryptfs/v1 {x}", V, ks).hex() for x in ("fk", "meta", "pack", "log")}
        sets.append({"epochs": n, "ks": ks.hex(), "w": w.hex(), "keys": keys})
    fid, fk, salt = ref.stream("fid", 16), ref.stream("file key", 32), ref.stream("box salt", 24)
    ks = bytes.fromhex(sets[1]["ks"])
    box_ctx = b"cryptfs/v1 fk\0" + V + ref.lp(ks) + fid + struct.pack(">I", 7)
    history_key = ref.expand(secrets[0], "cryptfs/v1 hist", V, eids[0])
    history_plain = bytes.fromhex("91") + b"\x92\xc4\x10" + eids[1] + b"\xc4\x20" + secrets[1]
    history_ctx = b"cryptfs/v1 hist\0" + V + eids[0]
    token = ref.stream("token secret", 16)
    prk = ref.hkdf_extract("sha512", V, token)
    local = ref.stream("local secret", 32)
    return {
        "vault": V.hex(),
        "epochs": [
            {"secret": s.hex(), "commit": c.hex(), "eid": e.hex()}
            for s, c, e in zip(secrets, commits, eids, strict=True)
        ],
        "key_sets": sets,
        "file_key_box": {
            "fid": fid.hex(),
            "fkv": 7,
            "ks": ks.hex(),
            "file_key": fk.hex(),
            "box": ref.seal(bytes.fromhex(sets[1]["keys"]["fk"]), box_ctx, fk, salt).hex(),
        },
        "history_box": {
            "key": history_key.hex(),
            "plain": history_plain.hex(),
            "box": ref.seal(history_key, history_ctx, history_plain, salt).hex(),
        },
        "join": {
            "secret": token.hex(),
            "key": ref.hkdf_expand("sha512", prk, b"cryptfs/v1 join-key\0", 32).hex(),
            "invite_id": ref.hkdf_expand("sha512", prk, b"cryptfs/v1 invite-id\0", 16).hex(),
        },
        "local": {
            "secret": local.hex(),
            "keys": {
                p: ref.expand(local, "cryptfs/v1 local", p.encode()).hex() for p in ("replica", "journal", "cache")
            },
        },
        "contexts": contexts(),
    }


def contexts() -> dict:
    header, fid, eid, ks = b"header", ref.stream("fid", 16), ref.stream("eid", 16), ref.stream("ks", 32)
    hashed = hashlib.sha256(header).digest()
    known = {
        "chunk": b"cryptfs/v1 chunk\0" + V + fid + struct.pack(">IQIB", 1, 2, 3, 4),
        "file_key": b"cryptfs/v1 fk\0" + V + ref.lp(ks) + fid + struct.pack(">I", 1),
        "history": b"cryptfs/v1 hist\0" + V + eid,
        "segment": b"cryptfs/v1 segment\0" + hashed,
        "pack": b"cryptfs/v1 pack\0" + hashed,
        "manifest": b"cryptfs/v1 manifest\0" + V + ref.lp(ks) + fid + struct.pack(">BQ", 1, 2),
        "checkpoint": b"cryptfs/v1 ckpt\0" + hashed,
        "checkpoint_block": b"cryptfs/v1 ckpt-block\0" + hashed + struct.pack(">HI", 1, 2),
        "join": b"cryptfs/v1 join\0" + hashed,
        "keystore": b"cryptfs/v1 keystore\0" + hashed,
        "wrap_info": b"cryptfs/v1 wrap\0" + ref.lp(V) + ref.lp(eid) + ref.lp(hashed),
        "enrol_info": b"cryptfs/v1 enrol\0" + ref.lp(V) + ref.lp(hashed) + ref.lp(hashed),
    }
    return {name: value.hex() for name, value in known.items()}


def signature_vectors() -> dict:
    seed = ref.stream("sign seed", 32)
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    data = b"data"
    made = {}
    for label in ("membership", "pop", "wraps", "join", "segment", "checkpoint"):
        message = b"cryptfs/v1 " + label.encode() + b"\0" + ref.lp(V) + ref.lp(data)
        made[label] = key.sign(message).hex()
    p = 2**255 - 19
    low = ["26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"]
    low.append("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
    ys = [0, 1, p - 1, *(int.from_bytes(bytes.fromhex(y), "little") for y in low), *range(p, 2**255)]
    weak = [(y | sign << 255).to_bytes(32, "little").hex() for y in ys for sign in (0, 1)]
    public = key.public_key().public_bytes_raw()
    return {
        "vault": V.hex(),
        "seed": seed.hex(),
        "public": public.hex(),
        "data": data.hex(),
        "made": made,
        "weak": weak,
    }


def rsa_key() -> rsa.RSAPrivateKey:
    """RSA-3072 from fixed numbers: the first primes from two fixed starting points (the steps were searched once)."""
    p, q = (
        (int.from_bytes(ref.stream(name, 192), "big") | 3 << 1534 | 1) + 2 * step
        for name, step in (("rsa p", 383), ("rsa q", 324))
    )
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key()


def _pkcs8(key: object) -> str:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).hex()


def wrap_vectors() -> dict:
    secret, eid, fp = ref.stream("wrapped secret", 32), ref.stream("eid", 16), ref.stream("cert fp", 32)
    info = b"cryptfs/v1 wrap\0" + ref.lp(V) + ref.lp(eid) + ref.lp(fp)
    cases = []
    x_pair = [x25519.X25519PrivateKey.from_private_bytes(ref.stream(f"x25519 {who}", 32)) for who in ("key", "eph")]
    pairs = {"x25519": x_pair}
    for name, curve in CURVES.items():
        pairs[name] = [
            ec.derive_private_key(int.from_bytes(ref.stream(f"{name} {who}", 31), "big"), curve())
            for who in ("key", "eph")
        ]
    for name, (key, ephemeral) in pairs.items():
        blob = ref.hpke_seal(key.public_key(), ephemeral, info, secret)
        cases.append({"key": name, "private": _pkcs8(key), "alg": 1, "blob": blob.hex()})
    key = rsa_key()
    numbers = key.public_key().public_numbers()
    label = hashlib.sha256(info).digest()
    blob = ref.oaep_encrypt(numbers.n, numbers.e, label, secret, ref.stream("oaep seed", 32))
    cases.append({"key": "rsa3072", "private": _pkcs8(key), "alg": 2, "blob": blob.hex()})
    return {
        "vault": V.hex(),
        "eid": eid.hex(),
        "cert_fp": fp.hex(),
        "info": info.hex(),
        "secret": secret.hex(),
        "cases": cases,
    }


def _bin(value: bytes) -> bytes:
    return (b"\xc4" + bytes([len(value)]) if len(value) < 256 else b"\xc5" + struct.pack(">H", len(value))) + value


def keyfile_vectors() -> dict:
    fields = {name: ref.stream(f"keyfile {name}", 32) for name in ("vault", "entry", "sign_seed", "local_secret")}
    fields |= {"cert_key_pkcs8": ref.stream("keyfile pkcs8", 130), "cert_der": ref.stream("keyfile cert", 300)}
    invitation = {"invite_id": ref.stream("iid", 16), "secret": ref.stream("isecret", 16)}
    order = ("vault", "entry", "cert_key_pkcs8", "cert_der", "sign_seed", "local_secret")
    plain = b"\x98\x01" + b"".join(_bin(fields[name]) for name in order)
    plain += b"\x91\x94" + _bin(invitation["invite_id"]) + _bin(invitation["secret"]) + b"\x01"
    plain += b"\xcf" + struct.pack(">Q", 1_800_000_000_000)
    files = {}
    for name, passphrase in (("protected", b"correct horse"), ("unprotected", b"")):
        salt = ref.stream(f"keyfile salt {name}", 16)
        header = b"CFSKEYS1" + struct.pack(">IIII", 64 * 1024, 1, 1, int(bool(passphrase))) + salt
        # Argon2id itself is not written twice: the library's is checked by its own vectors.
        key = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=64 * 1024).derive(passphrase)
        ctx = b"cryptfs/v1 keystore\0" + hashlib.sha256(header).digest()
        files[name] = (header + ref.seal(key, ctx, plain, ref.stream(f"keyfile seal {name}", 24))).hex()
    return {
        "passphrase": b"correct horse".hex(),
        "fields": {name: value.hex() for name, value in fields.items()},
        "invitation": {name: value.hex() for name, value in invitation.items()}
        | {"role": 1, "expires_ms": 1_800_000_000_000},
        "files": files,
    }


def word_vectors() -> dict:
    seed = ref.stream("recovery seed", 32)
    sign = ref.expand(seed, "cryptfs/v1 recovery sign")
    kem = ref.expand(seed, "cryptfs/v1 recovery kem")
    sign_public = ed25519.Ed25519PrivateKey.from_private_bytes(sign).public_key().public_bytes_raw()
    kem_public = x25519.X25519PrivateKey.from_private_bytes(kem).public_key().public_bytes_raw()
    cert, log = b"certificate", ref.stream("log", 16)
    digest = hashlib.sha256(b"cryptfs/v1 fp\0" + ref.lp(V) + ref.lp(cert) + ref.lp(sign_public)).digest()
    frontier = sorted(ref.stream(f"statement {i}", 32) for i in range(2))
    head = log + struct.pack(">Q", 5) + ref.stream("D", 32)
    heads = hashlib.sha256(b"cryptfs/v1 heads\0" + V + b"".join(frontier) + head).digest()
    indices = [int.from_bytes(digest, "big") >> (256 - 10 * (i + 1)) & 1023 for i in range(9)]
    fp = hashlib.sha256(b"cryptfs/v1 recovery\0" + sign_public + kem_public).digest()
    return {
        "vault": V.hex(),
        "seed": seed.hex(),
        "sign_public": sign_public.hex(),
        "kem_public": kem_public.hex(),
        "recovery_fingerprint": fp.hex(),
        "cert": cert.hex(),
        "fingerprint_digest": digest.hex(),
        "fingerprint_word_numbers": indices,
        "frontier": [s.hex() for s in frontier],
        "head": {"log": log.hex(), "seq": 5, "digest": ref.stream("D", 32).hex()},
        "heads_digest": heads.hex(),
    }


MAKERS = {
    "crypto_seal": seal_vectors,
    "crypto_keys": key_vectors,
    "crypto_signatures": signature_vectors,
    "crypto_wraps": wrap_vectors,
    "crypto_keyfile": keyfile_vectors,
    "crypto_words": word_vectors,
}


def main() -> None:
    for name, make in MAKERS.items():
        (HERE / f"{name}.json").write_text(json.dumps(make(), indent=1) + "\n")


if __name__ == "__main__":
    main()
