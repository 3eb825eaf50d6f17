"""The checked-in vectors are what their script makes."""

import pytest
from crypto_vectors import load, maker


@pytest.mark.parametrize("name", sorted(maker().MAKERS))
def test_vector_file_is_what_the_script_makes(name: str) -> None:
    assert maker().MAKERS[name]() == load(name)
