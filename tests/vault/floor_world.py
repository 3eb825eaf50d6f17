"""Vaults with floors: many small segments, checkpoints that everybody has attested, months that pass at once."""

from pathlib import Path

from cryptfs.format.names import CheckpointName, RollupName, SegmentName, parse_name
from cryptfs.vault.vault import Vault
from tests.vault.checkpoint_world import agreed, heard
from tests.vault.rollup_world import pass_days, save

__all__ = ["checkpoints", "covered", "floors_rise", "let_go", "log_names"]


async def floors_rise(maker: Vault, *others: Vault, numbers: range = range(0)) -> int:
    """The maker writes these files, makes a checkpoint, and everybody attests it; returns its stamp."""
    await save(maker, numbers)
    await heard(maker, *others)
    made = await maker.checkpointing.make()
    assert made is not None
    await agreed(maker, *others)
    await agreed(maker, *others)
    assert maker.horizon.floor().stamp == made.stamp
    return made.stamp


async def let_go(*vaults: Vault) -> None:
    """Months of collecting: what may go goes."""
    for days in (35, 2, 35, 2):
        for vault in vaults:
            pass_days(vault, days)
            await vault.exchange.pull()
            await vault.acknowledging.now()
        for vault in vaults:
            await vault.exchange.pull()
            await vault.collector.run()


def log_names(folder: Path, log_id: bytes) -> list[str]:
    """Objects of a log."""
    return sorted(f"l/{path.name}" for path in (folder / "l").iterdir() if path.name.startswith(log_id.hex()))


def covered(folder: Path, log_id: bytes) -> set[int]:
    """Numbers of the segments of a log that are in the folder, by names."""
    found = set[int]()
    for name in map(parse_name, log_names(folder, log_id)):
        if isinstance(name, SegmentName):
            found.add(name.seq)
        elif isinstance(name, RollupName):
            found.update(range(name.first, name.last + 1))
    return found


def checkpoints(folder: Path) -> list[int]:
    """Stamps of the checkpoints in the folder, sorted."""
    names = (parse_name(f"c/{path.name}") for path in (folder / "c").iterdir())
    return sorted(name.stamp for name in names if isinstance(name, CheckpointName))
