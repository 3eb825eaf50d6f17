"""What the folder looks like: the replica, the rules by which many writers' operations become one tree."""

from cryptfs.tree.replica import Head, Node, Notice, Replica
from cryptfs.tree.rows import Entry
from cryptfs.tree.schema import ROOT_ST, ReplicaDamaged
from cryptfs.tree.state import Author

__all__ = ["ROOT_ST", "Author", "Entry", "Head", "Node", "Notice", "Replica", "ReplicaDamaged"]
