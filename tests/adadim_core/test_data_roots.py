"""Paths of specs stay inside the data roots."""

import os

import pytest
from tiny_sets import image_files, write_files, write_idx_set

from adadim_core.data import DataError, load_dataset
from adadim_core.data.memory import memory_limit


@pytest.fixture
def roots(tmp_path, monkeypatch):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setenv("ADADIM_DATA_ROOTS", os.pathsep.join(map(str, folders)))
    return folders


def test_without_roots_any_path_is_taken(tmp_path, monkeypatch):
    write_idx_set(tmp_path / "set")
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("ADADIM_DATA_ROOTS", raising=False)
        else:
            monkeypatch.setenv("ADADIM_DATA_ROOTS", value)
        assert len(load_dataset("mnist", path=tmp_path / "set").train_images) == 20
    monkeypatch.chdir(tmp_path)
    assert len(load_dataset("mnist", path="set").train_images) == 20


def test_a_relative_path_is_that_of_the_first_root_that_has_it(roots, monkeypatch, tmp_path):
    write_idx_set(roots[1] / "set", n=30)
    monkeypatch.chdir(tmp_path)
    write_idx_set(tmp_path / "set", n=50)
    assert len(load_dataset("mnist", path="set").train_images) == 30
    write_idx_set(roots[0] / "set", n=40)
    assert len(load_dataset("mnist", path="set").train_images) == 40
    assert len(load_dataset("mnist", path=roots[1] / "set").train_images) == 30
    with pytest.raises(DataError, match=r"there is no absent.*one/absent.*two/absent"):
        load_dataset("mnist", path="absent")


def test_paths_out_of_the_roots_are_refused_whether_or_not_they_exist(roots, tmp_path):
    write_idx_set(tmp_path / "outside")
    (roots[0] / "link").symlink_to(tmp_path / "outside")
    (roots[0] / "fine").symlink_to(roots[1])
    write_idx_set(roots[1])
    for path in (tmp_path / "outside", tmp_path / "absent", roots[0] / "../outside", "../outside", "link", "/", "~"):
        with pytest.raises(DataError, match="leads out of the data roots"):
            load_dataset("mnist", path=path)
    assert len(load_dataset("mnist", path="fine").train_images) == 20


def test_links_inside_a_set_are_followed_only_inside_the_roots(roots, tmp_path):
    write_idx_set(roots[0] / "set")
    file = roots[0] / "set" / "train-images-idx3-ubyte.gz"
    file.rename(tmp_path / file.name)
    file.symlink_to(tmp_path / file.name)
    with pytest.raises(DataError, match="leads out of the data roots"):
        load_dataset("mnist", path="set")
    for link, target in (("train/cat/x.png", "x.png"), ("train/cow", "cow"), ("test", "test")):
        images = write_files(
            roots[0] / link.replace("/", "-"), {n: d for n, d in image_files().items() if "test" not in n}
        )
        write_files(tmp_path / "cow", {"0.png": image_files()["train/cat/0000.png"]})
        write_files(tmp_path / "test", {"cat/0.png": image_files()["train/cat/0000.png"]})
        (tmp_path / "x.png").write_bytes(image_files()["train/cat/0000.png"])
        (images / link).symlink_to(tmp_path / target)
        with pytest.raises(DataError, match="leads out of the data roots"):
            load_dataset("image_folder", path=images)


def test_archives_are_looked_for_inside_the_roots_only(roots, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    (roots[0] / "cifar-10-python.tar.gz").symlink_to(tmp_path / "cifar-10-python.tar.gz")
    with pytest.raises(DataError, match="leads out of the data roots"):
        load_dataset("cifar10", path=roots[0])


def test_the_memory_limit_is_a_size_or_a_share_of_what_is_there(monkeypatch):
    for text, size in (("1000", 1000), ("2K", 2048), ("1.5G", 3 * 2**29), ("3 MiB", 3 * 2**20)):
        monkeypatch.setenv("ADADIM_DATA_MEMORY", text)
        assert memory_limit() == size
    monkeypatch.setenv("ADADIM_DATA_MEMORY", "much")
    with pytest.raises(DataError, match="ADADIM_DATA_MEMORY=much is not a size"):
        memory_limit()
    monkeypatch.delenv("ADADIM_DATA_MEMORY")
    alone = memory_limit()
    assert alone > 2**20
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory_limit() < alone / 2


CONTAINERS = {
    "version 2": {"memory.max": "8000", "memory.current": "5000", "memory.stat": "anon 9\ninactive_file 1000\nslab 7"},
    "version 1": {
        "memory/memory.limit_in_bytes": "8000",
        "memory/memory.usage_in_bytes": "5000",
        "memory/memory.stat": "cache 9\ninactive_file 7\ntotal_inactive_file 1000",
    },
}


@pytest.mark.parametrize("version", CONTAINERS)
def test_a_container_gives_what_its_limit_leaves(tmp_path, monkeypatch, version):
    monkeypatch.delenv("ADADIM_DATA_MEMORY", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr("adadim_core.data.memory._CGROUP", tmp_path)
    outside = memory_limit()
    assert outside > 10_000
    files = {name: content.encode() for name, content in CONTAINERS[version].items()}
    write_files(tmp_path, files)
    assert memory_limit() == (8000 - 5000 + 1000) // 4
    limit, use, _ = files
    write_files(tmp_path, {use: b"9500\n"})
    assert memory_limit() == 0
    write_files(tmp_path, {limit: b"max\n" if version == "version 2" else b"9223372036854771712\n"})
    assert memory_limit() == pytest.approx(outside, rel=0.5)
