"""Certificates in org-ca mode: T-rogue-ca, T-x509, T-crl, T-expiry."""

import pytest
from certificate_workshop import DAY, NOW, Authority, usage
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from cryptfs.crypto.authority import CrlMode, OrgPolicy, check_crl, judge_org
from cryptfs.crypto.certificate import Refusal, Refused, Standing
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.errors import Damaged

CA = Authority()
IMPOSTOR = Authority()  # same name, another key
OTHER = Authority("Other authority")
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
CERT = CA.issue(KEY, (usage("key_agreement"), True), serial=1000)
EMAIL, CLIENT, ANY = (
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
)


def policy(*authorities: bytes, eku: str = "", crl: CrlMode = CrlMode.OFF) -> OrgPolicy:
    return OrgPolicy(authorities or (CA.der,), eku, crl)


def reason(cert: bytes, org: OrgPolicy, *crls: bytes, now: object = NOW) -> Refusal:
    with pytest.raises(Refused) as caught:
        judge_org(cert, now, org, crls)
    return caught.value.reason


def test_certificate_of_a_listed_authority_is_good() -> None:
    judged = judge_org(CERT, NOW, policy(OTHER.der, CA.der))
    assert (judged.public_key, judged.standings) == (KEY, ())


def test_certificate_for_x25519_has_a_path_too() -> None:
    key = x25519.X25519PrivateKey.generate().public_key()
    assert judge_org(CA.issue(key), NOW, policy()).public_key == key


@pytest.mark.parametrize("listed", [[], [OTHER.der], [IMPOSTOR.der], [b"no certificate"]])
def test_rogue_ca_that_is_not_listed_counts_for_nothing(listed: list[bytes]) -> None:
    assert reason(CERT, OrgPolicy(tuple(listed), "", CrlMode.OFF)) is Refusal.NOT_ISSUED


def test_x509_self_signed_certificate_is_not_its_own_authority() -> None:
    _, own = make_certificate("Anna", NOW)
    assert reason(own, policy()) is Refusal.NOT_ISSUED
    assert reason(own, policy(own)) is Refusal.NOT_ISSUED


def test_x509_leaf_of_a_leaf_is_refused() -> None:
    signer = ec.generate_private_key(ec.SECP256R1())
    middle = Authority("Anna", key=signer)
    leaf = CA.issue(signer.public_key(), (usage("key_agreement"), True))
    assert reason(middle.issue(KEY), policy(CA.der, leaf)) is Refusal.NOT_ISSUED


def test_x509_ed25519_authority_is_refused() -> None:
    ca = Authority("Ed", key=ed25519.Ed25519PrivateKey.generate())
    assert reason(ca.issue(KEY), policy(ca.der)) is Refusal.NOT_ISSUED


@pytest.mark.parametrize(
    ("public", "extensions", "expected"),
    [
        (ec.generate_private_key(ec.SECP256K1()).public_key(), [], Refusal.KEY_TYPE),
        (ed25519.Ed25519PrivateKey.generate().public_key(), [], Refusal.KEY_TYPE),
        (KEY, [(x509.BasicConstraints(ca=True, path_length=None), True)], Refusal.IS_CA),
        (KEY, [(usage("digital_signature"), True)], Refusal.KEY_USAGE),
    ],
)
def test_x509_form_is_judged_before_the_path(public: object, extensions: list, expected: Refusal) -> None:
    assert reason(CA.issue(public, *extensions), policy()) is expected


def test_expiry_has_no_grace_here() -> None:
    cert = CA.issue(KEY, expires=NOW + 100 * DAY)
    assert judge_org(cert, NOW + 80 * DAY, policy()).standings == (Standing.EXPIRES_SOON,)
    assert reason(cert, policy(), now=NOW + 101 * DAY) is Refusal.EXPIRED
    assert reason(cert, policy(), now=NOW - 2 * DAY) is Refusal.NOT_YET_VALID
    long = CA.issue(KEY, expires=NOW + 900 * DAY)
    assert reason(long, policy(), now=NOW + 500 * DAY) is Refusal.NOT_ISSUED  # the authority itself has expired


def test_eku_of_the_policy_must_be_in_the_certificate() -> None:
    email = CA.issue(KEY, (x509.ExtendedKeyUsage([EMAIL]), False))
    anything = CA.issue(KEY, (x509.ExtendedKeyUsage([ANY]), True))
    assert judge_org(email, NOW, policy(eku=EMAIL.dotted_string)).standings == ()
    assert judge_org(anything, NOW, policy(eku=EMAIL.dotted_string)).standings == ()
    assert reason(email, policy(eku=CLIENT.dotted_string)) is Refusal.NOT_ISSUED
    assert reason(CERT, policy(eku=CLIENT.dotted_string)) is Refusal.NOT_ISSUED


