"""Form of statements, wraps, join requests and tokens: lengths, ranges, order. Authority is tested with the group."""

import base64

import pytest
from format_samples import (
    CERT,
    CLEAR_JOIN,
    DEVICE,
    EIDS,
    ENTRY,
    GENESIS,
    GENESIS_OP,
    HEADS,
    JOIN_BODY,
    OTHER_SEED,
    POLICY,
    PUB,
    RECOVERY,
    RECOVERY_SEED,
    RECS,
    ROTATE,
    SEALED_JOIN,
    SECRET,
    SEED,
    TOKEN,
    WRAPS,
    V,
    replace_struct,
    sha,
    stream,
)
from reference_format import header, pack, sign

from cryptfs.crypto.keys import sign_public
from cryptfs.errors import AuthError, Damaged, Invalid, NeedsUpdate
from cryptfs.format import join, statement, wraps
from cryptfs.format.codec import Ext, encode
from cryptfs.format.form import tidy_text
from cryptfs.format.limits import CERT_MAX, STAMP_MAX, STATEMENT_MAX
from cryptfs.format.statement import Accept, Add, Close, Cut, Epoch, NewLog, Payload, Remove, Renew, Rotate, SetPolicy
from cryptfs.format.statement_rules import check_payload

I64 = 2**63
A, B = sorted((stream("log a", 16), stream("log b", 16)))
X, Y = sorted((stream("entry x", 32), stream("entry y", 32)))
D = stream("D", 32)
EPOCH = Epoch(stream("commit", 32), (X, Y), stream("box", 200))
CUTS = (Cut(A, 0, bytes(32)), Cut(B, 7, D))
ADD = Add(stream("m", 16), "Bob", 1, DEVICE, stream("pop", 64), 1, stream("invite", 16), HEADS[0])
OPS = [
    ADD,
    replace_struct(ADD, invite=b"", as_of=None),
    Remove((X, Y), (stream("m", 16),), CUTS, EPOCH),
    Remove((X,), (), (), replace_struct(EPOCH, hist=b"", to=())),
    Rotate(EPOCH),
    SetPolicy(POLICY),
    SetPolicy(replace_struct(POLICY, trust=1, cas=(CERT, CERT), eku="1.3.6.1.5.5.7.3.2", crl=2, on_stale=1)),
    NewLog(CUTS),
    NewLog(()),
    Close(CUTS, 2),
    Accept(CUTS),
    Renew(CERT, stream("pop", 64)),
]
BAD_TEXT = ["x" * 65, "ü" * 33, "a\0", "a\nb", "\x1b[0m", "\x85"]
BAD_CUTS = [
    CUTS[::-1],
    (CUTS[1], CUTS[1]),
    (CUTS[1], replace_struct(CUTS[1], count=8)),
    (Cut(A, 0, D),),
    (Cut(A, 1, bytes(32)),),
    (Cut(A, -1, D),),
    (Cut(A, STAMP_MAX + 1, D),),
    (Cut(b"", 1, D),),
    (Cut(A, 1, b""),),
]
BAD_EPOCHS = [
    replace_struct(EPOCH, commit=bytes(31)),
    replace_struct(EPOCH, to=(Y, X)),
    replace_struct(EPOCH, to=(X, X)),
    replace_struct(EPOCH, to=(bytes(31),)),
    replace_struct(EPOCH, hist=bytes(71)),
    replace_struct(EPOCH, hist=bytes(20_000)),
]
BAD_POLICIES = [
    replace_struct(POLICY, **changed)
    for changed in (
        {"trust": 2}, {"trust": -1}, {"cas": (b"",)}, {"cas": (bytes(CERT_MAX + 1),)}, {"cas": (CERT,) * 17},
        {"eku": "serverAuth"}, {"eku": "1"}, {"eku": "1.02"}, {"eku": "1.2\n"}, {"crl": 3}, {"roster_age_days": -1},
        {"roster_age_days": 65536}, {"on_stale": 2}, {"min_format": 65536},
        {"ext": (Ext(2, False, b""), Ext(1, False, b""))},
    )
]  # fmt: skip
BAD_DEVICES = [
    replace_struct(DEVICE, **changed)
    for changed in (
        {"cert": b""}, {"cert": bytes(CERT_MAX + 1)}, {"sign_pub": bytes(31)}, {"pq_pub": bytes(4097)},
        *({"label": value} for value in BAD_TEXT),
    )
]  # fmt: skip
BAD: dict[str, list[object]] = {
    "member": [b"", bytes(17)], "display": BAD_TEXT, "name": BAD_TEXT, "role": [-1, 4], "device": BAD_DEVICES,
    "pop": [b"", bytes(63)], "how": [-1, 256], "invite": [bytes(15)],
    "as_of": [replace_struct(HEADS[0], **changed) for changed in ({"log": b""}, {"digest": b""}, {"seq": -1})],
    "targets": [(Y, X), (X, X), (b"",)], "members": [(B, A), (A, A), (b"",)], "cuts": BAD_CUTS, "closes": BAD_CUTS,
    "epoch": BAD_EPOCHS, "policy": BAD_POLICIES, "reason": [0, 4], "cert": [b"", bytes(CERT_MAX + 1)],
    "recovery": [replace_struct(RECOVERY, **{name: bytes(31)}) for name in ("sign_pub", "kem_pub")]
    + [replace_struct(RECOVERY, pq_pub=bytes(4097))],
}  # fmt: skip


