"""Objects of the store flipped, cut, emptied, swapped or gone: EIO for the files concerned, never other bytes (I3)."""

import errno
import os
import random
import shutil
from pathlib import Path

import pytest
from mounting import Mount, watchdog

pytestmark = pytest.mark.slow
SEED = 9
SIZES = [0, 10, 3000, 20_000, 70_000, 150_000, 600_000, 3_000_000]


@pytest.fixture
def filled(stage) -> tuple[object, dict[str, bytes]]:
    """A vault with files of many sizes, all at the store, not mounted, without local cache; and what they must hold."""
    rng = random.Random(SEED)
    mount = stage.mount()
    files = {f"{size}-{number}": rng.randbytes(size) for size in SIZES for number in range(3)}
    for name, data in files.items():
        (stage.point / name).write_bytes(data)
    stage.vault.sync()
    mount.stop()
    shutil.copytree(stage.vault.store, stage.vault.base / "good")
    return stage, files


def restore(stage) -> None:
    shutil.rmtree(stage.vault.store)
    shutil.copytree(stage.vault.base / "good", stage.vault.store)


def forget_packs(stage) -> None:
    """Drop cached contents, keep the replica: what a full cache does."""
    for path in (stage.vault.home / "cache").rglob("packs/*"):
        if path.is_file():
            path.unlink()


def read_all(mount: Mount, point: Path, files: dict[str, bytes]) -> list[str]:
    """Names that answer EIO; fails if any other error or any wrong byte comes."""
    failed = []
    with watchdog(mount, 100):
        for name, data in files.items():
            try:
                found = (point / name).read_bytes()
            except OSError as err:
                if err.errno != errno.EIO:
                    raise
                failed.append(name)
            else:
                assert found == data, f"{name} shows bytes it never had"
    return failed


def objects(stage, kind: str) -> list[Path]:
    found = sorted(path for path in (stage.vault.store / kind).rglob("*") if path.is_file())
    assert found, f"no objects of kind {kind}/ in the store"
    return found


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_flipped_bit_in_a_pack_spoils_one_file_only(filled, place: float) -> None:
    stage, files = filled
    forget_packs(stage)
    pack = max(objects(stage, "p"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[int(len(data) * place)] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    mount = stage.mount()
    failed = read_all(mount, stage.point, files)
    assert len(failed) <= 1, f"one flipped bit spoiled {failed}"
    (stage.point / "new").write_bytes(b"writing goes on")
    mount.stop(quiet=False)


def test_files_of_a_missing_pack_are_eio_and_heal_when_it_is_back(filled) -> None:
    stage, files = filled
    forget_packs(stage)
    pack = max(objects(stage, "p"), key=lambda path: path.stat().st_size)
    aside = stage.vault.base / "aside"
    shutil.move(pack, aside)
    mount = stage.mount()
    failed = read_all(mount, stage.point, files)
    assert failed
    assert set(failed) < set(files)
    assert sorted(os.listdir(stage.point)) == sorted(files)
    mount.stop(quiet=False)
    shutil.move(aside, pack)
    mount = stage.mount()
    assert read_all(mount, stage.point, files) == []
    mount.stop()


@pytest.mark.parametrize("how", ["cut", "empty", "zeros", "longer", "swapped"])
def test_damaged_packs_never_show_wrong_bytes(filled, how: str) -> None:
    stage, files = filled
    forget_packs(stage)
    packs = objects(stage, "p")
    good = [pack.read_bytes() for pack in packs]
    for number, pack in enumerate(packs):
        data = good[number]
        bad = {
            "cut": data[: len(data) // 2],
            "empty": b"",
            "zeros": bytes(len(data)),
            "longer": data + b"x" * 1000,
            "swapped": good[(number + 1) % len(good)],
        }[how]
        pack.chmod(0o600)
        pack.write_bytes(bad)
    mount = stage.mount()
    read_all(mount, stage.point, files)
    assert {name: (stage.point / name).stat().st_size for name in files} == {n: len(d) for n, d in files.items()}
    mount.stop(quiet=False)
    restore(stage)
    forget_packs(stage)
    mount = stage.mount()
    assert read_all(mount, stage.point, files) == []
    mount.stop()


@pytest.mark.parametrize("kind", ["l", "m", "w"])
@pytest.mark.parametrize("how", ["flip", "gone", "empty"])
def test_damaged_logs_and_statements_are_named_not_believed(filled, kind: str, how: str) -> None:
    """A rebuild from a damaged store either refuses in words, or shows nothing that is not true."""
    stage, files = filled
    stage.vault.forget_local()
    victim = objects(stage, kind)[0]
    data = bytearray(victim.read_bytes())
    victim.chmod(0o600)
    if how == "gone":
        victim.unlink()
    else:
        if data:
            data[len(data) // 2] ^= 1
        victim.write_bytes(b"" if how == "empty" else data)
    mount = stage.mount(must=False)
    if mount.alive():
        present = {name: data for name, data in files.items() if (stage.point / name).exists()}
        read_all(mount, stage.point, present)
        assert not set(os.listdir(stage.point)) - set(files) - {"lost+found"}
        mount.stop(quiet=False)
    else:
        assert mount.daemon.returncode in (65, 66, 69, 74), f"exit {mount.daemon.returncode}\n{mount.said()}"
        assert "Traceback" not in mount.said()
    mount.close()
    restore(stage)
    shutil.rmtree(stage.vault.home / "cache", ignore_errors=True)
    mount = stage.mount()
    assert read_all(mount, stage.point, files) == []
    mount.stop()


@pytest.mark.parametrize("how", ["flip", "cut", "zeros", "gone"])
def test_damaged_replica_is_rebuilt(filled, how: str) -> None:
    stage, files = filled
    replica = next((stage.vault.home / "cache").rglob("replica.db"))
    data = bytearray(replica.read_bytes())
    for other in replica.parent.glob("replica.db-*"):
        other.unlink()
    if how == "gone":
        replica.unlink()
    elif how == "cut":
        replica.write_bytes(data[: len(data) // 2])
    elif how == "zeros":
        replica.write_bytes(bytes(len(data)))
    else:
        for at in range(100, len(data), 4096):
            data[at] ^= 0x10
        replica.write_bytes(data)
    mount = stage.mount()
    assert read_all(mount, stage.point, files) == []
    (stage.point / "more").write_bytes(b"work goes on")
    stage.vault.sync()
    mount.stop(quiet=False)


def test_foreign_files_in_the_store_are_ignored(filled) -> None:
    stage, files = filled
    stage.vault.forget_local()
    for place in ("", "p", "l", "m", "w"):
        folder = stage.vault.store / place
        folder.mkdir(exist_ok=True)
        (folder / "desktop.ini").write_bytes(b"[.ShellClassInfo]")
        (folder / "Copy of something (1)").write_bytes(os.urandom(100))
        (folder / ".DS_Store").mkdir()
    mount = stage.mount()
    assert read_all(mount, stage.point, files) == []
    mount.stop(quiet=False)
