"""The key file: vectors, T-keyfile, T-kdf-clamp, T-repr, T-keypair-mismatch, tampering."""

import dataclasses
import hashlib
import struct
import traceback
import zlib

import pytest
import reference_crypto as ref
from certificate_workshop import NOW
from crypto_vectors import load, unhex
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptfs.crypto import keyfile
from cryptfs.crypto.certificate import Refusal, Refused, fingerprint, public_key_of
from cryptfs.crypto.held import HeldKey
from cryptfs.crypto.keyfile import (
    FORMER_MAX,
    KDF_DEFAULT,
    KDF_FLOOR,
    DeviceKeys,
    Invitation,
    KdfParams,
    KeyPair,
    decode,
    encode,
    is_on_token,
    is_protected,
)
from cryptfs.crypto.keys import LocalSecret, keystore_ctx, sign_public
from cryptfs.crypto.seal import open_sealed
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.crypto.wrap import wrap
from cryptfs.errors import AuthError, Damaged, UsageError, WrongPassphrase

VECTORS = load("crypto_keyfile")
HEADER = 40
PASSPHRASE = b"correct horse"


def device_keys(**changes: object) -> DeviceKeys:
    private, cert = make_certificate("Anna", NOW)
    parts = {name: ref.stream(f"device {name}", 32) for name in ("vault", "entry", "sign_seed", "local_secret")}
    invitation = Invitation(ref.stream("invite", 16), ref.stream("invite secret", 16), 1, 5)
    parts |= {"cert_key_pkcs8": private, "cert_der": cert, "invitations": (invitation,)}
    return DeviceKeys(**parts | changes)


KEYS = device_keys()


@pytest.fixture
def cheap_kdf(monkeypatch: pytest.MonkeyPatch) -> list[KdfParams]:
    """Stands in for Argon2id where a test opens hundreds of files; records what it was asked for."""
    asked = []

    def derive(passphrase: bytes, salt: bytes, params: KdfParams) -> bytes:
        asked.append(params)
        return hashlib.sha256(repr((passphrase, salt, params)).encode()).digest()

    monkeypatch.setattr(keyfile, "_passphrase_key", derive)
    return asked


@pytest.mark.parametrize("name", VECTORS["files"])
def test_vector_of_the_reference_opens(name: str) -> None:
    data = unhex(VECTORS["files"][name])
    assert is_protected(data) == (name == "protected")
    keys = decode(data, unhex(VECTORS["passphrase"]) if name == "protected" else None)
    assert {field: getattr(keys, field).hex() for field in VECTORS["fields"]} == VECTORS["fields"]
    invitation = dataclasses.asdict(keys.invitations[0])
    assert {k: v.hex() if isinstance(v, bytes) else v for k, v in invitation.items()} == VECTORS["invitation"]


def test_round_trip_with_the_real_kdf() -> None:
    data = encode(KEYS, PASSPHRASE, KDF_FLOOR)
    assert decode(data, PASSPHRASE) == KEYS
    with pytest.raises(WrongPassphrase):
        decode(data, PASSPHRASE + b" ")


@settings(max_examples=50)
@given(
    st.binary(min_size=1, max_size=50),
    st.binary(max_size=2000),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 50)), max_size=5),
)
def test_round_trip_of_any_content(passphrase: bytes, cert: bytes, invited: list[tuple[int, int]]) -> None:
    invitations = tuple(Invitation(ref.stream(str(i), 16), bytes(16), *what) for i, what in enumerate(invited))
    keys = dataclasses.replace(KEYS, cert_der=cert, invitations=invitations, sign_seed=b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyfile, "_passphrase_key", lambda *asked: hashlib.sha256(repr(asked).encode()).digest())
        assert decode(encode(keys, passphrase), passphrase) == keys


def test_file_without_passphrase_says_so_and_opens_with_anything(cheap_kdf: list[KdfParams]) -> None:
    data = encode(KEYS, None, KDF_DEFAULT)
    assert not is_protected(data)
    assert decode(data, None) == decode(data, b"whatever") == KEYS
    assert cheap_kdf[0] == KDF_FLOOR
    assert is_protected(encode(KEYS, PASSPHRASE))