def payload(op: statement.StatementOp, /, **changed: object) -> Payload:
    return replace_struct(Payload(1, V, (V,), ENTRY, 5, bytes(16), op, ()), **changed)


each_op = pytest.mark.parametrize("op", OPS, ids=lambda op: type(op).__name__)


@each_op
def test_good_statements_pass_and_read_back(op: statement.StatementOp) -> None:
    made = statement.make_statement(
        vault=V, prev=(V,), author=ENTRY, time_ms=-1, nonce=bytes(16), op=op, sign_seed=SEED
    )
    read = statement.parse_statement(made.data, V)
    read.verify(PUB)
    assert read == made
    assert read.payload.op == op


@pytest.mark.parametrize("op", [*OPS, GENESIS_OP], ids=lambda op: type(op).__name__)
def test_fields_out_of_range_are_refused(op: statement.StatementOp) -> None:
    genesis = op is GENESIS_OP
    good = GENESIS.payload if genesis else payload(op)
    check_payload(good, V, genesis=genesis)
    for name in op.__struct_fields__:
        for value in BAD[name]:
            with pytest.raises(Invalid):
                check_payload(replace_struct(good, op=replace_struct(op, **{name: value})), V, genesis=genesis)


@pytest.mark.parametrize(
    "changed",
    [
        {"fmt": 0},
        {"vault": bytes(32)},
        {"vault": D},
        {"prev": ()},
        {"prev": (Y, X)},
        {"prev": (X, X)},
        {"prev": (b"",)},
        {"prev": tuple(i.to_bytes(32, "big") for i in range(257))},
        {"author": b""},
        {"time_ms": I64},
        {"nonce": bytes(15)},
        {"op": GENESIS_OP},
        {"ext": (Ext(1, False, b""), Ext(1, False, b""))},
    ],
)
def test_payload_out_of_range_is_refused(changed: dict[str, object]) -> None:
    check_payload(payload(OPS[0]), V, genesis=False)
    with pytest.raises(Invalid):
        check_payload(payload(OPS[0], **changed), V, genesis=False)


@pytest.mark.parametrize(
    "changed", [{"vault": V}, {"prev": (V,)}, {"author": X}, {"op": OPS[0]}], ids=["vault", "prev", "author", "op"]
)
def test_genesis_out_of_range_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        check_payload(replace_struct(GENESIS.payload, **changed), V, genesis=True)


def test_frontier_of_256_passes() -> None:
    check_payload(payload(OPS[0], prev=tuple(i.to_bytes(32, "big") for i in range(256))), V, genesis=False)


def test_critical_extension_asks_for_an_update() -> None:
    with pytest.raises(NeedsUpdate):
        check_payload(payload(OPS[0], ext=(Ext(1, True, b""),)), V, genesis=False)
    policy = replace_struct(POLICY, ext=(Ext(1, True, b""),))
    with pytest.raises(NeedsUpdate):
        check_payload(payload(SetPolicy(policy)), V, genesis=False)


# ---- genesis -------------------------------------------------------------------------------------------------------


def make_genesis(op: statement.Genesis, recovery_seed: bytes | None) -> statement.Statement:
    return statement.make_genesis(time_ms=1, nonce=bytes(16), op=op, sign_seed=SEED, recovery_seed=recovery_seed)


def test_genesis_without_recovery_key_has_one_signature() -> None:
    lone = make_genesis(replace_struct(GENESIS_OP, recovery=None), None)
    assert len(lone.signature) == 64
    statement.parse_statement(lone.data, lone.id).verify(PUB)
    with pytest.raises(Invalid):
        statement.parse_statement(lone.data + bytes(64), lone.id)


