"""What the folder looks like: the replica, the rules by which many writers' operations become one tree."""

from cryptfs.tree.applied import Head
from cryptfs.tree.coalesce import Coalesced, Group, Pending, coalesce
from cryptfs.tree.finalise import Batch, finalise, make_batch, settle
from cryptfs.tree.integrate import Diff, NeedsRebuild
from cryptfs.tree.replica import Node, Notice, Replica
from cryptfs.tree.rows import Entry
from cryptfs.tree.schema import ROOT_ST, ReplicaDamaged
from cryptfs.tree.segment import IntegratedSegment

__all__ = [
    "ROOT_ST",
    "Batch",
    "Coalesced",
    "Diff",
    "Entry",
    "Group",
    "Head",
    "IntegratedSegment",
    "NeedsRebuild",
    "Node",
    "Notice",
    "Pending",
    "Replica",
    "ReplicaDamaged",
    "coalesce",
    "finalise",
    "make_batch",
    "settle",
]
