"""A folder in a place where everyone may make some is its owner's alone, or is refused."""

import os
from pathlib import Path

import pytest

from adadim_core.storage.own_folder import NotOwnFolder, own_folder


def test_it_is_made_closed_and_closed_again(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "mine")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    own_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_links_and_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(NotOwnFolder, match=f"{name} is not this user's own folder; remove it"):
            own_folder(tmp_path / name)
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o755


def test_somebody_else_s_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(NotOwnFolder):
        own_folder(tmp_path / "theirs")


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root")
def test_root_gives_it_to_another_and_finds_it_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert own_folder(tmp_path / "given", 54_321).stat().st_uid == 54_321