def test_genesis_that_names_a_recovery_key_needs_its_signature() -> None:
    with pytest.raises(ValueError, match="exactly"):
        make_genesis(GENESIS_OP, None)
    with pytest.raises(ValueError, match="exactly"):
        make_genesis(replace_struct(GENESIS_OP, recovery=None), RECOVERY_SEED)
    with pytest.raises(Invalid):
        statement.parse_statement(GENESIS.data[:-64], V)
    forged = make_genesis(GENESIS_OP, OTHER_SEED)
    with pytest.raises(AuthError):
        forged.verify(PUB)
    swapped = GENESIS.data[:-128] + GENESIS.data[-64:] + GENESIS.data[-128:-64]
    with pytest.raises(AuthError):
        statement.parse_statement(swapped, V).verify(PUB)


def test_weak_signing_key_in_the_genesis() -> None:
    """For a key of small order one signature verifies for every message: the founder's key must not be one."""
    weak = make_genesis(
        replace_struct(GENESIS_OP, device=replace_struct(DEVICE, sign_pub=b"\x01" + bytes(31))), RECOVERY_SEED
    )
    with pytest.raises(AuthError):
        weak.verify(weak.payload.op.device.sign_pub)


def test_vault_a_genesis_claims() -> None:
    assert statement.genesis_vault(GENESIS.data) == V
    for data in (b"", GENESIS.data[:79], WRAPS):
        with pytest.raises(Damaged):
            statement.genesis_vault(data)


def test_header_names_another_author_than_the_payload() -> None:
    changed = ROTATE.data[:48] + X + ROTATE.data[80:]
    with pytest.raises(Invalid):
        statement.parse_statement(changed, V)


@pytest.mark.parametrize("tag", [9, 20, 2**40])
def test_act_of_a_later_version_asks_for_an_update_only_once_verified(tag: int) -> None:
    data = pack([1, V, [V], ENTRY, 0, bytes(16), [tag, b"?"], []])
    made = header(b"STMT", V, b"", len(data), ENTRY) + data + sign(SEED, "membership", V, data)
    raw = statement.split_statement(made, V)
    raw.verify(PUB)
    with pytest.raises(NeedsUpdate):
        raw.open()
    with pytest.raises(AuthError):
        statement.split_statement(made[:-1] + bytes([made[-1] ^ 1]), V).verify(PUB)


def test_statement_too_large() -> None:
    with pytest.raises(Damaged, match="too large"):
        statement.split_statement(bytes(STATEMENT_MAX + 300), V)
    cas = tuple(bytes(CERT_MAX) for _ in range(16))
    with pytest.raises(Invalid, match="too long"):
        statement.make_statement(
            vault=V,
            prev=(V,),
            author=ENTRY,
            time_ms=0,
            nonce=bytes(16),
            op=SetPolicy(replace_struct(POLICY, cas=cas)),
            sign_seed=SEED,
        )


# ---- wraps ---------------------------------------------------------------------------------------------------------


def test_wraps_are_sorted_by_whoever_makes_them() -> None:
    made = wraps.make_wraps(vault=V, author=ENTRY, eid=EIDS[0], recs=RECS[::-1], enrol=RECS, sign_seed=SEED)
    opened = wraps.parse_wraps(made, V).open(PUB)
    assert opened.recs == opened.enrol == tuple(sorted(RECS, key=lambda rec: rec.entry))


@pytest.mark.parametrize(
    "recs",
    [
        RECS[:1] * 2,
        (replace_struct(RECS[0], entry=b""),),
        (replace_struct(RECS[0], cert_fp=b""),),
        (replace_struct(RECS[0], alg=0),),
        (replace_struct(RECS[0], alg=256),),
        (replace_struct(RECS[0], blob=b""),),
        (replace_struct(RECS[0], blob=bytes(4097)),),
    ],
)
def test_bad_wraps_are_refused(recs: tuple[wraps.Rec, ...]) -> None:
    with pytest.raises(Invalid):
        wraps.make_wraps(vault=V, author=ENTRY, eid=EIDS[0], recs=recs, sign_seed=SEED)
    with pytest.raises(Invalid):
        wraps.make_wraps(vault=V, author=ENTRY, eid=EIDS[0], recs=(), enrol=recs, sign_seed=SEED)


def test_wraps_of_one_epoch_under_the_header_of_another() -> None:
    """Otherwise an object found under one epoch's name could pass secrets off as another's."""
    plain = encode(wraps.WrapsPayload(1, EIDS[1], (), (), ()))
    data = header(b"WRAP", V, b"", len(plain), ENTRY + EIDS[0]) + plain
    with pytest.raises(Invalid, match="different epochs"):
        wraps.parse_wraps(data + sign(SEED, "wraps", V, sha(data)), V).open(PUB)


def test_wrap_algorithm_of_the_future_is_carried_along() -> None:
    hybrid = replace_struct(RECS[0], alg=3, blob=bytes(1300))
    made = wraps.make_wraps(vault=V, author=ENTRY, eid=EIDS[0], recs=(RECS[0], hybrid), sign_seed=SEED)
    assert len(wraps.parse_wraps(made, V).open(PUB).recs) == 2


