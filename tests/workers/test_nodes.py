"""Nodes that cannot run trials: without adadim, with another version, without the data."""

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from ray import cloudpickle
from worker_harness import WorkerRun, tiny_spec

from workers.sweep.nodes import _inspector, _own_version, described

Start = Callable[..., WorkerRun]


def test_a_node_with_all_of_it_has_no_problem(tmp_path: Path) -> None:
    assert _inspector()(_own_version(), ("workers", "torch"), (str(tmp_path),), "/") == ""


def test_what_is_wrong_with_a_node_is_told_with_what_to_do(tmp_path: Path) -> None:
    inspect, own = _inspector(), _own_version()
    missing = inspect(own, ("workers", "no_such_package"), (), "/")
    assert missing == f"has no no_such_package: install adadim[workers]=={own} into {sys.executable} there"
    other = inspect("99.0", ("workers",), (), "/")
    assert other.startswith(f"has adadim {own}, this run 99.0: install adadim[workers]==99.0 into ")
    assert inspect(own, ("workers",), (str(tmp_path), "/no/such/set"), "/") == "", "other trials can run there"
    unseen = inspect(own, ("workers",), ("/no/such/set",), "/")
    assert unseen == "does not see /no/such/set: mount the data there under the same path"


def test_a_relative_path_is_looked_for_where_a_trial_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "roots" / "set").mkdir(parents=True)
    inspect, own = _inspector(), _own_version()
    assert inspect(own, (), ("set",), str(tmp_path)).startswith(f"does not see {tmp_path}/set: ")
    assert inspect(own, (), ("set",), str(tmp_path / "roots")) == ""
    monkeypatch.setenv("ADADIM_DATA_ROOTS", f"{tmp_path}:{tmp_path / 'roots'}")
    assert inspect(own, (), ("set",), str(tmp_path)) == "", "the node has roots, of which the second has it"


def test_the_question_reaches_a_node_without_adadim(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); from ray import cloudpickle; "
        "print(cloudpickle.loads(sys.stdin.buffer.read())('1.0', ('workers', 'torch'), (), '/'))"
    )
    # -S: what is installed is there, but not what is linked, as adadim is in a development environment.
    command = [sys.executable, "-S", "-c", code, sysconfig.get_paths()["purelib"]]
    question = cloudpickle.dumps(_inspector())
    done = subprocess.run(command, input=question, capture_output=True, check=True, cwd=tmp_path, timeout=120)
    assert done.stdout.decode().startswith("has no workers: install adadim[workers]==1.0 into ")


def test_nodes_with_the_same_problem_are_told_together() -> None:
    bad = [(f"node-{n}", "has no torch: install it") for n in range(7)] + [("gpu-1", "does not see /data: mount it")]
    assert described(bad) == (
        "node node-0, node-1, node-2, node-3, node-4 and 2 more has no torch: install it; "
        "node gpu-1 does not see /data: mount it"
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_without_the_data_fails_the_run_with_the_node_and_the_path(
    run_workers: Start, tmp_path: Path
) -> None:
    spec = tiny_spec(data={"dataset": "image_folder", "path": str(tmp_path / "none")}, training={"epochs": 50})
    run = run_workers(spec)
    assert run.finish() == 1
    assert f"does not see {tmp_path / 'none'}: mount the data there under the same path" in run.output
