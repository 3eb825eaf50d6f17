"""Real programs do their work on the mount, and everything is the same, byte for byte, after the local state is lost.

The last tests of the module look at all that the programs left: rebuilt from the store alone, and without a readable
word in the store or in the local state. The big version of this is big_tree.py.
"""

import functools
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
from rawcalls import EXCHANGE, renameat2
from snapshot import differences, find_plaintext, self_test, snapshot
from treemaker import grow

SEED = 77
FILES = 400
HOUR = 3600 * 10**9
PLANTS = [
    "Rumpelstilzchen-Kontoauszug",
    "Steuererklaerung-XVII",
    "GeheimerOrdner-Wolpertinger",
    "sqlite-Murmeltier-Saldo",
    "git-Siebenschlaefer-Diff",
]
TOOLS = ["cp", "diff", "tar", "rsync", "git", "gcc", "make"]


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"install {' '.join(missing)}: these tests run them")
    if missing:
        pytest.skip(f"needs {' '.join(missing)}")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that is copied onto the mount: on a plain file system."""
    path = tmp_path_factory.mktemp("origin")
    grow(path, SEED, FILES, PLANTS[0].encode())
    return path


@pytest.fixture(scope="module")
def work(place) -> Path:
    """Where the module's programs leave their work for the last tests."""
    path = place.root / "work"
    path.mkdir()
    return path


def run(*command: str | Path, cwd: Path | None = None, okay: tuple[int, ...] = (0,)) -> str:
    environ = {
        **os.environ,
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.org",
        "LC_ALL": "C.UTF-8",
    }
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode in okay, f"{command}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_cp_a_then_diff_r(origin: Path, work: Path, target: Path) -> None:
    run("cp", "-a", f"{origin}/.", work / "copied")
    run("diff", "-r", "--no-dereference", "--exclude=*", origin, work / "copied")
    assert differences(snapshot(origin), snapshot(work / "copied")) == []


