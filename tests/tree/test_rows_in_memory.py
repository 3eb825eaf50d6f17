"""Rows that are written late, counted or remembered say at every moment what the tables would."""

import random
from pathlib import Path

import pytest

from cryptfs.format.operation import SET_MODE, SetAttr, SetXattr, Unlink, provisional_ino, provisional_op_id
from cryptfs.tree import ROOT_ST
from cryptfs.tree.ids import st_of_k
from tests.simulation.tree_device import LocalUser, check_tree, open_replica, state_of
from tests.simulation.tree_script import make_file, make_folder

NOW = 10**18


def test_a_node_changed_between_two_commits_is_there_after_the_next_start(tmp_path: Path) -> None:
    path = str(tmp_path / "replica")
    replica = open_replica(path)
    replica.apply_local(make_file(replica.ino_of(ROOT_ST), b"f"), 0, NOW)
    for k, mode in enumerate((0o600, 0o640, 0o400), 1):
        replica.apply_local(SetAttr(provisional_ino(0), SET_MODE, mode, 0, 0, 0), k, NOW)
    replica.close()
    again = open_replica(path)
    node = again.node(st_of_k(0))
    assert node is not None
    assert node.mode == 0o400
    again.close()


def test_what_was_never_written_is_taken_back() -> None:
    replica = open_replica()
    empty = state_of(replica)
    replica.apply_local(make_folder(replica.ino_of(ROOT_ST), b"d"), 0, NOW)
    replica.apply_local(make_file(provisional_ino(0), b"f"), 1, NOW)
    replica.pop_tentative()
    assert state_of(replica) == empty
    assert replica.node(st_of_k(0)) is None
    assert replica.lookup(ROOT_ST, b"d") is None


def test_a_name_that_was_absent_is_found_once_it_is_there_and_absent_once_it_is_gone() -> None:
    replica = open_replica()
    assert replica.lookup(ROOT_ST, b"f") is None
    replica.apply_local(make_file(replica.ino_of(ROOT_ST), b"f"), 0, NOW)
    assert replica.lookup(ROOT_ST, b"f") is not None
    first = (provisional_op_id(0),)
    replica.apply_local(Unlink(provisional_ino(0), first, first), 1, NOW)
    assert replica.lookup(ROOT_ST, b"f") is None
    replica.pop_tentative()
    replica.apply_local(make_file(replica.ino_of(ROOT_ST), b"f"), 2, NOW)
    assert replica.lookup(ROOT_ST, b"f") is not None


def test_the_first_extended_attribute_of_a_tree_is_seen(tmp_path: Path) -> None:
    path = str(tmp_path / "replica")
    replica = open_replica(path)
    replica.apply_local(make_file(replica.ino_of(ROOT_ST), b"f"), 0, NOW)
    assert replica.xattrs(st_of_k(0)) == []
    replica.apply_local(SetXattr(provisional_ino(0), b"user.a", b"1"), 1, NOW)
    assert replica.xattr(st_of_k(0), b"user.a") == b"1"
    replica.close()
    again = open_replica(path)
    assert again.xattrs(st_of_k(0)) == [b"user.a"]
    again.close()


def test_every_statement_about_nodes_sees_those_that_wait_to_be_written() -> None:
    replica = open_replica()
    replica.apply_local(make_file(replica.ino_of(ROOT_ST), b"f"), 0, NOW)
    assert replica.count_nodes() == 2
    for k, mode in enumerate((0o600, 0o640), 1):
        replica.apply_local(SetAttr(provisional_ino(0), SET_MODE, mode, 0, 0, 0), k, NOW)
        assert [row[2] for row in replica.all_rows("node")][1] == mode


@pytest.mark.parametrize("seed", range(8))
def test_counted_links_are_those_of_the_tables_after_every_act(seed: int) -> None:
    user = LocalUser(open_replica(), random.Random(seed))
    for _ in range(60):
        user.act()
        check_tree(user.replica)
