"""A vault in use while its folder is away: real mounts, by the commands; then everything arrives."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.people import Person
from tests.cli.test_group_mounts import Group
from tests.patience import until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

MIB = 1 << 20
PLAN, OTHER = os.urandom(3 * MIB), os.urandom(2 * MIB)


@pytest.fixture
def group(tmp_path: Path, person: Callable[[str], Person]) -> Iterator[Group]:
    """Anna, who has written two large files, and Bob, who has read none of them."""
    made = Group(tmp_path, person)
    point = made.point("anna")
    (point / "work").mkdir()
    (point / "work/plan").write_bytes(PLAN)
    made.sync("anna")
    (point / "other").write_bytes(OTHER)
    made.sync("anna")
    made.let_in("bob", "writer")
    yield made
    made.end()


def write_until_refused(point: Path) -> int:
    """The errno that a program gets which writes on and on."""
    for number in range(100):
        try:
            (point / f"filler{number}").write_bytes(os.urandom(MIB))
        except OSError as err:
            return err.errno or 0
    return 0


def test_a_vault_is_used_without_its_folder_and_all_of_it_arrives_when_that_is_back(group: Group) -> None:
    bob, point, aside = group.people["bob"], group.point("bob"), group.tmp_path / "aside"
    pinned = bob.user("pin", "team", "work", "--wait")
    assert "All here" in pinned.out, pinned
    assert bob.user("umount", "team").code == 0

    group.store.rename(aside)
    group.mount("bob")
    assert (point / "work/plan").read_bytes() == PLAN
    with pytest.raises(OSError, match=os.strerror(errno.ENETUNREACH)):
        (point / "other").read_bytes()
    (point / "work/note").write_text("written on the train")
    with (point / "work/plan").open("r+b") as file:
        file.write(b"changed on the train")
    status = group.status("bob")
    assert status["store_state"] == "unreachable"
    assert status["offline"].startswith("The store has not answered for ")
    assert status["pending_bytes"] > 0
    assert bob.user("umount", "team").code == 0

    assert bob.user("mount", "team", point, "-o", "spool_size=8M").code == 0
    assert (point / "work/note").read_text() == "written on the train"
    assert write_until_refused(point) == errno.ENOSPC
    assert "spool_size is 8.0 MiB" in group.status("bob")["no_room"]
    assert (point / "work/plan").read_bytes() == b"changed on the train" + PLAN[20:]

    aside.rename(group.store)
    group.sync("bob")
    until(lambda: group.status("bob")["no_room"] == "")
    (point / "after").write_text("room again")
    group.sync("bob")
    assert group.status("bob")["offline"] == ""
    assert (point / "other").read_bytes() == OTHER
    group.sees("anna", "work/note", "written on the train")
    group.sees("anna", "after", "room again")
    anna = group.point("anna") / "work/plan"
    until(lambda: anna.read_bytes() == b"changed on the train" + PLAN[20:])
    assert (group.point("anna") / "filler0").stat().st_size == MIB