def test_empty_passphrase_is_refused_and_none_does_not_open(cheap_kdf: list[KdfParams]) -> None:
    with pytest.raises(UsageError):
        encode(KEYS, b"")
    data = encode(KEYS, PASSPHRASE)
    cheap_kdf.clear()
    for nothing in (None, b""):
        with pytest.raises(WrongPassphrase):
            decode(data, nothing)
    assert cheap_kdf == []


def test_file_of_another_version_is_damaged_and_not_a_wrong_passphrase(cheap_kdf: list[KdfParams]) -> None:
    data = encode(KEYS, PASSPHRASE)
    for changed in (b"CFSKEYS2" + data[8:], data[:20] + b"\0\0\0\4" + data[24:]):
        for read in (is_protected, lambda data: decode(data, PASSPHRASE)):
            with pytest.raises(Damaged):
                read(changed)


def test_downgrade_of_a_protected_file_to_an_unprotected_one_does_not_open(cheap_kdf: list[KdfParams]) -> None:
    for passphrase, flag in ((PASSPHRASE, 0), (None, 1)):
        data = bytearray(encode(KEYS, passphrase, KDF_FLOOR))
        data[20:24] = struct.pack(">I", flag)
        with pytest.raises(WrongPassphrase):
            decode(bytes(data), PASSPHRASE)


def test_flip_of_any_bit_is_refused(cheap_kdf: list[KdfParams]) -> None:
    data = encode(KEYS, PASSPHRASE, KDF_FLOOR)
    for at in range(len(data)):
        for bit in range(8):
            changed = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises((WrongPassphrase, Damaged)):
                decode(changed, PASSPHRASE)


def test_cut_and_extended_files_are_refused(cheap_kdf: list[KdfParams]) -> None:
    data = encode(KEYS, PASSPHRASE, KDF_FLOOR)
    for changed in [*(data[:cut] for cut in range(len(data))), data + b"\0", data * 2, data + bytes(1 << 20)]:
        with pytest.raises((WrongPassphrase, Damaged)):
            decode(changed, PASSPHRASE)


def test_splice_of_one_files_header_with_anothers_body(cheap_kdf: list[KdfParams]) -> None:
    first, second = encode(KEYS, PASSPHRASE), encode(KEYS, PASSPHRASE)
    with pytest.raises(WrongPassphrase):
        decode(first[:HEADER] + second[HEADER:], PASSPHRASE)


@given(st.binary(max_size=300))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    for attempt in (data, b"CFSKEYS1" + data):
        with pytest.raises(Damaged):
            decode(attempt, PASSPHRASE) if len(attempt) < 112 else is_protected(attempt)


@pytest.mark.parametrize(
    "plain",
    [b"", b"\xc0", b"\x98\x02" + b"\xc4\0" * 6 + b"\x90", b"\x98\x01" + b"\xc4\0" * 6 + b"\x90", b"\x91" * 5000],
)
def test_sealed_content_of_another_form_is_damaged(plain: bytes, cheap_kdf: list[KdfParams]) -> None:
    header = encode(KEYS, PASSPHRASE)[:HEADER]
    key = keyfile._passphrase_key(PASSPHRASE, header[24:40], KDF_DEFAULT)
    with pytest.raises(Damaged):
        decode(header + ref.seal(key, keystore_ctx(header), plain, bytes(24)), PASSPHRASE)


def test_canonical_encoding_is_the_only_one(cheap_kdf: list[KdfParams]) -> None:
    data = encode(KEYS, PASSPHRASE)
    header = data[:HEADER]
    key = keyfile._passphrase_key(PASSPHRASE, header[24:40], KDF_DEFAULT)
    plain = open_sealed(key, keystore_ctx(header), data[HEADER:])
    for other in (b"\xdc\0\x08" + plain[1:], b"\x98\xcc\x01" + plain[2:], b"\x99" + plain[1:] + b"\xc0", plain + b"\0"):
        with pytest.raises(Damaged):
            decode(header + ref.seal(key, keystore_ctx(header), other, bytes(24)), PASSPHRASE)


# ---- T-kdf-clamp ---------------------------------------------------------------------------------------------------

OUT_OF_BOUNDS = [
    (64 * 1024 - 1, 1, 1),
    (8, 1, 1),
    (0, 0, 0),
    (4 * 1024 * 1024 + 1, 1, 1),
    (2**32 - 1, 1, 1),
    (64 * 1024, 0, 1),
    (64 * 1024, 17, 1),
    (64 * 1024, 1, 0),
    (64 * 1024, 1, 17),
]


