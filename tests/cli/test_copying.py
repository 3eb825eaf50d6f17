"""Copying between a vault and this machine; an ordinary directory stands for the mounted vault."""

import os
import stat
from collections.abc import Awaitable
from pathlib import Path

import pytest
import trio

from cryptfs.cli.copying import copy_in, copy_out
from cryptfs.cli.output import NoInput
from cryptfs.cli.trees import MountedTree, split_path


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """The root of the "vault"."""
    root = tmp_path / "vault"
    root.mkdir()
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of this machine."""
    root = tmp_path / "machine"
    root.mkdir()
    return root


def done(action: Awaitable[None]) -> None:
    async def main() -> None:
        await action

    trio.run(main)


def fill(root: Path) -> None:
    (root / "d/e").mkdir(parents=True)
    (root / "d/file").write_bytes(b"contents" * 300_000)
    (root / "d/file").chmod(0o640)
    os.utime(root / "d/file", ns=(10**18, 10**18))
    (root / "d/link").symlink_to("file")
    (root / "d/e/empty").touch()


def seen(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every path below `root` with its type and contents or target."""
    found = {}
    for path in sorted(root.rglob("*")):
        kind = stat.S_IFMT(path.lstat().st_mode)
        what = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (kind, what)
    return found


def test_a_directory_goes_in_and_comes_out_again_whole(inside: Path, outside: Path, tmp_path: Path) -> None:
    fill(outside)
    done(copy_in(MountedTree(inside), [os.fsencode(outside / "d")], b"/"))
    assert seen(inside) == seen(outside)
    back = tmp_path / "back"
    back.mkdir()
    done(copy_out(MountedTree(inside), [b"/d"], os.fsencode(back)))
    assert seen(back) == seen(outside)
    copied = (back / "d/file").stat()
    assert (stat.S_IMODE(copied.st_mode), copied.st_mtime_ns) == (0o640, 10**18)


def test_one_file_can_get_another_name(inside: Path, outside: Path) -> None:
    (outside / "a").write_text("text")
    done(copy_in(MountedTree(inside), [os.fsencode(outside / "a")], b"b"))
    done(copy_out(MountedTree(inside), [b"b"], os.fsencode(outside / "c")))
    assert (outside / "c").read_text() == "text"


def test_copying_again_replaces_the_contents(inside: Path, outside: Path) -> None:
    (outside / "a").write_text("a long text")
    (inside / "a").write_text("an even longer text")
    done(copy_in(MountedTree(inside), [os.fsencode(outside / "a")], b"/"))
    assert (inside / "a").read_text() == "a long text"


def test_several_files_need_a_directory(inside: Path, outside: Path) -> None:
    (inside / "a").touch()
    (inside / "b").touch()
    with pytest.raises(NoInput, match="not a directory"):
        done(copy_out(MountedTree(inside), [b"a", b"b"], os.fsencode(outside / "c")))


def test_a_file_is_not_copied_into_a_directory_that_is_not_there(inside: Path, outside: Path) -> None:
    (outside / "a").write_text("text")
    with pytest.raises(NoInput, match="no such directory"):
        done(copy_in(MountedTree(inside), [os.fsencode(outside / "a")], b"/not-there/"))
    assert os.listdir(inside) == []


def test_the_root_of_the_vault_is_copied_into_the_target(inside: Path, outside: Path) -> None:
    fill(inside)
    done(copy_out(MountedTree(inside), [b"/"], os.fsencode(outside)))
    assert seen(outside) == seen(inside)


def test_a_copy_is_never_led_elsewhere_by_a_link(inside: Path, outside: Path, tmp_path: Path) -> None:
    """A hostile member: first a link `d` leads out, then a directory `d` with the file to plant."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (outside / "d").symlink_to(victim)
    fill(inside)
    with pytest.raises(FileExistsError):
        done(copy_out(MountedTree(inside), [b"/d"], os.fsencode(outside)))
    assert list(victim.iterdir()) == []


def test_a_file_is_never_written_through_a_link(inside: Path, outside: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (outside / "a").symlink_to(victim)
    (inside / "a").write_text("evil")
    with pytest.raises(OSError, match="symbolic links"):
        done(copy_out(MountedTree(inside), [b"a"], os.fsencode(outside)))
    assert victim.read_text() == "precious"


def test_what_is_no_file_is_left_out_and_named(inside: Path, outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(outside / "pipe")
    done(copy_in(MountedTree(inside), [os.fsencode(outside / "pipe")], b"/"))
    assert capsys.readouterr().err == f"left out: {outside}/pipe is neither file, directory nor link\n"
    assert list(inside.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "names"), [(b"/", []), (b"a//b/", [b"a", b"b"]), (b"./a/.", [b"a"]), (b"a\xff", [b"a\xff"])]
)
def test_paths_start_at_the_root_of_the_vault(path: bytes, names: list[bytes]) -> None:
    assert split_path(path) == names


@pytest.mark.parametrize("path", [b"..", b"a/../../b"])
def test_a_path_does_not_climb_out_of_the_vault(path: bytes) -> None:
    with pytest.raises(NoInput):
        split_path(path)
