"""Rules about the source of the whole program: T-random-lint, T-nocms."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cryptfs"
MODULES = sorted(PACKAGE.rglob("*.py"))
ONE_SOURCE = PACKAGE / "crypto" / "keys.py"

RANDOM_MODULES = {"random", "secrets", "uuid"}
RANDOM_OF_OS = {"urandom", "getrandom"}
RANDOM_FILES = {"/dev/random", "/dev/urandom"}
FORBIDDEN_MODULES = {
    "cryptography.hazmat.primitives.serialization.pkcs7",  # RSA PKCS#1 v1.5 and unauthenticated CBC
    "pickle",
    "marshal",
    "shelve",
}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def seeded(tree: ast.AST) -> bool:
    """Whether `random` serves only as numbers that repeat: the type `random.Random`, made from a seed."""
    made = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "random.Random"]
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "random"]
    return all(call.args for call in made) and all(use.attr == "Random" for use in used)


def random_uses(tree: ast.AST) -> set[str]:
    names = set(imports(tree))
    found = {name for name in names if name.split(".")[0] in RANDOM_MODULES}
    if seeded(tree):
        found -= {"random"}
    found |= {f"os.{name}" for name in RANDOM_OF_OS if f"os.{name}" in names}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in RANDOM_OF_OS}
    return found | {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in RANDOM_FILES}


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_random_lint_only_keys_asks_for_randomness(module: Path) -> None:
    uses = random_uses(ast.parse(module.read_text()))
    assert uses == ({"urandom", "random"} if module == ONE_SOURCE else set())


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nocms_no_import_of_what_is_known_to_be_unsafe(module: Path) -> None:
    assert not FORBIDDEN_MODULES & set(imports(ast.parse(module.read_text())))


WAYS = [
    "import random\nrandom.random()",
    "import random\nrandom.Random()",
    "import random\nrandom.SystemRandom()",
    "from random import Random",
    "from secrets import token_bytes",
    "import os\nos.urandom(1)",
    "from os import urandom",
    "import os\nos.getrandom(1)",
    "import uuid",
    "open('/dev/urandom')",
]


@pytest.mark.parametrize("source", WAYS)
def test_random_lint_sees_every_way_to_ask(source: str) -> None:
    assert random_uses(ast.parse(source))


def test_random_lint_lets_simulations_repeat_themselves() -> None:
    assert not random_uses(ast.parse("import random\ndef f(rng: random.Random): pass\nrandom.Random(7)"))


def test_crypto_stands_on_nothing_and_touches_no_disk_or_clock() -> None:
    for module in (PACKAGE / "crypto").glob("*.py"):
        for name in imports(ast.parse(module.read_text())):
            if name.startswith("cryptfs"):
                assert name.startswith(("cryptfs.crypto", "cryptfs.errors")), f"{module.name} imports {name}"
            assert name.split(".")[0] not in {"time", "pathlib", "io", "socket", "trio", "logging"}, module.name
        for node in ast.walk(ast.parse(module.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id in {"open", "print", "input"}), module.name
            assert not (isinstance(called, ast.Attribute) and called.attr in {"now", "utcnow", "today"}), module.name
