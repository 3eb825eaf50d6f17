"""Mount options, from every place they may stand."""

import pytest

from cryptfs.cli.options import gather_options, parse_size, split_options
from cryptfs.errors import UsageError


def test_the_command_line_wins_over_the_environment_and_that_over_the_file() -> None:
    environ = {"CRYPTFS_CACHE_SIZE": "2G", "CRYPTFS_FSYNC": "remote"}
    settings = {"cache-size": "1G", "fsync": "local", "allow_other": "yes"}
    assert gather_options(["cache_size=3G"], environ, settings) == {
        "cache_size": str(3 << 30),
        "fsync": "remote",
        "allow_other": "yes",
    }


def test_the_last_of_two_contradicting_options_wins_as_in_mount() -> None:
    assert gather_options(["ro,rw"], {}) == {"ro": "no"}
    assert gather_options(["rw", "ro"], {}) == {"ro": "yes"}


def test_a_line_of_fstab_is_understood() -> None:
    line = "noauto,user,x-systemd.automount,x-systemd.idle-timeout=9,_netdev,nofail,nosuid,noatime,allow_other"
    assert gather_options([line], {}) == {"atime": "noatime", "allow_other": "yes"}


@pytest.mark.parametrize("word", ["noatime", "relatime", "strictatime", "nodiratime"])
def test_each_word_about_access_times_has_its_value(word: str) -> None:
    assert gather_options([word], {}) == {"atime": word}


def test_a_comma_in_quotes_does_not_part_options() -> None:
    assert split_options('a="x,y",b,,c=') == [("a", "x,y"), ("b", ""), ("c", "")]


@pytest.mark.parametrize("text", ["nonsense", "fsync=perhaps", "cache_size=much", "ro=maybe", "cache_size"])
def test_what_nobody_knows_is_refused_and_not_ignored(text: str) -> None:
    with pytest.raises(UsageError):
        gather_options([text], {})


@pytest.mark.parametrize(
    ("text", "count"), [("0", 0), ("512", 512), ("4k", 4096), ("3M", 3 << 20), ("2GiB", 2 << 30), ("1TB", 1 << 40)]
)
def test_sizes_are_powers_of_1024(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "-1", "1.5G", "G", "1X", "9" * 13])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)
