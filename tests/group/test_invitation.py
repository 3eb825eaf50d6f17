"""Inviting and joining, and who may be let in on what evidence."""

import pytest
from real_people import ADMIN, ANCHOR, NOW_MS, OWNER, READER, WRITER, Folder

from cryptfs.crypto.keys import random_bytes, sign_public
from cryptfs.errors import HostileStore
from cryptfs.format.join import decode_token, encode_token
from cryptfs.format.segment_body import LogHead
from cryptfs.format.statement import HOW_TOKEN, HOW_WORDS, Device
from cryptfs.group.authority import Tier
from cryptfs.group.invitation import (
    Doubt,
    ask,
    check_first_view,
    device_words,
    invite,
    newcomer,
    point,
    read_requests,
    view_words,
)

WEEK = 7 * 86_400_000


@pytest.fixture
def folder():
    return Folder()


def invited(folder, role=WRITER):
    """A token as it arrives, and the record of its issuer."""
    token, record = invite(
        folder.seen_by(folder.anna), role=role, expires_ms=NOW_MS + WEEK, as_of=ANCHOR, locator="file:///vault"
    )
    return decode_token(encode_token(token)), record


def asking(token, who):
    return ask(token, display=who.name, label="laptop", cert=who.cert, sign_seed=who.seed, now_ms=NOW_MS)


def read(folder, requests, records, now_ms=NOW_MS):
    return read_requests(requests, folder.seen_by(folder.anna), records, now_ms)


def test_a_token_lets_its_bearer_in_in_the_role_of_the_record(folder):
    token, record = invited(folder)
    bob = folder.someone("Bob")
    found, left_out = read(folder, [asking(token, bob)], [record])
    assert left_out == []
    [request] = found
    assert request.invitation == record
    assert request.doubts == frozenset()
    decision = folder.desk(folder.anna).admit(newcomer(request, bob.member, OWNER))
    op = decision.statement.payload.op
    assert (op.role, op.how, op.invite) == (WRITER, HOW_TOKEN, record.invite_id)
    folder.upload(decision)
    assert folder.seen_by(bob).role is Tier.WRITER
    assert folder.seen_by(bob).keyring.may_seal


def test_without_a_token_words_are_compared_and_the_administrator_sets_the_role(folder):
    token = decode_token(encode_token(point(folder.seen_by(folder.anna), role=READER, as_of=ANCHOR, locator="")))
    bob = folder.someone("Bob")
    [request], _ = read(folder, [asking(token, bob)], [])
    assert request.invitation is None
    assert request.words == device_words(folder.vault, bob.device)
    op = folder.desk(folder.anna).admit(newcomer(request, bob.member, ADMIN)).statement.payload.op
    assert (op.role, op.how, op.invite) == (ADMIN, HOW_WORDS, b"")


def test_token_reuse_by_a_second_device_raises_a_doubt_on_both(folder):
    """T-token, and the five below."""
    token, record = invited(folder)
    bob, eve = folder.someone("Bob"), folder.someone("Eve")
    found, _ = read(folder, [asking(token, bob), asking(token, eve)], [record])
    assert [one.doubts for one in found] == [frozenset({Doubt.TWICE})] * 2
    found, _ = read(folder, [asking(token, bob), asking(token, bob)], [record])
    assert all(not one.doubts for one in found)  # one device that asked twice


def test_token_that_was_spent_raises_a_doubt(folder):
    token, record = invited(folder)
    bob, eve = folder.someone("Bob"), folder.someone("Eve")
    first = asking(token, bob)
    [request], _ = read(folder, [first], [record])
    folder.upload(folder.desk(folder.anna).admit(newcomer(request, bob.member, WRITER)))
    [request], _ = read(folder, [first, asking(token, eve)], [record])
    assert request.body.display == "Eve"  # whoever is in is not listed again
    assert request.doubts == {Doubt.SPENT}


def test_token_past_its_time_raises_a_doubt(folder):
    token, record = invited(folder)
    request = asking(token, folder.someone("Bob"))
    [found], _ = read(folder, [request], [record], NOW_MS + WEEK)
    assert not found.doubts
    [found], _ = read(folder, [request], [record], NOW_MS + WEEK + 1)
    assert found.doubts == {Doubt.EXPIRED}


