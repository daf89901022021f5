"""Results in an object store: a real S3 server, pyarrow's own client."""

from collections.abc import Callable
from pathlib import Path

import pytest
from worker_harness import tiny_spec

from adadim_core.checkpoint import previous_checkpoint
from adadim_core.spec import ExperimentSpec, validate_spec
from adadim_core.storage import layout
from adadim_core.storage.object_store import StorageAway
from tests.object_stores import S3
from workers.context import RunContext
from workers.errors import RunError
from workers.storage.claim import prepare, usable
from workers.storage.folder import Storage
from workers.storage.opening import open_storage
from workers.storage.points import merged, read_points, write_points
from workers.storage.spool import Spool
from workers.storage.trial_result import TrialResult, read_result, write_result


@pytest.fixture
def spec() -> ExperimentSpec:
    return validate_spec(tiny_spec())


def other_node(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "other") -> Storage:
    """The same place as another node sees it, which has none of this one's files."""
    (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    return open_storage(place)


def test_what_is_pushed_is_there_for_another_node(
    place: str, spec: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(place)
    prepare(storage, spec)
    write_result(storage, TrialResult(2, {}, "succeeded", 5, 5, {"loss": float("inf")}))
    spool = Spool(storage.spool(2, "a"), trial=2)
    spool.append(1, 0.1, {"h_r": 1.0})
    storage.push(spool.path)
    kept_here = storage.checkpoint(2)
    kept_here.write_bytes(b"never pushed")

    other = other_node(place, tmp_path, monkeypatch)
    prepare(other, spec)
    found = read_result(other, 2)
    assert found is not None
    assert found.metrics == {"loss": float("inf")}
    assert [point.values for point in merged(other, 2)] == [{"h_r": 1.0}]
    assert other.experiment_id() == storage.experiment_id()
    assert not other.fetch(other.checkpoint(2))


def test_old_files_of_a_node_do_not_count(place: str, spec: ExperimentSpec) -> None:
    """A checkpoint that never reached the store must not decide where a trial goes on after it ran elsewhere."""
    storage = open_storage(place)
    prepare(storage, spec)
    storage.checkpoint(0).parent.mkdir(parents=True)
    storage.checkpoint(0).write_bytes(b"stale")
    assert not storage.fetch(storage.checkpoint(0))
    assert not storage.checkpoint(0).exists()
    storage.checkpoint(0).write_bytes(b"newer")
    storage.push(storage.checkpoint(0))
    storage.checkpoint(0).write_bytes(b"stale")
    assert storage.fetch(storage.checkpoint(0))
    assert storage.checkpoint(0).read_bytes() == b"newer"


def test_another_experiment_in_the_same_place_is_refused(place: str, spec: ExperimentSpec) -> None:
    prepare(open_storage(place), spec)
    with pytest.raises(RunError, match="holds results of another spec"):
        prepare(open_storage(place), validate_spec(tiny_spec(training={"epochs": 3})))


def test_a_run_of_a_preset_goes_on_with_its_values_written_out(tmp_path: Path) -> None:
    """What a preset gave is what counts, not that it came from one."""
    given = validate_spec({**tiny_spec(), "preset": "paper"})
    prepare(open_storage(str(tmp_path)), given)
    fields = given.model_dump(mode="json", exclude={"preset", "from_preset"})
    prepare(open_storage(str(tmp_path)), validate_spec(fields))
    fields["objective"]["weighting"]["normalizer"] = "log"
    with pytest.raises(RunError, match="holds results of another spec"):
        prepare(open_storage(str(tmp_path)), validate_spec(fields))


def test_a_bucket_that_is_not_there_is_explained(s3: S3) -> None:
    with pytest.raises(RunError, match="cannot use storage s3://nobucket/x: there is no bucket nobucket"):
        open_storage("s3://nobucket/x")


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (400, "ExpiredToken"), (404, "NoSuchBucket"), (507, "StorageFull")]
)
def test_what_does_not_pass_is_not_waited_for(
    place: str, spec: ExperimentSpec, store_that_says: Callable[..., str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:  # fmt: skip
    """The bucket is there when the run begins; then a right, a token or the bucket is gone."""
    storage = open_storage(place, on_away=pytest.fail)
    body = f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()
    endpoint = store_that_says(lambda: (status, body))
    remote = storage.store
    assert remote is not None
    from pyarrow import fs

    remote._fs = fs.S3FileSystem(access_key="a", secret_key="b", endpoint_override=endpoint, scheme="http", region="x")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match=r"AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|UNKNOWN)") as caught:
        remote.put(tmp_path / "file", "file", patience=30)
    assert not isinstance(caught.value, StorageAway)
    with pytest.raises(RunError, match="cannot write to storage s3://bucket/"):
        prepare(storage, spec)
    if status == 403:
        with pytest.raises(RunError, match="ACCESS_DENIED"), usable(storage):
            storage.take_up_log(storage.driver_log("1"))


def test_a_context_reaches_other_processes_without_its_connection(place: str, spec: ExperimentSpec) -> None:
    import cloudpickle

    context = RunContext(spec, place, "run", None)
    assert context.storage.location == place
    assert b"S3FileSystem" not in cloudpickle.dumps(context)
    assert cloudpickle.loads(cloudpickle.dumps(context)).storage.root == context.storage.root


def test_parquet_has_every_point_once_as_measured_last(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    first, second = Spool(storage.spool(0, "a"), trial=0), Spool(storage.spool(0, "b"), trial=0)
    first.append(1, 0.5, {"h_r": 1.0, "loss": float("nan")})
    first.append(2, 1.0, {"h_r": 2.0})
    second.append(2, 1.0, {"h_r": 2.5})
    second.append(3, 1.5, {"knn_top1": 0.5})
    second.append(3, 1.5, {"h_r": 3.0})
    write_points(storage, [0, 7])
    found = [(p.trial, p.step, p.epoch, p.values) for points in read_points(storage) for p in points]
    assert [(trial, step, epoch) for trial, step, epoch, _ in found] == [(0, 1, 0.5), (0, 2, 1.0), (0, 3, 1.5)]
    assert str(found[0][3]) == "{'h_r': 1.0, 'loss': nan}"
    assert [values for *_, values in found[1:]] == [{"h_r": 2.5}, {"h_r": 3.0, "knn_top1": 0.5}]


def test_an_address_keeps_its_keys_to_itself(s3: S3, caplog: pytest.LogCaptureFixture) -> None:
    for place in ("s3://id:top/secret@nobucket/x?scheme=http&secret_thing=top", "hdfs://id:top/secret@b/x"):
        with pytest.raises(RunError) as caught:
            open_storage(place)
        assert "top" not in f"{caught.value} {caught.value.__cause__} {caplog.text}"


def test_logs_and_checkpoints_in_an_object_store(
    place: str, spec: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(place)
    prepare(storage, spec)
    log = storage.trial_log(3)
    for part in ("one\n", "one\ntwo\n"):  # killed before it could push; the next attempt on this node does
        log.parent.mkdir(parents=True)
        log.write_text(part)
        prepare(storage, spec)
        assert not log.exists()
    other = other_node(place, tmp_path, monkeypatch)
    log = other.trial_log(3)
    other.take_up_log(log)
    assert log.read_text() == "one\ntwo\n"
    other.push_log(log)
    assert not log.exists()

    for number in (3, 4):
        other.checkpoint(number).parent.mkdir(parents=True, exist_ok=True)
        other.checkpoint(number).write_bytes(b"x")
        other.push(other.checkpoint(number))
    assert storage.checkpointed() == {3, 4}
    other.remove_checkpoint(3)
    assert storage.checkpointed() == {4}
    assert not other.checkpoint(3).exists()


def test_the_scratch_folder_is_this_user_s_alone(place: str, tmp_path: Path) -> None:
    """Its name is easily guessed: somebody else may have made it."""
    folder = open_storage(place).root.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    open_storage(place)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rename(tmp_path / "away")
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    another = open_storage(place).root.parent
    assert another != folder
    assert another.lstat().st_mode & 0o777 == 0o700
    assert open_storage(place).root.parent == another, "what other processes of this user find"
    assert not any((tmp_path / "elsewhere").iterdir())


def test_the_layout_knows_how_a_previous_checkpoint_is_called() -> None:
    assert previous_checkpoint(Path(layout.CHECKPOINT)).name == layout.PREVIOUS_CHECKPOINT
    assert Path(layout.PREVIOUS_CHECKPOINT).match(layout.CHECKPOINTS)
