"""The real service is asked what every store is asked."""

from collections.abc import Iterable, Iterator

import pytest

from cryptfs.store import Call, Store
from cryptfs.store.drive.store import DriveStore
from tests.live.conftest import Live
from tests.store.test_conformance import *  # noqa: F403 - the very same tests
from tests.store.test_conformance import Subject

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]


@pytest.fixture(params=["My Drive", "shared drive"])
def subject(live: Live, request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Every client is of the first account; the two accounts meet in the questions."""
    parent = live.folder if request.param == "My Drive" else live.shared_drive
    if not parent:
        pytest.skip("no shared drive was named")
    folder = live.new_folder(parent)
    opened: list[Store] = []

    def another() -> Store:
        opened.append(DriveStore(live.a.access, folder))
        return opened[-1]

    def fill(keys: Iterable[str]) -> None:
        filler = DriveStore(live.a.access, folder)
        for key in keys:
            filler.put(key, b"x", Call())
        filler.close()

    yield Subject(another, fill, many=30)
    for one in opened:
        one.close()
    live.a.run(live.a.api.files().delete(fileId=folder, supportsAllDrives=True))