# ---- T-crl ---------------------------------------------------------------------------------------------------------

BLOCK, WARN = policy(crl=CrlMode.BLOCK), policy(crl=CrlMode.WARN)


def test_crl_that_is_current_and_silent_about_it_lets_a_certificate_pass() -> None:
    assert judge_org(CERT, NOW, BLOCK, [CA.crl(1, 5, 6)]).standings == ()


def test_crl_that_names_the_certificate_ends_it() -> None:
    for org in (BLOCK, WARN):
        assert reason(CERT, org, CA.crl(1, 1000)) is Refusal.REVOKED
        assert reason(CERT, org, CA.crl(None, 1000)) is Refusal.REVOKED
        stale = CA.crl(1, 1000, this=NOW - 9 * DAY, following=NOW - 8 * DAY)
        assert reason(CERT, org, stale) is Refusal.REVOKED
    assert judge_org(CERT, NOW, policy(crl=CrlMode.OFF), [CA.crl(1, 1000)]).standings == ()


def test_crl_with_the_highest_number_wins_in_any_order() -> None:
    revoking, lifting = CA.crl(7, 1000), CA.crl(8)
    for crls in ([revoking, lifting], [lifting, revoking]):
        assert judge_org(CERT, NOW, BLOCK, crls).standings == ()
    assert reason(CERT, BLOCK, lifting, CA.crl(9, 1000), revoking) is Refusal.REVOKED


def test_crl_entry_that_was_taken_back_does_not_count() -> None:
    assert judge_org(CERT, NOW, BLOCK, [CA.crl(1, 1000, reason=x509.ReasonFlags.remove_from_crl)]).standings == ()
    assert reason(CERT, BLOCK, CA.crl(1, 1000, reason=x509.ReasonFlags.key_compromise)) is Refusal.REVOKED


NOT_USABLE = {
    "none at all": [],
    "out of date": [CA.crl(1, this=NOW - 9 * DAY, following=NOW - 8 * DAY)],
    "of tomorrow": [CA.crl(1, this=NOW + DAY, following=NOW + 2 * DAY)],
    "signed by an impostor of the same name": [CA.crl(1, signer=IMPOSTOR.key), IMPOSTOR.crl(2)],
    "of another authority": [OTHER.crl(1)],
    "for a part of the certificates": [
        CA.crl(1, critical=x509.IssuingDistributionPoint(None, None, True, False, None, False, False))
    ],
    "of changes only": [CA.crl(2, critical=x509.DeltaCRLIndicator(1))],
    "garbage": [b"", b"\x30\x00", bytes(1000)],
    "tampered with": [CA.crl(1)[:-1] + b"\0"],
}


@pytest.mark.parametrize("name", NOT_USABLE)
def test_crl_that_is_not_usable_blocks_or_warns_as_the_policy_says(name: str) -> None:
    crls = NOT_USABLE[name]
    assert reason(CERT, BLOCK, *crls) is Refusal.CRL_MISSING
    assert judge_org(CERT, NOW, WARN, crls).standings == (Standing.CRL_STALE,)
    assert judge_org(CERT, NOW, policy(), crls).standings == ()


def test_crl_by_an_authority_that_may_not_sign_any_is_not_used() -> None:
    ca = Authority("No lists", crl_sign=False)
    assert reason(ca.issue(KEY), policy(ca.der, crl=CrlMode.BLOCK), ca.crl(1)) is Refusal.CRL_MISSING


def test_crl_of_another_name_under_the_same_key_is_another_authoritys() -> None:
    namesake = Authority("Second name", key=CA.key)
    assert reason(CERT, BLOCK, namesake.crl(1)) is Refusal.CRL_MISSING
    with pytest.raises(Damaged):
        check_crl(namesake.crl(1), [CA.der])


def test_crl_is_taken_in_only_if_a_listed_authority_signed_it() -> None:
    taken = check_crl(CA.crl(12, 1000), [OTHER.der, CA.der])
    assert (taken.number, taken.made, taken.good_until) == (12, NOW - DAY, NOW + DAY)
    for data, listed in (
        (CA.crl(12), [OTHER.der]),
        (IMPOSTOR.crl(12), [CA.der]),
        (b"", [CA.der]),
        (bytes(5 << 20), []),
    ):
        with pytest.raises(Damaged):
            check_crl(data, listed)


@given(st.binary(max_size=100))
def test_unreadable_bytes_anywhere_raise_only_our_errors(data: bytes) -> None:
    with pytest.raises(Refused):
        judge_org(data, NOW, policy())
    with pytest.raises(Damaged):
        check_crl(data, [data, CA.der])
