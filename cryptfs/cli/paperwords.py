"""Recovery words from paper or file, and back: typed where there is a terminal, never given as arguments."""

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from cryptfs.cli.output import note
from cryptfs.crypto.words import SHARE_WORDS, recovery_seed
from cryptfs.errors import UsageError
from cryptfs.vault.disk import local_disk

__all__ = ["read_phrases", "word_rows", "words_option", "write_phrase"]

_FILE_MAX: Final = 64 << 10
"""Bytes; sixteen phrases take a tenth of it."""


words_option = functools.partial(
    click.option,
    "--recovery-file",
    "recovery_files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="The recovery words, one phrase a line; give it again for more shares. Default: they are typed in.",
)


def read_phrases(files: Sequence[Path]) -> bytes:
    """The 32-byte seed from phrases in `files`, or typed. Raises UsageError, never naming a word."""
    phrases = [line for file in files for line in _lines(file)]
    if files:
        return recovery_seed(phrases)
    if not sys.stdin.isatty():
        raise UsageError(
            "The recovery words are needed, and there is no terminal to ask for them.",
            "Name the file that holds them: --recovery-file FILE.",
        )
    while True:
        number = f"phrase {len(phrases) + 1}" if phrases else "the recovery words"
        typed: str = click.prompt(f"Type {number} ({SHARE_WORDS} words)", hide_input=True, err=True)
        phrases.append(typed)
        try:
            return recovery_seed(phrases)
        except UsageError as err:
            if " that are needed" not in str(err):
                phrases.pop()
            note(f"{err}.")


def _lines(file: Path) -> list[str]:
    with local_disk("reading the recovery words"), file.open(encoding="utf-8", errors="replace") as stream:
        text = stream.read(_FILE_MAX)
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise UsageError(f"{file} holds no recovery words.", "One phrase of 33 words stands in one line.")
    return found


def word_rows(phrase: str) -> list[str]:
    """A phrase as numbered rows, to be written down."""
    words = phrase.split()
    return [
        "".join(f"{number:2}. {word:<10}" for number, word in enumerate(words[start : start + 6], start + 1)).rstrip()
        for start in range(0, len(words), 6)
    ]


def write_phrase(file: Path, phrase: str) -> None:
    """Write one phrase to a new file, mode 0600. Raises FileExistsError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(phrase + "\n")
        stream.flush()
        os.fsync(stream.fileno())