@pytest.mark.parametrize("cost", OUT_OF_BOUNDS)
def test_kdf_clamp_refuses_before_it_computes_anything(cost: tuple, cheap_kdf: list[KdfParams]) -> None:
    data = bytearray(encode(KEYS, PASSPHRASE))
    cheap_kdf.clear()
    data[8:20] = struct.pack(">III", *cost)
    with pytest.raises(Damaged):
        decode(bytes(data), PASSPHRASE)
    with pytest.raises(Damaged):
        KdfParams(*cost)
    assert cheap_kdf == []


def test_kdf_default_is_the_documented_cost() -> None:
    assert (KDF_DEFAULT.memory_kib, KDF_DEFAULT.passes, KDF_DEFAULT.lanes) == (256 * 1024, 3, 4)


# ---- T-keyfile -----------------------------------------------------------------------------------------------------


def test_keyfile_opens_with_nothing_that_is_not_argon2id() -> None:
    data = encode(KEYS, PASSPHRASE, KDF_FLOOR)
    header, salt = data[:HEADER], data[24:40]
    cheap = [
        PASSPHRASE.ljust(32, b"\0"),
        bytes(32),
        hashlib.sha256(PASSPHRASE).digest(),
        hashlib.sha256(salt + PASSPHRASE).digest(),
        hashlib.pbkdf2_hmac("sha256", PASSPHRASE, salt, 2048),
    ]
    for key in cheap:
        with pytest.raises(AuthError):
            open_sealed(key, keystore_ctx(header), data[HEADER:])


def test_keyfile_shows_none_of_its_secrets(cheap_kdf: list[KdfParams]) -> None:
    data = encode(KEYS, PASSPHRASE)
    for secret in (KEYS.sign_seed, KEYS.local_secret, KEYS.cert_key_pkcs8, KEYS.vault, KEYS.cert_der, PASSPHRASE):
        assert secret not in data
    assert len(zlib.compress(data)) >= len(data)
    assert data[:8] == b"CFSKEYS1"


def test_two_files_of_one_content_share_no_salt_and_no_bytes(cheap_kdf: list[KdfParams]) -> None:
    first, second = encode(KEYS, PASSPHRASE), encode(KEYS, PASSPHRASE)
    assert first[24:40] != second[24:40]
    assert first[HEADER + 56 : HEADER + 72] != second[HEADER + 56 : HEADER + 72]


# ---- T-repr --------------------------------------------------------------------------------------------------------


def secrets_of(keys: DeviceKeys) -> list[bytes]:
    return [keys.sign_seed, keys.local_secret, keys.cert_key_pkcs8, *(i.secret for i in keys.invitations)]


def shows(text: str, secret: bytes) -> bool:
    return any(form in text for form in (repr(secret)[2:-1], repr(secret[:8])[2:-1], secret.hex(), secret[:8].hex()))


def test_repr_shows_no_secret() -> None:
    for text in (repr(KEYS), str(KEYS), f"{KEYS}", repr((KEYS,)), repr(KEYS.invitations)):
        assert not any(shows(text, secret) for secret in secrets_of(KEYS))


def test_repr_exceptions_carry_no_secret(cheap_kdf: list[KdfParams]) -> None:
    header = encode(KEYS, PASSPHRASE)[:HEADER]
    key = keyfile._passphrase_key(PASSPHRASE, header[24:40], KDF_DEFAULT)
    seed = KEYS.sign_seed
    bad = b"\x98\x01" + b"\xc4\x20" + seed + b"\xd9\x20" + seed.hex()[:32].encode() + bytes(20)
    for data in (encode(KEYS, b"another"), header + ref.seal(key, keystore_ctx(header), bad, bytes(24))):
        with pytest.raises((WrongPassphrase, Damaged)) as caught:
            decode(data, PASSPHRASE)
        assert caught.value.__cause__ is None
        text = "".join(traceback.format_exception(caught.value))
        assert not any(shows(text, secret) for secret in [*secrets_of(KEYS), PASSPHRASE])


# ---- T-keypair-mismatch --------------------------------------------------------------------------------------------


