"""The order of the house (docs/developing.md): who may import whom, how long things get, what stands where."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cryptfs"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOOR = {"": 0, "crypto": 1, "format": 2, "group": 3, "tree": 3, "store": 3, "vault": 4, "mount": 5, "cli": 6}
"""A room imports from itself and from lower floors, never from its own floor's other rooms, never upwards."""

PLACES = {
    "trio": ("vault/", "mount/", "cli/"),
    "pyfuse3": ("mount/fuse.py", "mount/invalidation.py", "mount/daemon.py", "mount/loop.py"),
    "click": ("cli/",),
    "rich": ("cli/",),
    "apsw": ("tree/", "vault/", "store/drive/"),
    "googleapiclient": ("store/drive/",),
    "google": ("store/drive/",),
    "google_auth_httplib2": ("store/drive/",),
    "google_auth_oauthlib": ("store/drive/",),
    "httplib2": ("store/drive/",),
    "platformdirs": ("vault/home.py",),
    "cryptography": ("crypto/",),
    "shamir_mnemonic": ("crypto/",),
    "segno": ("cli/",),
    "pkcs11": ("vault/smartcard.py",),
}
"""Third-party package: beginnings of the paths below cryptfs/ that may import it."""

PURE_ROOMS = ("crypto", "format", "group", "tree")
NOT_PURE = {"io", "pathlib", "random", "shutil", "socket", "subprocess", "tempfile", "threading", "time"}

MODULE_LINES = 450
FUNCTION_LINES = 80

# Written in pieces, or this very file would hold them.
REGISTRIES = ("py" + "pi.org", "python" + "hosted", "deb." + "debian", "npm" + "js", "crates" + ".io")
MACHINE_PATHS = ("/wo" + "rk/", "/ro" + "ot/", "/fa" + "rm/", ".py" + "env/")

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text(), str(module))


def room_of(module: Path) -> str:
    parts = module.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports_of(module: Path) -> Iterator[str]:
    """Full names of all modules that `module` imports anywhere, in functions too."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import hides where it goes"
            assert node.module is not None
            yield node.module
            if node.module == "cryptfs":
                yield from (f"cryptfs.{alias.name}" for alias in node.names)


def called(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


@each_module
def test_a_room_never_looks_up(module: Path) -> None:
    if module.name == "__main__.py":
        return  # the front door, above all floors
    own = room_of(module)
    assert own in FLOOR, f"{own} has no floor"
    for name in imports_of(module):
        parts = name.split(".")
        if parts[0] != "cryptfs":
            continue
        other = parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""
        assert other == own or FLOOR[other] < FLOOR[own], f"{own} imports {name}"


@each_module
def test_foreign_packages_stay_in_their_rooms(module: Path) -> None:
    place = str(module.relative_to(PACKAGE))
    for name in imports_of(module):
        allowed = PLACES.get(name.split(".")[0])
        assert allowed is None or place.startswith(allowed), f"{place} imports {name}"


@each_module
def test_pure_rooms_have_no_clock_no_disk_no_network(module: Path) -> None:
    if room_of(module) not in PURE_ROOMS:
        return
    impure = NOT_PURE.intersection(name.split(".")[0] for name in imports_of(module))
    # The one source of chance; tests/crypto/test_crypto_lint.py keeps it the only one.
    assert impure <= ({"random"} if module.parts[-2:] == ("crypto", "keys.py") else set())
    for node in ast.walk(tree_of(module)):
        assert called(node) not in {"open", "print", "input"}
        assert not called(node).endswith((".now", ".utcnow", ".today"))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
            assert node.attr == "urandom", f"os.{node.attr}"


@each_module
def test_a_module_fits_on_a_few_screens(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= MODULE_LINES


@each_module
def test_a_function_fits_on_one_screen(module: Path) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES, node.name


@each_module
def test_a_module_says_its_idea_and_what_it_offers(module: Path) -> None:
    tree = tree_of(module)
    assert ast.get_docstring(tree)
    if module.name.startswith("_") or module == PACKAGE / "errors.py":
        return  # private, or public to the last line
    names = {target.id for node in tree.body for target in targets_of(node) if isinstance(target, ast.Name)}
    assert "__all__" in names


def targets_of(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def mapped() -> dict[str, list[str]]:
    """Names of modules, `*` allowed, that docs/architecture.md gives for each room; `vault/` has a table of its own."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    house = text.partition("## The house")[2].partition("\n## ")[0]
    floors, _, inside = house.partition("What `vault/` is made of:")
    rooms = {
        room: re.findall(r"`([\w*]+\.py)`", row)
        for row in floors.splitlines()
        for room in re.findall(r"\A\| \d \| `(\w+)/`", row)
    }
    return rooms | {"vault": re.findall(r"`([\w*]+\.py)`", inside)}


