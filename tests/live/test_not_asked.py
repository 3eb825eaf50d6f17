"""Says that the tests of this directory did not run, and how to run them."""

import os

import pytest

from tests.live.conftest import REASON, VARIABLE


def test_a_real_account_is_asked() -> None:
    if not os.environ.get(VARIABLE):
        pytest.skip(REASON)
