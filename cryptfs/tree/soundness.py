"""Whether a tree keeps the rules that no operation, whoever signed it, may break (docs/replication.md, "Invariants").

Read from a connection of its own, so that it sees one state, and holds nobody up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptfs.tree.database import Database

__all__ = ["Flaw", "flaws"]

_KIND: Final = "SELECT d.st FROM dirent d LEFT JOIN node n ON n.st = d.st WHERE n.st IS NULL OR n.kind != d.kind"
_PARENT: Final = """SELECT d.st FROM dirent d LEFT JOIN node p ON p.st = d.parent
    WHERE p.st IS NULL OR p.kind != 1 OR p.gone_l IS NOT NULL"""
_NAME: Final = """SELECT st FROM dirent WHERE length(name) NOT BETWEEN 1 AND 255
    OR instr(name, x'2f') OR instr(name, x'00') OR name IN (x'2e', x'2e2e')"""
_TWICE: Final = "SELECT st FROM dirent GROUP BY st, lver HAVING count(*) > 1"
_PARENTS: Final = "SELECT st FROM dirent WHERE kind = 1 GROUP BY st HAVING count(*) > 1"
_TRASH: Final = """SELECT st FROM node n WHERE st != 1
    AND (gone_l IS NULL) != EXISTS (SELECT 1 FROM dirent d WHERE d.st = n.st)"""
_ADRIFT: Final = """WITH RECURSIVE seen(st) AS (
        SELECT 1 UNION SELECT d.st FROM seen s JOIN dirent d ON d.parent = s.st AND d.kind = 1)
    SELECT st FROM dirent WHERE kind = 1 AND st NOT IN seen"""
_CONTENT: Final = """SELECT st FROM node n WHERE kind = 0 AND content IS NOT NULL
    AND substr(content, 1, 8) != x'ffffffffffffffff' AND NOT EXISTS (SELECT 1 FROM content c WHERE c.op = n.content)"""
"""Contents that are not sealed yet bear provisional ids, and are described in the journal."""

_RULES: Final = (
    ("leads to nothing, or to something of another kind", _KIND),
    ("lies in something that is no directory, or is not there any more", _PARENT),
    ("has a name that no file can have", _NAME),
    ("has two links made by one operation", _TWICE),
    ("is a directory with two parents", _PARENTS),
    ("is in the tree and in the trash, or in neither", _TRASH),
    ("is a directory that cannot be reached from the root", _ADRIFT),
    ("is a file whose contents are described nowhere", _CONTENT),
)
"""What is said of the nodes that a question finds. The root is node 1."""
_ALIASES: Final = "SELECT old, new FROM alias"
_IS_NODE: Final = "SELECT 1 FROM node WHERE st = ?"


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the node `st`; 0: with the database itself."""

    st: int
    text: str


def flaws(db: Database) -> Iterator[Flaw]:
    """Everything that breaks a rule. Raises ReplicaDamaged if that cannot even be asked."""
    for (said,) in db.all("PRAGMA quick_check(1)"):
        if said != "ok":
            yield Flaw(0, "the local copy of the tree is damaged")
            return
    for text, question in _RULES:
        yield from (Flaw(int(st), text) for (st,) in db.all(question))
    aliases = {int(old): int(new) for old, new in db.all(_ALIASES)}
    for old in aliases:
        end, seen = old, {old}
        while (end := aliases.get(end, end)) in aliases and end not in seen:
            seen.add(end)
        if end in aliases or db.one(_IS_NODE, (end,)) is None:
            yield Flaw(old, "is another name for something that is not there")
