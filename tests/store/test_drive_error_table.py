"""The table "Google's answers" of docs/google-drive.md has a test for every row, and every reason in it is provoked."""

import re
from importlib import import_module
from pathlib import Path
from types import FunctionType

from cryptfs.store.drive import errors
from tests.store.test_drive_errors import ROWS

DOCUMENT = Path(__file__).parents[2] / "docs/google-drive.md"

TESTS = {
    "E1": ["store.test_drive_errors:test_a_revoked_login_wants_a_new_one_and_is_not_tried_again",
           "store.test_drive_errors:test_trouble_at_the_token_host_is_told_apart_from_a_dead_login",
           "cli.test_drive_vault:test_a_login_that_died_is_renewed_by_name"],
    "E2": ["store.test_drive_errors:test_trouble_at_the_token_host_is_told_apart_from_a_dead_login",
           "store.test_drive_errors:test_a_token_host_that_cannot_be_reached_is_a_matter_of_the_network"],
    "E3": ["store.test_drive_errors:test_each_refusal_is_told_in_two_lines",
           "store.test_drive_pace:test_a_request_to_slow_down_halves_the_rate_once_and_acceptance_wins_it_back"],
    "E4": ["store.test_drive_pace:test_ten_minutes_without_an_upload_are_the_cap_of_the_day"],
    "E5": ["vault.test_drive_states:test_each_trouble_has_its_word_and_its_advice_until_it_is_over"],
    "E6": ["store.test_drive_uploads:test_nothing_is_sent_to_a_full_account_before_it_has_room",
           "vault.test_drive_states:test_each_trouble_has_its_word_and_its_advice_until_it_is_over"],
    "E7": ["store.test_drive_errors:test_each_refusal_is_told_in_two_lines",
           "vault.test_drive_states:test_each_trouble_has_its_word_and_its_advice_until_it_is_over"],
    "E8": ["vault.test_drive_states:test_each_trouble_has_its_word_and_its_advice_until_it_is_over"],
    "E9": ["store.test_drive_errors:test_each_refusal_is_told_in_two_lines",
           "store.test_drive_uploads:test_ids_that_google_has_forgotten_are_minted_anew",
           "store.test_drive_owning:test_where_copying_is_forbidden_the_bytes_are_carried"],
    "E10": ["store.test_drive_errors:test_a_file_that_is_not_given_out_is_read_from_another_copy",
            "store.test_drive_errors:test_what_is_taken_for_harmful_comes_to_who_may_delete_it"],
    "E11": ["store.test_drive_uploads:test_an_expired_session_is_replaced_under_the_same_id",
            "store.test_drive_errors:test_a_vault_that_is_not_shared_any_more_is_gone",
            "store.test_drive_calls:test_what_drive_says_is_gone_is_gone"],
    "E12": ["store.test_drive_uploads:test_a_request_that_went_twice_makes_one_file",
            "store.test_drive_uploads:test_other_bytes_under_our_id_are_an_alarm_and_sent_again_as_another_file"],
    "E13": ["store.test_drive_errors:test_a_part_that_was_not_asked_for_is_no_answer"],
    "E14": ["store.test_drive_errors:test_a_broken_connection_is_tried_again",
            "store.test_drive_errors:test_a_page_instead_of_an_answer_is_tried_again",
            "store.test_drive_errors:test_an_answer_drop_by_drop_ends_with_the_time_of_the_call",
            "store.test_drive_errors:test_nobody_there_is_a_matter_of_the_network"],
    "E15": ["store.test_drive_errors:test_each_refusal_is_told_in_two_lines",
            "store.test_drive_sharing:test_what_a_domain_forbids_is_said"],
    "E16": ["store.test_drive_errors:test_each_refusal_is_told_in_two_lines"],
}  # fmt: skip
"""By row: `room.module:function` below tests/, each over HTTP but the two of the pace."""

ELSEWHERE = {"fileIdNotUsable", "cannotCopyFile", "invalid_grant"}
"""Reasons that the emulator gives by itself in tests named above."""


def rows() -> dict[str, str]:
    found = re.findall(r"^\| (E\d+) \|(.*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(found) == len(dict(found)), "two rows have one number"
    return dict(found)


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    assert rows().keys() == TESTS.keys()
    for names in TESTS.values():
        for name in names:
            module, _, function = name.partition(":")
            assert isinstance(getattr(import_module(f"tests.{module}"), function, None), FunctionType), name


def test_every_reason_is_in_the_table_and_provoked() -> None:
    answers = " ".join(row.partition("|")[0] for row in rows().values())
    written = set(re.findall(r"`([a-z]+[A-Z]\w+|[A-Z_]{9,}|invalid_grant)`", answers))
    provoked = {row.reason for row in ROWS} | ELSEWHERE
    assert written - provoked == set()
    assert errors._REASONS.keys() - written == set()