def test_token_of_another_issuer_cannot_be_approved_here(folder):
    token, _ = invited(folder)
    found, left_out = read(folder, [asking(token, folder.someone("Bob"))], [])
    assert found == []
    assert [reason for _, reason in left_out] == [Doubt.NOT_OURS.value]


def test_token_role_that_the_bearer_changed_does_not_matter(folder):
    token, record = invited(folder, READER)
    better = type(token)(token.fmt, token.vault, token.secret, OWNER, token.expires_ms, token.heads, token.as_of, "")
    bob = folder.someone("Bob")
    [request], _ = read(folder, [asking(better, bob)], [record])
    assert newcomer(request, bob.member, OWNER).role == READER


def test_mitm_join_the_keys_in_a_request_cannot_be_replaced(folder):
    """T-mitm-join: whoever lacks the secret cannot make or change a request; with a clear one the words differ."""
    token, record = invited(folder)
    bob, mallory = folder.someone("Bob"), folder.someone("Mallory")
    name, data = asking(token, bob)
    for place in range(0, len(data), 7):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        found, left_out = read(folder, [(name, changed)], [record])
        assert not [one for one in found if one.body.device == bob.device]
        assert len(left_out) == 1
    guess = type(token)(token.fmt, token.vault, random_bytes(16), WRITER, token.expires_ms, token.heads, ANCHOR, "")
    found, left_out = read(folder, [asking(guess, mallory)], [record])
    assert found == []
    assert device_words(folder.vault, mallory.device) != device_words(folder.vault, bob.device)
    swapped = Device(bob.cert, sign_public(mallory.seed), b"", "laptop")
    assert device_words(folder.vault, swapped) != device_words(folder.vault, bob.device)
    assert device_words(random_bytes(32), bob.device) != device_words(folder.vault, bob.device)


def test_requests_for_another_vault_and_junk_are_left_out_with_a_reason(folder):
    token, record = invited(Folder())
    junk = [asking(token, folder.someone("Bob")), ("j/x", b"CFSJOIN1"), ("j/y", b""), ("j/z", bytes(200_000))]
    found, left_out = read(folder, junk, [record])
    assert found == []
    assert [name for name, _ in left_out] == [name for name, _ in junk]


def test_asof_a_first_view_must_be_as_new_as_the_issuers(folder):
    """T-asof."""
    old = folder.seen_by(folder.anna)
    folder.admit("Carl", ADMIN)
    token, _ = invited(folder)
    check_first_view(token, folder.seen_by(folder.anna), lambda _: True)
    with pytest.raises(HostileStore, match="older"):
        check_first_view(token, old, lambda _: True)
    with pytest.raises(HostileStore, match="older"):
        check_first_view(token, folder.seen_by(folder.anna), lambda _: False)
    mine = LogHead(bytes(16), 9, bytes(32))
    with pytest.raises(HostileStore, match="older"):
        check_first_view(token, folder.seen_by(folder.anna), lambda anchor: anchor != mine, mine)


def test_wrong_vault_is_not_the_one_of_the_token(folder):
    """T-wrong-vault."""
    token, _ = invited(folder)
    other = Folder()
    with pytest.raises(HostileStore, match="another vault"):
        check_first_view(token, other.seen_by(other.anna), lambda _: True)


def test_the_secret_of_a_token_is_not_shown(folder):
    """T-repr."""
    token, record = invited(folder)
    for text in (repr(token), repr(record), str(token)):
        assert token.secret.hex() not in text
        assert repr(token.secret)[2:-1] not in text


def test_words_of_a_view_change_with_anything_seen(folder):
    """T-fork, the words people compare."""
    head = LogHead(bytes(16), 3, bytes(32))
    frontier = folder.seen_by(folder.anna).frontier()
    words = view_words(folder.vault, frontier, [head])
    assert len(words) == 9
    others = [
        view_words(folder.vault, frontier, []),
        view_words(folder.vault, [random_bytes(32)], [head]),
        view_words(folder.vault, frontier, [LogHead(bytes(16), 4, bytes(32))]),
        view_words(random_bytes(32), frontier, [head]),
    ]
    assert words not in others
    assert words == view_words(folder.vault, list(reversed(frontier)), [head])


def test_a_request_of_somebody_in_is_left_out_silently(folder):
    token, record = invited(folder)
    assert read(folder, [asking(token, folder.anna)], [record]) == ([], [])