def test_the_map_of_the_house_has_every_module_and_no_other() -> None:
    for room, names in mapped().items():
        there = [module.name for module in MODULES if room_of(module) == room and module.name != "__init__.py"]
        assert [name for name in names if not any(fnmatch(one, name) for one in there)] == [], f"{room}/: gone"
        if room != "cli":  # one module a group of commands, as its tables say
            missing = [one for one in there if not any(fnmatch(one, name) for name in names)]
            assert missing == [], f"{room}/: put them into docs/architecture.md"
    assert mapped().keys() == FLOOR.keys() - {""}


@each_module
def test_names_say_what_a_thing_is(module: Path) -> None:
    vague = re.compile(r"(?:\A|_)(?:utils?|common|misc|manager|helpers?)(?:_|\Z)|Manager|Helper|Utils")
    for part in module.relative_to(PACKAGE).with_suffix("").parts:
        assert not vague.search(part)
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert not vague.search(node.name)


@each_module
def test_validation_never_uses_assert(module: Path) -> None:
    assert not [node.lineno for node in ast.walk(tree_of(module)) if isinstance(node, ast.Assert)]


@each_module
def test_a_broad_except_never_swallows(module: Path) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ExceptHandler) and (
            node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
        ):
            assert any(isinstance(inner, ast.Raise) for inner in ast.walk(node)), f"line {node.lineno}"


@each_module
def test_only_the_entry_points_exit(module: Path) -> None:
    entry = module in {PACKAGE / "cli/main.py", PACKAGE / "cli/admin.py"}
    exits = [
        node
        for node in ast.walk(tree_of(module))
        if called(node) in {"sys.exit", "exit", "quit", "os.abort"}
        or (isinstance(node, ast.Raise) and node.exc is not None and "SystemExit" in ast.unparse(node.exc))
    ]
    assert len(exits) == (1 if entry else 0)


def committed_files() -> list[Path]:
    """What git has, or everything where this is no clone (an unpacked archive)."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode == 0:
        return [path for name in listing.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and not {".git", ".venv"} & set(path.parts)]


def test_no_committed_file_names_a_registry_or_a_path_of_one_machine() -> None:
    paths = "|".join(rf"(?<![\w.}}]){re.escape(path)}" for path in MACHINE_PATHS)  # absolute ones: data/… is none
    forbidden = re.compile("|".join([*map(re.escape, REGISTRIES), paths]).encode())
    found = [
        f"{path.relative_to(ROOT)}: {hit[0]!r}"
        for path in committed_files()
        for hit in [forbidden.search(path.read_bytes())]
        if hit
    ]
    assert not found


def test_documents_that_are_referred_to_exist() -> None:
    named = re.compile(r"docs/[a-z-]+\.md")
    found = {name for path in committed_files() if path.suffix == ".py" for name in named.findall(path.read_text())}
    missing = [name for name in sorted(found) if not (ROOT / name).is_file()]
    assert not missing


def test_sections_that_are_referred_to_exist() -> None:
    named = re.compile(r'(docs/[a-z-]+\.md)[,`]*\s+\(?"([^"]+)"')
    # A number before the title, and what follows it in brackets, need not be repeated.
    titles = {
        f"docs/{document.name}": re.findall(r"^#+ (?:[\d.]+ )?(.*?)(?: \(.*)?$", document.read_text(), re.MULTILINE)
        for document in (ROOT / "docs").glob("*.md")
    }
    missing = [
        f"{path.relative_to(ROOT)}: {document}, {section}"
        for path in committed_files()
        if path.suffix == ".py"
        for document, section in named.findall(re.sub(r"\n\s*#? *", " ", path.read_text()))
        if section not in titles.get(document, ())
    ]
    assert not missing


def test_no_lock_file_that_names_hosts_is_committed() -> None:
    assert not {"uv.lock", "pylock.toml"} & {path.name for path in committed_files()}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_every_pinned_package_has_a_hash_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index" not in text
    for requirement in re.split(r"\n(?=\w)", text.strip()):
        assert re.match(r"[\w.-]+==[\w.]+( ; .*)? \\\n +--hash=sha256:[0-9a-f]{64}", requirement), requirement[:80]


def test_the_lock_files_cover_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = {
        "requirements.lock": project["project"]["dependencies"] + project["dependency-groups"]["dev"],
        "requirements-build.lock": project["build-system"]["requires"] + project["dependency-groups"]["build"],
    }
    for lock, requirements in asked.items():
        pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE))
        wanted = {re.split(r"[<>=!~; \[]", requirement)[0].lower() for requirement in requirements}
        assert wanted <= pinned
