"""The judge is judged: it accepts what may be, and finds each planted violation."""

import os
import shutil
from pathlib import Path

import pytest
from acknowledged import Play, Verdict


@pytest.fixture
def play(tmp_path: Path):
    """Two plain directories after 60 calls, the last acknowledgement some calls ago."""
    for name in ("top", "model"):
        (tmp_path / name).mkdir()
    play = Play(tmp_path / "top", tmp_path / "model", seed=3)
    for step in range(80):
        assert play.step()
        if step == 60:
            play.acknowledge(None)
    (tmp_path / "top/planted").write_bytes(b"one")
    (tmp_path / "model/planted").write_bytes(b"one")
    play._note()
    play.acknowledge(None)
    yield play
    play.end()
    play.release()


def test_the_present_state_is_accepted(play: Play) -> None:
    play.judge(play.top)


def test_a_later_state_is_accepted(play: Play) -> None:
    (play.model / "planted").write_bytes(b"two")
    play._note()
    play.judge(play.top)
    (play.top / "planted").write_bytes(b"two")
    play.judge(play.top)


def test_a_lost_name_is_found(play: Play) -> None:
    (play.top / "planted").unlink()
    with pytest.raises(Verdict, match="planted"):
        play.judge(play.top)


def test_an_invented_name_is_found(play: Play) -> None:
    (play.top / "invented").mkdir()
    with pytest.raises(Verdict, match="invented"):
        play.judge(play.top)


def test_an_old_content_after_its_fsync_is_found(play: Play) -> None:
    for top in (play.top, play.model):
        (top / "planted").write_bytes(b"two")
    play._note()
    play.acknowledge(None)
    (play.top / "planted").write_bytes(b"one")
    with pytest.raises(Verdict, match="planted"):
        play.judge(play.top)


def test_mixed_and_zeroed_contents_are_found(play: Play) -> None:
    for content in (b"onX", b"\0\0\0", b"", b"one\0"):
        (play.top / "planted").write_bytes(content)
        with pytest.raises(Verdict, match="planted"):
            play.judge(play.top)


def test_another_mode_or_a_broken_link_is_found(play: Play) -> None:
    for top in (play.top, play.model):
        os.link(top / "planted", top / "twin")
    play._note()
    play.acknowledge(None)
    play.judge(play.top)
    (play.top / "twin").unlink()
    shutil.copy2(play.top / "planted", play.top / "twin")
    with pytest.raises(Verdict, match="twin"):
        play.judge(play.top)
