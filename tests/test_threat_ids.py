"""Every attack has its test, or is said to be open (docs/threat-model.md, "Test ids")."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCUMENT = (TESTS.parent / "docs/threat-model.md").read_text()
SECTION = DOCUMENT.split("## Test ids")[1].split("\n## ")[0]
SETTLED, OPEN = SECTION.split("**Open**")
ID = re.compile(r"T-[a-z0-9]+(?:-[a-z0-9]+)*")


def all_tests() -> dict[str, str]:
    """Name and first words of every test, by file and name."""
    found = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[f"{path.relative_to(TESTS)} {node.name}"] = f"{node.name} {ast.get_docstring(node) or ''}"
    return found


ALL = all_tests()


def showing(ident: str) -> list[str]:
    """Tests whose name begins with the id, or that say it in their docstring."""
    words = ident[2:].replace("-", "_")
    shown = re.compile(rf"^test_{words}_|{ident}(?![-a-z0-9])")
    return [test for test, text in ALL.items() if shown.search(text)]


@pytest.mark.parametrize("ident", sorted(set(ID.findall(SETTLED))))
def test_every_settled_attack_has_a_test_of_its_name(ident: str) -> None:
    assert showing(ident)


def test_no_attack_is_settled_and_open() -> None:
    assert not set(ID.findall(SETTLED)) & set(ID.findall(OPEN))
    assert len(set(ID.findall(SECTION))) >= 95


def test_tests_that_rows_name_exist() -> None:
    """A name that ends in … stands for all that begin so."""
    names = {test.split()[1] for test in ALL}
    missing = [
        name
        for name in re.findall(r"\btest_[a-z0-9_]+…?", DOCUMENT)
        if not name.endswith("_") and f"{name}.py" not in DOCUMENT
        if name not in names and not (name.endswith("…") and any(one.startswith(name[:-1]) for one in names))
    ]
    assert missing == []
