"""The key tree against the vectors, and what its labels keep apart."""

import itertools

import pytest
import reference_crypto as ref
from crypto_vectors import load, unhex
from hypothesis import given
from hypothesis import strategies as st

from cryptfs.crypto import keys as k
from cryptfs.crypto.seal import open_sealed
from cryptfs.errors import AuthError

VECTORS = load("crypto_keys")
V = unhex(VECTORS["vault"])
EPOCHS = [(unhex(e["eid"]), k.EpochSecret(unhex(e["secret"]))) for e in VECTORS["epochs"]]
HEADER = b"header"
FID, EID, KS = ref.stream("fid", 16), ref.stream("eid", 16), ref.stream("ks", 32)


@pytest.mark.parametrize("case", VECTORS["epochs"])
def test_vector_of_commit_and_epoch_id(case: dict) -> None:
    commit = k.epoch_commit(V, k.EpochSecret(unhex(case["secret"])))
    assert commit == unhex(case["commit"])
    assert k.eid(commit) == unhex(case["eid"])


@pytest.mark.parametrize("case", VECTORS["key_sets"], ids=lambda c: f"{c['epochs']} epochs")
def test_vector_of_write_secret_and_keys(case: dict) -> None:
    chosen = EPOCHS[: case["epochs"]]
    ks = k.key_set([epoch for epoch, _ in chosen])
    assert ks == unhex(case["ks"])
    for order in itertools.permutations(chosen):
        assert k.write_secret(V, order) == unhex(case["w"])
    w = k.write_secret(V, chosen)
    assert {x.value.decode(): k.derive(w, x, V, ks).hex() for x in k.KeyLabel} == case["keys"]


def test_vector_of_file_key_box() -> None:
    box = VECTORS["file_key_box"]
    ks, fid = unhex(box["ks"]), unhex(box["fid"])
    key = k.derive(k.write_secret(V, EPOCHS[:2]), k.KeyLabel.FK, V, ks)
    assert len(unhex(box["box"])) == 104
    assert open_sealed(key, k.file_key_ctx(V, ks, fid, box["fkv"]), unhex(box["box"])) == unhex(box["file_key"])
    with pytest.raises(AuthError):
        open_sealed(key, k.file_key_ctx(V, ks, fid, box["fkv"] + 1), unhex(box["box"]))


def test_vector_of_history_box() -> None:
    box = VECTORS["history_box"]
    key = k.history_key(V, *EPOCHS[0])
    assert key == unhex(box["key"])
    assert open_sealed(key, k.history_ctx(V, EPOCHS[0][0]), unhex(box["box"])) == unhex(box["plain"])


def test_vector_of_join_key_and_invite_id() -> None:
    secret = unhex(VECTORS["join"]["secret"])
    assert k.join_key(V, secret) == unhex(VECTORS["join"]["key"])
    assert k.invite_id(V, secret) == unhex(VECTORS["join"]["invite_id"])


@pytest.mark.parametrize("purpose", VECTORS["local"]["keys"])
def test_vector_of_local_keys(purpose: str) -> None:
    secret = k.LocalSecret(unhex(VECTORS["local"]["secret"]))
    assert k.local_key(secret, purpose) == unhex(VECTORS["local"]["keys"][purpose])


def all_contexts() -> dict[str, bytes]:
    hashed = ref.hashlib.sha256(HEADER).digest()
    return {
        "chunk": k.chunk_ctx(V, FID, 1, 2, 3, 4),
        "file_key": k.file_key_ctx(V, KS, FID, 1),
        "history": k.history_ctx(V, EID),
        "segment": k.segment_ctx(HEADER),
        "pack": k.pack_ctx(HEADER),
        "manifest": k.manifest_ctx(V, KS, FID, 1, 2),
        "checkpoint": k.checkpoint_ctx(HEADER),
        "checkpoint_block": k.checkpoint_block_ctx(HEADER, 1, 2),
        "join": k.join_ctx(HEADER),
        "keystore": k.keystore_ctx(HEADER),
        "wrap_info": k.wrap_info(V, EID, hashed),
        "enrol_info": k.enrol_info(V, hashed, hashed),
    }


def test_vector_of_every_context() -> None:
    assert {name: ctx.hex() for name, ctx in all_contexts().items()} == VECTORS["contexts"]
    assert len(k.chunk_ctx(V, FID, 1, 2, 3, 4)) == 82


def test_no_context_is_a_prefix_of_another() -> None:
    contexts = all_contexts()
    for (a, x), (b, y) in itertools.permutations(contexts.items(), 2):
        assert not y.startswith(x), f"{a} begins {b}"


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40)), min_size=2, max_size=2, unique=True))
def test_parts_of_variable_length_do_not_run_into_each_other(pairs: list[tuple[bytes, bytes]]) -> None:
    (a, b), (c, d) = pairs
    assert k.local_ctx("journal", a, b) != k.local_ctx("journal", c, d)
    assert k.wrap_info(V, a, b) != k.wrap_info(V, c, d)


def test_every_secret_of_a_key_set_is_needed() -> None:
    whole = k.write_secret(V, EPOCHS)
    for missing in range(3):
        changed = [(e, k.EpochSecret(bytes(32)) if i == missing else s) for i, (e, s) in enumerate(EPOCHS)]
        assert k.write_secret(V, changed) != whole
        assert k.write_secret(V, EPOCHS[:missing] + EPOCHS[missing + 1 :]) != whole


def test_keys_differ_by_label_vault_and_key_set() -> None:
    w = k.write_secret(V, EPOCHS[:1])
    made = [k.derive(w, x, v, ks) for x in k.KeyLabel for v in (V, bytes(32)) for ks in (KS, KS[:16])]
    made += [k.history_key(V, *EPOCHS[0]), k.PurposeKey(k.epoch_commit(V, EPOCHS[0][1]))]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("eids", [[], [bytes(16)] * 2, [bytes(15)], [bytes([i]) * 16 for i in range(17)]])
def test_key_set_out_of_range_is_refused(eids: list[bytes]) -> None:
    with pytest.raises(ValueError, match="epoch"):
        k.key_set(eids)
    with pytest.raises(ValueError, match="epoch"):
        k.write_secret(V, [(e, k.EpochSecret(bytes(32))) for e in eids])


def test_fresh_secrets_are_fresh() -> None:
    made = {k.new_epoch_secret() for _ in range(100)} | {k.new_file_key() for _ in range(100)}
    assert len(made) == 200
    assert {len(s) for s in made} == {32}
