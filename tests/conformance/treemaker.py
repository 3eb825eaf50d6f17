"""A tree as people have them, the same for the same seed: many small files, some big, links, odd names, old times."""

import os
import random
from pathlib import Path

__all__ = ["grow"]

_WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "Übung",
    "naïve",
    "目录",
    "report",
    "draft",
    "final",
    "v2",
    "IMG_",
    "src",
    "lib",
    "test",
    "notes",
]
LONG = 220  # leaves room for a number or a planted word
_ENDINGS = ["", ".txt", ".py", ".jpg", ".tar.gz", ".odt~", " (1)", ".c"]


def _name(rng: random.Random) -> bytes:
    name = "-".join(rng.sample(_WORDS, rng.randint(1, 3))) + str(rng.randrange(1000)) + rng.choice(_ENDINGS)
    raw = name.encode()
    if rng.random() < 0.02:
        raw = b"\xff\xfe" + raw
    if rng.random() < 0.02:
        raw = (raw * 30)[:LONG]
    return raw


def _content(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.05:
        return b""
    if kind < 0.70:
        return rng.randbytes(rng.randrange(1, 4096))
    if kind < 0.90:
        return (b"line of text number %d\n" % rng.randrange(10**6)) * rng.randrange(1, 2000)
    if kind < 0.98:
        return rng.randbytes(rng.randrange(4096, 200_000))
    return rng.randbytes(rng.randrange(200_000, 2_000_000))


def grow(top: Path, seed: int, files: int, plant: bytes = b"") -> None:
    """Make about `files` files below `top`. `plant` is put into every tenth content and into some names."""
    rng = random.Random(seed)
    folders = [os.fsencode(top)]
    made: list[bytes] = []
    for number in range(files):
        if rng.random() < 0.12:
            folder = rng.choice(folders[-30:]) + b"/" + _name(rng) + (plant if rng.random() < 0.1 else b"")
            if not os.path.lexists(folder) and len(folder) < 2500:
                os.mkdir(folder)
                folders.append(folder)
        path = rng.choice(folders) + b"/" + _name(rng)
        if os.path.lexists(path):
            path += b"#%d" % number
        kind = rng.random()
        if kind < 0.04 and made:
            os.link(rng.choice(made), path)
            continue
        if kind < 0.08:
            os.symlink(os.path.relpath(rng.choice(made or folders), os.path.dirname(path)), path)
        elif kind < 0.085:
            os.mkfifo(path)
        else:
            data = _content(rng)
            with open(path, "wb") as file:
                file.write(data + (b" " + plant if number % 10 == 0 else b""))
                if kind > 0.99:
                    file.truncate(len(data) + rng.randrange(5_000_000))
            if kind > 0.95:
                os.setxattr(path, b"user.origin", b"seed %d" % seed)
            os.chmod(path, rng.choice([0o644, 0o600, 0o755, 0o400, 0o2750, 0o664]))
            made.append(path)
        os.utime(path, ns=(rng.randrange(2**60), rng.randrange(-(2**59), 2**61)), follow_symlinks=False)
    for folder in folders[:0:-1]:
        os.chmod(folder, rng.choice([0o755, 0o700, 0o2775, 0o1777]))
        os.utime(folder, ns=(rng.randrange(2**60), rng.randrange(2**60)))
