"""How a person names a store."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptfs.errors import UsageError
from cryptfs.store import Call, DirectoryStore, MemoryStore, StoreUrl, open_store, parse_store_url


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/mnt/vault", "/mnt/vault"),
        ("file:///mnt/vault", "/mnt/vault"),
        ("file://localhost/mnt/vault", "/mnt/vault"),
        ("file:/mnt/vault", "/mnt/vault"),
        ("file:///mnt/my%20vault%23", "/mnt/my vault#"),
        ("/mnt/my%20vault", "/mnt/my%20vault"),
        ("vault", "{cwd}/vault"),
        ("./gdrive:x", "{cwd}/gdrive:x"),
        ("~/vault", "{home}/vault"),
        ("C:vault", "{cwd}/C:vault"),
    ],
)
def test_a_folder_can_be_named_as_path_or_address(
    text: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse_store_url(text) == StoreUrl("file", place.format(cwd=tmp_path, home="/home/somebody"))


@pytest.mark.parametrize(
    "text", ["", "file:vault", "file://server/vault", "file:///vault?x=1", "file:///vault#x", "ftp://x/y", "nonsense:x"]
)
def test_what_names_no_store_is_refused_with_advice(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_store_url(text)
    assert "file:///" in caught.value.advice


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_an_address_written_down_means_the_same_when_read_again(text: str) -> None:
    for url in (StoreUrl("file", f"/{text}"), StoreUrl("memory", text)):
        assert parse_store_url(str(url)) == url


def test_a_path_that_is_not_text_survives(tmp_path: Path) -> None:
    url = StoreUrl("file", str(tmp_path / "\udcff"))
    assert parse_store_url(str(url)) == url


def test_opening_a_store_touches_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "not there"))
    assert isinstance(store, DirectoryStore)
    assert list(tmp_path.iterdir()) == []
    store.close()


def test_memory_is_a_new_store_each_time() -> None:
    store = open_store("memory:")
    assert isinstance(store, MemoryStore)
    store.put("genesis", b"g", Call())
    assert list(open_store("memory:").list("", Call())) == []