def test_tar_extract_then_compare(origin: Path, work: Path, tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "origin.tar"
    run("tar", "--warning=no-timestamp", "--xattrs", "--format=posix", "-cf", archive, "-C", origin, ".")
    (work / "untarred").mkdir()
    run("tar", "--warning=no-timestamp", "--xattrs", "-xpf", archive, "-C", work / "untarred")
    run("tar", "--warning=no-timestamp", "-df", archive, "-C", work / "untarred")
    assert differences(snapshot(origin), snapshot(work / "untarred")) == []
    run(
        "tar",
        "--warning=no-timestamp",
        "--xattrs",
        "--format=posix",
        "-cf",
        tmp_path / "again.tar",
        "-C",
        work / "untarred",
        ".",
    )
    run("tar", "--warning=no-timestamp", "-df", tmp_path / "again.tar", "-C", origin)


def test_rsync_twice_has_nothing_to_do_the_second_time(origin: Path, work: Path, target: Path) -> None:
    # -A as well as soon as ACLs are supported.
    command = ["rsync", "-aHX", "--checksum", "--itemize-changes", f"{origin}/", f"{work}/synced/"]
    run(*command)
    assert run(*command) == ""
    assert differences(snapshot(origin), snapshot(work / "synced")) == []
    run("rsync", "-aHX", "--checksum", "--delete", f"{work}/synced/", f"{target}/back/")
    assert differences(snapshot(origin), snapshot(target / "back")) == []


def test_rsync_inplace_append_and_delete(origin: Path, target: Path) -> None:
    (target / "in").mkdir()
    run("rsync", "-a", f"{origin}/", f"{target}/out/")
    victim = next(path for path in sorted((target / "out").rglob("*")) if path.is_file() and path.stat().st_size > 5000)
    with victim.open("r+b") as file:
        file.truncate(3000)
    run("rsync", "-a", "--append-verify", "--inplace", "--delete", f"{origin}/", f"{target}/out/")
    assert victim.read_bytes() == (origin / victim.relative_to(target / "out")).read_bytes()


def test_git_from_first_commit_to_gc_and_local_clone(origin: Path, work: Path, target: Path) -> None:
    repo = work / "repo"
    run("git", "init", "-q", "-b", "main", repo)
    for number in range(30):
        (repo / f"file{number}.txt").write_text(f"{PLANTS[4]} {number}\n" * 50)
    run("git", "add", ".", cwd=repo)
    run("git", "commit", "-q", "-m", "first", cwd=repo)
    for number in range(5):
        (repo / f"file{number}.txt").write_text(f"changed {number}\n")
        run("git", "commit", "-q", "-a", "-m", f"change {number}", cwd=repo)
    run("git", "checkout", "-q", "-b", "side", "HEAD~2", cwd=repo)
    (repo / "side.txt").write_text("side")
    run("git", "add", "-A", cwd=repo)
    run("git", "commit", "-q", "-m", "side", cwd=repo)
    run("git", "merge", "-q", "-m", "merge", "main", cwd=repo)
    run("git", "gc", "-q", "--prune=now", cwd=repo)
    run("git", "fsck", "--full", "--strict", cwd=repo)
    assert run("git", "status", "--porcelain", cwd=repo) == ""
    run("git", "clone", "-q", "--local", repo, work / "clone")
    run("git", "fsck", "--full", "--strict", cwd=work / "clone")
    run("git", "clone", "-q", "--no-hardlinks", repo, work / "clone2")
    assert (work / "clone/side.txt").read_text() == (work / "clone2/side.txt").read_text() == "side"
    run("git", "worktree", "add", "-q", target / "tree", "main", cwd=repo)
    run("git", "worktree", "remove", target / "tree", cwd=repo)


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal", "memory"])
def test_sqlite_in_every_journal_mode(work: Path, target: Path, mode: str) -> None:
    path = work / f"{mode}.db"
    base = sqlite3.connect(path, isolation_level=None)
    assert base.execute(f"PRAGMA journal_mode={mode}").fetchone()[0] == mode
    base.execute("CREATE TABLE account(id INTEGER PRIMARY KEY, who TEXT, cents INTEGER)")
    for start in range(0, 1000, 100):
        base.execute("BEGIN")
        base.executemany("INSERT INTO account VALUES(?,?,?)", [(start + n, f"{PLANTS[3]} {n}", n) for n in range(100)])
        base.execute("COMMIT")
    base.execute("BEGIN")
    base.execute("UPDATE account SET cents = cents + 1")
    base.execute("ROLLBACK")
    second = sqlite3.connect(path, isolation_level=None)
    base.execute("BEGIN IMMEDIATE")
    base.execute("UPDATE account SET cents = 0 WHERE id < 10")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        second.execute("PRAGMA busy_timeout=0").connection.execute("BEGIN IMMEDIATE")
    base.execute("COMMIT")
    assert second.execute("SELECT count(*), sum(cents) FROM account").fetchone() == (1000, 49_500 - 45)
    second.close()
    base.execute("DELETE FROM account WHERE id % 3 = 0")
    base.execute("VACUUM")
    assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    base.close()
    again = sqlite3.connect(path)
    assert again.execute("SELECT count(*) FROM account").fetchone() == (666,)
    assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again.close()


def test_sqlite_survives_its_process(work: Path, target: Path) -> None:
    """Killed in the middle of a transaction: the hot journal is rolled back by the next reader."""
    path = work / "killed.db"
    code = (
        "import sqlite3,os,sys,signal\n"
        "b=sqlite3.connect(sys.argv[1],isolation_level=None)\n"
        "b.execute('CREATE TABLE t(x)')\n"
        "b.execute('BEGIN');b.executemany('INSERT INTO t VALUES(?)',[(n,) for n in range(500)]);b.execute('COMMIT')\n"
        "b.execute('PRAGMA cache_size=1');b.execute('BEGIN')\n"
        "b.executemany('UPDATE t SET x=? WHERE x=?',[('y'*500,n) for n in range(500)])\n"
        "os.kill(os.getpid(),signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    base = sqlite3.connect(path)
    assert base.execute("SELECT count(*), sum(x) FROM t").fetchone() == (500, 499 * 250)
    assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    base.close()


def test_c_project_with_make(work: Path, target: Path) -> None:
    project = work / "project"
    (project / "src").mkdir(parents=True)
    names = [f"part{number}" for number in range(6)]
    for name in names:
        (project / f"src/{name}.c").write_text(f"int {name}(void) {{ return 1; }}\n")
    calls = " + ".join(f"{name}()" for name in names)
    heads = "".join(f"int {name}(void);\n" for name in names)
    (project / "src/main.c").write_text(
        f'#include <stdio.h>\n{heads}int main(void) {{ printf("%d\\n", {calls}); return 0; }}\n'
    )
    objects = " ".join(f"src/{name}.o" for name in [*names, "main"])
    rules = [
        "all: prog",
        "prog: lib.a src/main.o\n\t$(CC) -o $@ src/main.o lib.a",
        f"lib.a: {objects}\n\tar rcs $@ {objects}",
        ".c.o:\n\t$(CC) -c -o $@ $<",
        ".SUFFIXES: .c .o",
    ]
    (project / "Makefile").write_text("\n".join(rules) + "\n")
    run("make", "-j2", cwd=project)
    assert run(project / "prog") == "6\n"
    assert "up to date" in run("make", cwd=project) or "Nothing to be done" in run("make", cwd=project)
    (project / "src/part0.c").write_text("int part0(void) { return 10; }\n")
    run("make", cwd=project)
    assert run(project / "prog") == "15\n"


def test_python_venv(work: Path, target: Path) -> None:
    venv.EnvBuilder(symlinks=True, with_pip=False).create(work / "venv")
    code = "import sys, json, sqlite3; print(sys.prefix != sys.base_prefix)"
    assert run(work / "venv/bin/python", "-c", code) == "True\n"
    module = work / "venv" / "module.py"
    module.write_text("VALUE = 7\n")
    for _ in range(2):
        assert run(work / "venv/bin/python", "-c", "import module; print(module.VALUE)", cwd=work / "venv") == "7\n"
    assert list((work / "venv/__pycache__").glob("module.*.pyc"))


def save_in_place(path: Path, data: bytes) -> None:
    """nano, ed: truncate and write."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(fd, data)
    os.close(fd)


def save_vim(path: Path, data: bytes) -> None:
    """backupcopy=auto: rename to a backup, write anew, fsync, copy the mode, drop the backup; a swap file beside it."""
    swap, backup = path.with_name(f".{path.name}.swp"), path.with_name(f"{path.name}~")
    fd = os.open(swap, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.write(fd, b"b0VIM 9.0" + bytes(4087))
    mode = path.stat().st_mode
    probe = path.with_name("4913")
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, mode))
    os.chown(probe, path.stat().st_uid, path.stat().st_gid)
    probe.unlink()
    path.rename(backup)
    new = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(new, data)
    os.fsync(new)
    os.fchmod(new, mode & 0o7777)
    os.close(new)
    backup.unlink()
    os.close(fd)
    swap.unlink()


def save_emacs(path: Path, data: bytes) -> None:
    """A lock symlink, the old file kept as name~, the new one written in its place."""
    lock = path.with_name(f".#{path.name}")
    lock.symlink_to("user@host.123:456")
    path.rename(path.with_name(f"{path.name}~"))
    with path.open("xb") as file:
        file.write(data)
        os.fsync(file.fileno())
    lock.unlink()


def save_gedit(path: Path, data: bytes) -> None:
    """GIO: hidden temporary file, mode and xattrs copied, fsync, rename over."""
    draft = path.with_name(".goutputstream-AB12CD")
    with draft.open("xb") as file:
        file.write(data)
        os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
        for name in os.listxattr(path):
            os.setxattr(file.fileno(), name, os.getxattr(path, name))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def save_libreoffice(path: Path, data: bytes) -> None:
    """A lock file, a temporary file, and the bytes copied over the old ones in place, then truncated."""
    lock = path.with_name(f".~lock.{path.name}#")
    lock.write_bytes(b",user,host,;")
    draft = path.with_name("lu1234abcd.tmp")
    draft.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    os.lockf(fd, os.F_TLOCK, 0)
    for at in range(0, len(data), 32_768):
        os.pwrite(fd, data[at : at + 32_768], at)
    os.ftruncate(fd, len(data))
    os.close(fd)
    draft.unlink()
    lock.unlink()


def save_link_swap(path: Path, data: bytes) -> None:
    """Backup by hard link, replace by rename (many mail and database programs)."""
    backup = path.with_name(f"{path.name}.bak")
    backup.unlink(missing_ok=True)
    os.link(path, backup)
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(data)
    draft.rename(path)
    backup.unlink()


def save_exchange(path: Path, data: bytes) -> None:
    """The new file takes the place in one step and the old one is kept under the other name, then removed."""
    draft = path.with_name(f"{path.name}.swap")
    draft.write_bytes(data)
    renameat2(draft, path, EXCHANGE)
    draft.unlink()


def save_word(path: Path, data: bytes) -> None:
    """Write beside, old aside, new in, old away: two renames and an unlink."""
    new, old = path.with_name("~WRD0001.tmp"), path.with_name("~WRL0002.tmp")
    new.write_bytes(data)
    path.rename(old)
    new.rename(path)
    old.unlink()


EDITORS = [save_in_place, save_vim, save_emacs, save_gedit, save_libreoffice, save_link_swap, save_exchange, save_word]


@pytest.mark.parametrize("save", EDITORS)
def test_editor_saves(work: Path, target: Path, save) -> None:
    folder = work / save.__name__
    folder.mkdir()
    path = folder / "document.txt"
    path.write_bytes(b"first version")
    path.chmod(0o640)
    for size in (10, 100_000, 1, 0, 70_000, 65_536, 3):
        data = (f"{PLANTS[1]} {size} ".encode() * (size // 10 + 1))[:size]
        save(path, data)
        assert path.read_bytes() == data
        assert path.stat().st_size == size
    assert {entry.name for entry in folder.iterdir()} <= {"document.txt", "document.txt~"}


def test_shell_log_and_sort_pipeline(work: Path, target: Path) -> None:
    script = (
        'set -e; for i in $(seq 300); do echo "line $i" >> log; done; sort -r log > sorted; '
        "sed -i 's/line/LINE/' sorted; cp sorted copy; mv copy moved; ln -s moved link; "
        "wc -l < link; find . -type f | xargs cat | grep -c LINE; mkdir -p a/b/c; touch -d 2001-02-03 a/b/c/f; "
        "split -l 100 log part; cat part* | cmp - log; dd if=log of=dd bs=7 conv=fsync status=none; cmp log dd; "
        "truncate -s 1M sparse; install -m 0700 log installed; chmod -R u+rwX,go-rwx a; du -sk . >/dev/null"
    )
    (work / "shell").mkdir()
    assert run("bash", "-c", script, cwd=work / "shell").split() == ["300", "600"]
    (work / "shell" / PLANTS[2]).mkdir()
    (work / "shell" / PLANTS[2] / f"{PLANTS[2]}.txt").write_text(PLANTS[2])


def test_zip_archives_and_mailbox(work: Path, target: Path) -> None:
    import mailbox
    import zipfile

    with zipfile.ZipFile(work / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(50):
            archive.writestr(f"{PLANTS[2]}/{number}", f"{number}" * 1000)
    with zipfile.ZipFile(work / "a.zip", "a") as archive:
        archive.writestr("late", "x")
        assert archive.testzip() is None
    for kind, name in ((mailbox.mbox, "mbox"), (mailbox.Maildir, "maildir")):
        box = kind(work / name)
        box.lock()
        for number in range(20):
            box.add(f"Subject: {number}\n\n{PLANTS[1]}\n")
        box.remove(next(iter(box.keys())))
        box.flush()
        box.unlock()
        box.close()
        again = kind(work / name)
        assert len(again) == 19
        again.close()


@pytest.fixture
def everything(origin: Path, work: Path, target: Path, tmp_path: Path) -> Path:
    """`work` with what the programs leave there.

    The tests may be dealt out to several processes, each with a mount of its own: what was done on another one is done
    once more on this.
    """
    programs = {
        "copied": lambda: test_cp_a_then_diff_r(origin, work, target),
        "untarred": lambda: test_tar_extract_then_compare(origin, work, tmp_path, target),
        "synced": lambda: test_rsync_twice_has_nothing_to_do_the_second_time(origin, work, target),
        "repo": lambda: test_git_from_first_commit_to_gc_and_local_clone(origin, work, target),
        "wal.db": lambda: test_sqlite_in_every_journal_mode(work, target, "wal"),
        "shell": lambda: test_shell_log_and_sort_pipeline(work, target),
        "a.zip": lambda: test_zip_archives_and_mailbox(work, target),
    }
    programs |= {save.__name__: functools.partial(test_editor_saves, work, target, save) for save in EDITORS}
    for left, program in programs.items():
        if not (work / left).exists():
            program()
    return work


def test_all_of_it_is_the_same_when_rebuilt_from_the_store(everything: Path, remount) -> None:
    before = snapshot(everything)
    assert len(before) > 3 * FILES
    remount(forget=True)
    assert differences(before, snapshot(everything), rebuilt_since=time.time_ns() - HOUR) == []
    run("git", "fsck", "--full", "--strict", cwd=everything / "repo")


def test_no_word_of_it_is_readable_in_store_or_local_state(place, everything: Path, tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    self_test(tmp_path / "self")
    if place.vault is None:
        pytest.skip("no store here")
    assert find_plaintext([everything], [PLANTS[1]]), "the search finds the words on the mount"
    place.vault.sync()
    words = [*PLANTS, "document.txt", "file17.txt", "~WRD0001", "goutputstream", "CREATE TABLE account"]
    assert find_plaintext([place.vault.store, place.vault.home], words) == []
    logs = "".join(path.read_text(errors="replace") for path in place.vault.base.glob("daemon-*.log"))
    assert not [word for word in words if word in logs]
