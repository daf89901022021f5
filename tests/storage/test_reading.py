"""Reading what others can write to: regular files below the run's folder, and nothing else."""

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from adadim_core.storage.reading import NotRegular, open_file, open_regular, read_end, read_whole, remove_run

KEY = "trials/0000/log.txt"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with one log, beside a file that is nobody's business."""
    (tmp_path / "secret").write_text("admin token")
    run = tmp_path / "adadim-k-7"
    (run / KEY).parent.mkdir(parents=True)
    (run / KEY).write_text("epoch 1\n")
    return run


def to_the_file(run: Path) -> None:
    (run / KEY).unlink()
    (run / KEY).symlink_to("../../../secret")


def to_a_file_of_the_run(run: Path) -> None:
    (run / KEY).rename(run / "other")
    (run / KEY).symlink_to(run / "other")


def to_a_folder(run: Path) -> None:
    (run / KEY).rename(run / "log.txt")
    (run / "trials/0000").rmdir()
    (run / "trials/0000").symlink_to(run)


def to_the_run(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))
    run.symlink_to("elsewhere")


def a_fifo(run: Path) -> None:
    (run / KEY).unlink()
    os.mkfifo(run / KEY)


def a_socket(run: Path) -> None:
    (run / KEY).unlink()
    with socket.socket(socket.AF_UNIX) as listener, pytest.MonkeyPatch.context() as patch:
        patch.chdir((run / KEY).parent)
        listener.bind("log.txt")


def a_folder_in_its_place(run: Path) -> None:
    (run / KEY).unlink()
    (run / KEY).mkdir()


def a_file_on_the_way(run: Path) -> None:
    (run / KEY).rename(run / "log.txt")
    (run / "trials/0000").rmdir()
    (run / "trials/0000").touch()


def open_below(folder: Path) -> list[str]:
    """Files of a folder that this process has open. Others may open and close meanwhile."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(str(folder))]


@pytest.mark.parametrize(
    "put",
    [to_the_file, to_a_file_of_the_run, to_a_folder, to_the_run, a_fifo, a_socket, a_folder_in_its_place,
     a_file_on_the_way],
)  # fmt: skip
@pytest.mark.timeout(20)
def test_only_regular_files_below_the_run_are_read(run: Path, put: Callable[[Path], None]) -> None:
    assert read_end(str(run), KEY, 100) == b"epoch 1\n"
    put(run)
    with pytest.raises(NotRegular):
        open_regular(run, KEY)
    assert read_end(str(run), KEY, 100) == b"", "it counts as one that is not there"
    assert read_whole(str(run), KEY, 100) is None
    assert open_below(run) == [], "nothing stays open"


@pytest.mark.parametrize("key", ["../secret", "trials/../../secret", "/etc/passwd", "", "a\0b"])
def test_a_name_that_leads_out_of_the_run_is_no_name(run: Path, key: str) -> None:
    with pytest.raises(ValueError, match="names no file below"):
        open_regular(run, key)


def test_the_storage_itself_may_lie_behind_a_link(run: Path) -> None:
    link = run.parent / "mount"
    link.symlink_to(run.parent)
    assert read_end(str(link / run.name), KEY, 100) == b"epoch 1\n"


def test_sizes_are_bounded(run: Path) -> None:
    os.truncate(run / KEY, 2**40)  # takes no room on the disk
    with (run / KEY).open("ab") as log:
        log.write(b"the end\n")
    assert read_end(str(run), KEY, 8) == b"the end\n"
    with pytest.raises(OSError, match="more than the 100 that are read"):
        read_whole(str(run), KEY, 100)
    file, size = open_file(str(run), KEY)
    file.close()
    assert size == 2**40 + 8


def test_a_bucket_is_read_the_same_way(place: str, tmp_path: Path) -> None:
    from adadim_core.storage.object_store import ObjectStore

    (tmp_path / "log").write_bytes(b"epoch 1\nepoch 2\n")
    ObjectStore(place).put(tmp_path / "log", KEY)
    assert read_end(place, KEY, 8) == b"epoch 2\n"
    assert read_whole(place, KEY, 100) == b"epoch 1\nepoch 2\n"
    assert (read_end(place, "none", 8), read_whole(place, "none", 8)) == (b"", None)
    with pytest.raises(OSError, match="more than the 3 that are read"):
        read_whole(place, KEY, 3)
    remove_run(place)
    assert ObjectStore(place).sizes() == {}
    remove_run(place)


def test_removing_a_run_leaves_what_links_in_it_lead_to(run: Path) -> None:
    (run / "out").symlink_to(run.parent)
    remove_run(str(run))
    assert (run.exists(), (run.parent / "secret").exists()) == (False, True)
    remove_run(str(run))
    run.symlink_to(run.parent)
    remove_run(str(run))
    assert (run.is_symlink(), (run.parent / "secret").exists()) == (False, True)
