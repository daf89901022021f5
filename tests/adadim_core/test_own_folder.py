"""A folder in a place where everyone may make some is its owner's alone, whatever others have put there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from adadim_core.storage import own_folder as module
from adadim_core.storage.own_folder import SUFFIX_LENGTH, find_own_folder, own_folder


def test_it_is_made_closed_and_closed_again(tmp_path: Path) -> None:
    folder = own_folder(tmp_path, "mine")
    assert folder == tmp_path / "mine"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert own_folder(tmp_path, "mine") == folder == find_own_folder(tmp_path, "mine")
    assert folder.stat().st_mode & 0o777 == 0o700


def a_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.mkdir(mode=0o755, exist_ok=True)
    path.symlink_to(target)


def a_file(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("put", [a_link, a_file])
def test_what_is_in_its_place_is_left_alone_and_keeps_nobody_from_having_one(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    put(tmp_path / "mine")
    put(tmp_path / "mine.000000")
    folder = own_folder(tmp_path, "mine")
    assert folder.name.startswith("mine.")
    assert len(folder.name) == len("mine") + SUFFIX_LENGTH
    assert not folder.is_symlink()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert own_folder(tmp_path, "mine") == folder, "found again"
    if put is a_link:
        assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755
        assert not any((tmp_path / "elsewhere").iterdir())
    # Also when the place becomes free: what was begun in the folder is there.
    (tmp_path / "mine").unlink()
    assert own_folder(tmp_path, "mine") == folder


def test_somebody_else_s_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir(mode=0o755)
    mine, user = [], os.getuid()
    # What this user makes from here on belongs to another number than before.
    monkeypatch.setattr(module.os, "geteuid", lambda: user + 1)
    monkeypatch.setattr(module, "_made", lambda place, name: mine.append(name) or (place / "new"))
    (tmp_path / "new").mkdir()
    assert find_own_folder(tmp_path, "theirs") is None
    own_folder(tmp_path, "theirs")
    assert mine == ["theirs"]
    assert (tmp_path / "theirs").stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root")
def test_another_user_cannot_take_or_block_it(tmp_path: Path) -> None:
    for name in ("mine", "mine.aaaaaa"):
        (tmp_path / name).mkdir(mode=0o777)
        os.chown(tmp_path / name, 54_321, 54_321)
    folder = own_folder(tmp_path, "mine")
    assert folder.stat().st_uid == 0
    assert folder == find_own_folder(tmp_path, "mine")


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root")
def test_root_gives_it_to_another_and_finds_it_again(tmp_path: Path) -> None:
    for _ in range(2):
        folder = own_folder(tmp_path, "given", 54_321)
        assert folder == tmp_path / "given"
        assert folder.stat().st_uid == 54_321


def test_a_place_that_is_full_of_names_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.secrets, "token_hex", lambda _: "abcdef")
    for name in ("mine", "mine.abcdef"):
        (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match="every name for it is taken"):
        own_folder(tmp_path, "mine")