# ---- join requests -------------------------------------------------------------------------------------------------


def test_join_request_reads_back() -> None:
    for data in (SEALED_JOIN, CLEAR_JOIN):
        assert join.parse_join(data, V).open(SECRET) == JOIN_BODY
    assert join.parse_join(CLEAR_JOIN, V).invite == join.NO_INVITE
    assert join.parse_join(CLEAR_JOIN, V).open() == JOIN_BODY


@pytest.mark.parametrize("secret", [b"", stream("another", 16), SECRET + b"\0", SECRET[:15]])
def test_join_request_under_another_invitation(secret: bytes) -> None:
    with pytest.raises(AuthError):
        join.parse_join(SEALED_JOIN, V).open(secret)


def test_join_request_with_anothers_certificate_or_key() -> None:
    stolen = replace_struct(JOIN_BODY, device=replace_struct(DEVICE, cert=stream("victim", 200)))
    with pytest.raises(AuthError):
        join.parse_join(join.make_join(vault=V, body=stolen, sign_seed=SEED), V).open()
    with pytest.raises(Invalid):
        join.make_join(vault=V, body=JOIN_BODY, sign_seed=OTHER_SEED)
    own = replace_struct(JOIN_BODY, device=replace_struct(DEVICE, sign_pub=sign_public(OTHER_SEED)))
    with pytest.raises(AuthError):  # a proof of possession of the other key
        join.parse_join(join.make_join(vault=V, body=own, sign_seed=OTHER_SEED), V).open()


@pytest.mark.parametrize(
    "changed",
    [{"fmt": 0}, {"pop": b""}, {"time_ms": I64}, *({"display": value} for value in BAD_TEXT)]
    + [{"device": device} for device in BAD_DEVICES],
)
def test_bad_join_requests_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        join.make_join(vault=V, body=replace_struct(JOIN_BODY, **changed), sign_seed=SEED)


def test_proof_of_possession_is_bound_to_vault_certificate_and_key() -> None:
    pop = statement.prove_possession(V, CERT, PUB, SEED)
    statement.check_possession(V, CERT, PUB, pop)
    for vault, cert, pub in ((D, CERT, PUB), (V, CERT + b"\0", PUB), (V, CERT, sign_public(OTHER_SEED))):
        with pytest.raises(AuthError):
            statement.check_possession(vault, cert, pub, pop)
    assert statement.pop_data(CERT, PUB) == sha(CERT) + PUB


# ---- tokens --------------------------------------------------------------------------------------------------------


def test_token_reads_back_as_people_paste_it() -> None:
    line = join.encode_token(TOKEN)
    assert line.startswith("cfs1-")
    assert join.decode_token(line) == TOKEN
    assert join.decode_token(f"  {line[:40]}\n{line[40:]} \n") == TOKEN
    assert SECRET.hex() not in repr(TOKEN)
    assert repr(SECRET) not in repr(TOKEN)


def test_mistyped_token_is_noticed() -> None:
    line = join.encode_token(TOKEN)
    for at in range(len(line)):
        for changed in (line[:at] + line[at + 1 :], line[:at] + "A" + line[at + 1 :], line[:at] + "é" + line[at + 1 :]):
            if changed != line:
                with pytest.raises(Invalid):
                    join.decode_token(changed)
    for odd in ("", "cfs1-", line[5:], "cfs2-" + line[5:], line + "=", line + "A", line + "AAAA", "x" * 5000):
        with pytest.raises(Invalid):
            join.decode_token(odd)


@pytest.mark.parametrize(
    "changed",
    [
        {"fmt": 0}, {"vault": bytes(31)}, {"secret": bytes(15)}, {"role": 4}, {"role": -1}, {"expires_ms": I64},
        {"heads": (Y, X)}, {"heads": (bytes(31),)}, {"heads": tuple(i.to_bytes(32, "big") for i in range(9))},
        {"as_of": replace_struct(HEADS[0], digest=b"")}, {"locator": "x" * 513}, {"locator": "a\n"},
    ],
)  # fmt: skip
def test_bad_tokens_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        join.encode_token(replace_struct(TOKEN, **changed))


def test_token_of_a_later_version() -> None:
    data = pack([2, b"anything"])
    line = "cfs1-" + base64.urlsafe_b64encode(data + sha(data)[:4]).rstrip(b"=").decode()
    with pytest.raises(NeedsUpdate):
        join.decode_token(line)


def test_text_is_tidied_by_writers() -> None:
    assert tidy_text("Zoe\u0308\n\x1b[1m", 64) == "Zo\xeb[1m"
    assert tidy_text("ü" * 40, 9) == "ü" * 4
    assert tidy_text("", 64) == ""
