"""Each rule of the tree, broken once in the database, is found; a tree that operations made keeps them all."""

import random
from pathlib import Path

import pytest

from cryptfs.tree.replica import Replica
from cryptfs.tree.soundness import flaws
from tests.simulation.tree_device import LocalUser, check_tree

VAULT = bytes(32)
KEY = bytes(range(32))


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    """A tree of random operations, with directories and a trash."""
    replica = Replica.open(str(tmp_path / "replica.db"), KEY, VAULT)
    user = LocalUser(replica, random.Random(7))
    for _ in range(120):
        user.act()
    check_tree(replica)
    replica.commit()
    return replica


def found(replica: Replica) -> set[str]:
    replica.rows.flush()
    replica.commit()
    beside = replica.beside()
    try:
        return {flaw.text for flaw in flaws(beside)}
    finally:
        beside.close()


def test_a_tree_that_operations_made_is_sound(replica: Replica) -> None:
    assert found(replica) == set()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM node WHERE st = (SELECT min(st) FROM dirent WHERE kind = 0)", "leads to nothing"),
        ("UPDATE dirent SET kind = 2 WHERE st = (SELECT min(st) FROM dirent WHERE kind = 0)", "leads to nothing"),
        ("UPDATE dirent SET parent = 999999 WHERE st = (SELECT min(st) FROM dirent)", "lies in something"),
        ("UPDATE dirent SET name = x'2e2e' WHERE st = (SELECT min(st) FROM dirent)", "has a name that no file"),
        ("UPDATE dirent SET name = x'612f62' WHERE st = (SELECT min(st) FROM dirent)", "has a name that no file"),
        (
            "INSERT INTO dirent SELECT 1, x'7a7a7a', st, kind, lver FROM dirent WHERE kind = 0 LIMIT 1",
            "has two links made by one operation",
        ),
        (
            "INSERT INTO dirent SELECT 1, x'7a7a7a', st, kind, x'00' FROM dirent WHERE kind = 1 LIMIT 1",
            "is a directory with two parents",
        ),
        ("UPDATE node SET gone_l = 3 WHERE st = (SELECT min(st) FROM dirent WHERE kind = 0)", "is in the tree and in"),
        (
            "UPDATE dirent SET parent = st WHERE st = (SELECT min(st) FROM dirent WHERE kind = 1)",
            "is a directory that cannot be reached",
        ),
        ("UPDATE node SET content = x'0011' WHERE st = (SELECT min(st) FROM dirent WHERE kind = 0)", "is a file whose"),
        ("INSERT INTO alias VALUES(777777, 888888), (888888, 777777)", "is another name for something"),
        ("INSERT INTO alias VALUES(777777, 666666)", "is another name for something"),
    ],
)
def test_each_broken_rule_is_found(replica: Replica, damage: str, said: str) -> None:
    replica.db.run(damage)
    assert any(text.startswith(said) for text in found(replica))