def test_keypair_mismatch_with_the_certificate_or_the_roster_is_refused() -> None:
    public = sign_public(KEYS.sign_seed)
    assert KEYS.sign_public == public
    KEYS.check_entry(KEYS.cert_der, public)
    private, cert = make_certificate("Anna", NOW)
    attempts = [
        (KEYS, cert, public),
        (KEYS, KEYS.cert_der, bytes(32)),
        (dataclasses.replace(KEYS, cert_key_pkcs8=private), KEYS.cert_der, public),
        (dataclasses.replace(KEYS, cert_der=cert), cert, public),
        (dataclasses.replace(KEYS, sign_seed=b""), KEYS.cert_der, public),
    ]
    for keys, cert_der, sign_pub in attempts:
        with pytest.raises(Refused) as caught:
            keys.check_entry(cert_der, sign_pub)
        assert caught.value.reason is Refusal.MISMATCH


@pytest.mark.parametrize("field", ["vault", "entry", "sign_seed", "local_secret"])
def test_value_of_a_wrong_length_cannot_exist(field: str) -> None:
    with pytest.raises(Damaged):
        dataclasses.replace(KEYS, **{field: LocalSecret(bytes(31))})


def test_invitation_out_of_range_cannot_exist() -> None:
    for wrong in ((bytes(15), bytes(16), 1), (bytes(16), bytes(17), 1), (bytes(16), bytes(16), 4)):
        with pytest.raises(Damaged):
            Invitation(*wrong, 0)


# ---- renewed certificates, keys on tokens ----------------------------------------------------------------------------


def test_renewed_keys_come_back_with_the_certificates_before_them(cheap_kdf: list[KdfParams]) -> None:
    assert not is_on_token(encode(KEYS, None))
    later = KEYS.renewed(KeyPair(*make_certificate("Anna", NOW)))
    assert decode(encode(later, PASSPHRASE), PASSPHRASE) == later
    assert later.former == (KEYS.pair,)
    assert later.pair.cert_der != KEYS.cert_der


def test_renewed_keys_open_what_was_wrapped_to_any_of_their_certificates() -> None:
    """T-renew."""
    later = KEYS
    for _ in range(3):
        later = later.renewed(KeyPair(*make_certificate("Anna", NOW)))
    openers = later.openers()
    for pair in (*later.former, later.pair):
        alg, blob = wrap(public_key_of(pair.cert_der), bytes(32), b"info")
        assert openers[fingerprint(pair.cert_der)](alg, blob, b"info") == bytes(32)
    assert len(openers) == 4


def test_former_certificates_are_kept_up_to_a_bound() -> None:
    later = KEYS
    for number in range(FORMER_MAX + 5):
        later = later.renewed(KeyPair(KEYS.cert_key_pkcs8, b"%d" % number))
    assert [one.cert_der for one in later.former] == [b"%d" % number for number in range(4, FORMER_MAX + 4)]
    with pytest.raises(Damaged):
        dataclasses.replace(later, former=(*later.former, KEYS.pair))


class Absent(HeldKey):
    def exchange(self, point: bytes) -> bytes:
        raise ValueError

    def decrypt_oaep(self, blob: bytes, label: bytes) -> bytes:
        raise ValueError


def test_keys_on_a_token_open_nothing_without_it(cheap_kdf: list[KdfParams]) -> None:
    keys = dataclasses.replace(KEYS, cert_key_pkcs8=b"", token="pkcs11:object=mine")
    data = encode(keys, PASSPHRASE)
    assert is_on_token(data)
    assert is_protected(data)
    assert not is_protected(encode(keys, None))
    assert decode(data, PASSPHRASE) == keys
    with pytest.raises(Refused, match="the token that holds the private key is not there"):
        keys.openers()
    here = dataclasses.replace(keys, held=((fingerprint(keys.cert_der), Absent()),))
    assert set(here.openers()) == {fingerprint(keys.cert_der)}
    # One that was left behind with a former certificate is not waited for.
    pair = KeyPair(*make_certificate("Anna", NOW))
    assert set(keys.renewed(pair).openers()) == {fingerprint(pair.cert_der)}


def test_downgrade_a_flag_in_the_header_cannot_be_changed(cheap_kdf: list[KdfParams]) -> None:
    """T-downgrade: else a token could be made to look unneeded."""
    data = encode(KEYS, PASSPHRASE)
    with pytest.raises(WrongPassphrase):
        decode(data[:23] + bytes([data[23] ^ 2]) + data[24:], PASSPHRASE)
