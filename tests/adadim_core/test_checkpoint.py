"""Checkpoint files: whole or not at all, damage noticed, no code run."""

import errno
import os
import pickle
import pkgutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadim_core.checkpoint import (
    CheckpointError,
    previous_checkpoint,
    read_checkpoint,
    read_latest_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from adadim_core.storage.atomic import write_atomically

CPU = torch.device("cpu")
STATE = {"step": 7, "weights": torch.arange(5000.0), "nested": {"alpha": 0.25, "none": None, "list": [1, 2]}}


def test_a_state_comes_back(tmp_path):
    path = tmp_path / "deep" / "state.pt"
    write_checkpoint(path, STATE)
    state = read_checkpoint(path, CPU)
    assert torch.equal(state.pop("weights"), STATE["weights"])
    assert state == {"step": 7, "nested": STATE["nested"]}
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_noticed(tmp_path, share):
    path = tmp_path / "state.pt"
    write_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        read_checkpoint(path, CPU)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "state.pt"
    write_checkpoint(path, STATE)
    content = bytearray(path.read_bytes())
    content[content.index(STATE["weights"][100:110].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path, CPU)


@settings(max_examples=50, deadline=None)
@given(bit=st.integers(0, 2**20))
def test_any_flipped_bit_is_noticed(tmp_path_factory, bit):
    path = tmp_path_factory.getbasetemp() / "flipped.pt"
    write_checkpoint(path, {"step": 7, "weights": torch.arange(100.0)})
    content = bytearray(path.read_bytes())
    bit %= 8 * len(content)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(path, CPU)


def test_torch_reads_a_checkpoint_and_others_may(tmp_path):
    path = tmp_path / "state.pt"
    write_checkpoint(path, STATE)
    assert torch.load(path, weights_only=True)["step"] == 7
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_killed_processes_left_is_removed(tmp_path):
    path = tmp_path / "state.pt"
    left, fresh = tmp_path / ".state.pt.0123.tmp", tmp_path / ".state.pt.4567.tmp"
    for file in (left, fresh):
        file.write_bytes(b"half")
    os.utime(left, (0, 0))
    write_checkpoint(path, STATE)
    assert not left.exists()
    assert fresh.exists(), "another process may be writing it"
    remove_checkpoint(path)
    assert not list(tmp_path.iterdir())


def test_files_that_are_something_else_are_refused(tmp_path):
    path = tmp_path / "state.pt"
    with pytest.raises(FileNotFoundError):
        read_checkpoint(path, CPU)
    path.write_bytes(b"junk" * 1000)
    with pytest.raises(CheckpointError):
        read_checkpoint(path, CPU)
    torch.save(STATE, path)  # whole, but not written here
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(path, CPU)
    write_checkpoint(path, torch.zeros(3))
    with pytest.raises(CheckpointError, match="Tensor"):
        read_checkpoint(path, CPU)


class _Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_no_code_in_a_file_is_run(tmp_path):
    path, made = tmp_path / "state.pt", tmp_path / "made by the file"
    write_checkpoint(path, {"step": _Attack(made)})
    with pytest.raises(CheckpointError):
        read_checkpoint(path, CPU)
    assert not made.exists()
    path.write_bytes(pickle.dumps(_Attack(made)))
    with pytest.raises(CheckpointError):
        read_checkpoint(path, CPU)
    assert not made.exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "state.pt"
    write_checkpoint(path, STATE)
    before = path.read_bytes()

    def fail(file):
        file.write(b"half of it")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_the_one_before_is_kept_and_used(tmp_path, caplog):
    path = tmp_path / "state.pt"
    for step in (1, 2, 3):
        write_checkpoint(path, {"step": step})
    assert {file.name for file in tmp_path.iterdir()} == {"state.pt", "state.previous.pt"}
    assert read_latest_checkpoint(path, CPU) == {"step": 3}
    assert not caplog.messages
    path.write_bytes(path.read_bytes()[:100])
    assert read_latest_checkpoint(path, CPU) == {"step": 2}
    assert "state.pt is truncated" in caplog.text
    assert not path.exists(), "the next checkpoint would take the damaged file for the one before"
    assert read_latest_checkpoint(path, CPU) == {"step": 2}
    previous_checkpoint(path).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"state\.previous\.pt"):
        read_latest_checkpoint(path, CPU)
    remove_checkpoint(path)
    remove_checkpoint(path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=r"state\.pt"):
        read_latest_checkpoint(path, CPU)


def test_a_write_that_fails_leaves_the_old_file_and_the_one_before(tmp_path):
    path = tmp_path / "state.pt"
    write_checkpoint(path, {"step": 1})
    write_checkpoint(path, {"step": 2})
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(path, {"step": lambda: None})
    assert read_checkpoint(path, CPU) == {"step": 2}
    assert read_checkpoint(previous_checkpoint(path), CPU) == {"step": 1}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("torch.load", torch.OutOfMemoryError("CUDA out of memory")),
        ("torch.load", RuntimeError("DefaultCPUAllocator: can't allocate memory")),
        ("torch.load", OSError(errno.EIO, "Input/output error")),
        ("pathlib.Path.open", PermissionError(errno.EACCES, "Permission denied")),
    ],
)
def test_a_whole_file_that_cannot_be_read_now_is_not_set_aside(tmp_path, monkeypatch, place, error):
    path = tmp_path / "state.pt"
    for step in (1, 2):
        write_checkpoint(path, {"step": step})

    owner, _, name = place.rpartition(".")
    works = getattr(pkgutil.resolve_name(owner), name)

    def fail_once(*args, **kwargs):
        monkeypatch.setattr(place, works)
        raise error

    monkeypatch.setattr(place, fail_once)
    with pytest.raises(type(error)) as raised:
        read_latest_checkpoint(path, CPU)
    assert raised.value is error
    assert read_latest_checkpoint(path, CPU) == {"step": 2}
