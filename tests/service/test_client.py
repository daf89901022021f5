"""`import adadim` against a live service: what a notebook does, from submission to the encoder's file."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_harness import Running, points
from sqlalchemy import update
from test_reports import Reporter

import adadim
from adadim_core.storage.atomic import write_atomically
from service.database.tables import Experiment, Trial

SPEC = {"name": "notebook", "search": {"trials": 2, "space": {"training.lr": {"uniform": [0.1, 0.5]}}}}


@pytest.fixture
def connection(service: Running) -> Iterator[adadim.Connection]:
    with adadim.connect(service.url, service.token) as found:
        yield found


async def test_a_spec_is_taken_as_file_text_or_values(
    service: Running, connection: adadim.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("{name: of a file, data: {dataset: npz, path: set.npz}}")
    (tmp_path / "set.npz").write_bytes(b"")

    def submit() -> list[adadim.Experiment]:
        return [connection.submit(spec, priority=-2) for spec in (file, str(file), "name: of text", SPEC)]

    found = await asyncio.to_thread(submit)
    assert [one.name for one in found] == ["of a file", "of a file", "of text", "notebook"]
    assert [one["priority"] for one in found] == [-2] * 4
    assert found[0]["spec"]["data"]["path"] == str(tmp_path / "set.npz"), "made absolute, beside its spec"
    listed = await asyncio.to_thread(connection.experiments)
    assert [one.id for one in listed] == [4, 3, 2, 1]
    assert "notebook" in repr(listed)
    assert list(await asyncio.to_thread(connection.experiments, "project=x")) == []
    plan = await asyncio.to_thread(connection.plan, SPEC)
    assert plan["summary"] == "2 configurations x 1 seed = 2 trials"


async def test_errors_are_the_services_words(connection: adadim.Connection) -> None:
    with pytest.raises(adadim.ClientError, match="/trainig: unknown field"):
        await asyncio.to_thread(connection.submit, {"name": "a", "trainig": {}})
    with pytest.raises(adadim.ClientError, match=r"There is no experiment 4711\."):
        await asyncio.to_thread(connection.experiment, 4711)
    with pytest.raises(adadim.ClientError, match="cannot be written as JSON"):
        await asyncio.to_thread(connection.submit, {"name": "a", "training": {"lr": float("nan")}})


async def test_waiting_ends_with_the_experiment_and_shows_its_way(
    service: Running, connection: adadim.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = await Reporter.open(service)
    experiment = await asyncio.to_thread(connection.experiment, reporter.experiment_id)
    waiting = asyncio.create_task(asyncio.to_thread(experiment.wait))
    await reporter.accepted(trials=[{"number": 0, "state": "running", "epoch": 1, "epochs": 2}])
    await reporter.accepted(
        trials=[{"number": k, "state": "succeeded"} for k in range(3)], outcome={"state": "succeeded"}
    )
    async with asyncio.timeout(60):
        ended = await waiting
    assert ended.state == "succeeded"
    assert "succeeded: 3 succeeded" in capsys.readouterr().out.splitlines()[-1]
    assert (await asyncio.to_thread(ended.wait, progress=False)).state == "succeeded", "at once, when it has ended"


async def test_trials_curves_and_answer_are_tables(service: Running, connection: adadim.Connection) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(
        series=[points(0, [1, 2], [1.0, "NaN"]), points(1, [1, 2, 3], [2.0, 2.5, 3.0])],
        trials=[{"number": k, "state": "succeeded", "epoch": 2, "epochs": 2} for k in range(2)],
    )

    def read() -> None:
        experiment = connection.experiment(reporter.experiment_id)
        trials = experiment.trials()
        assert [trial.number for trial in trials] == [0, 1, 2]
        assert trials[1]["latest"] == {"h_r": 3.0}
        assert "h_r" in repr(trials).splitlines()[0]
        assert list(trials.to_pandas()["last.h_r"])[1] == 3.0
        assert "training.lr" in trials.to_arrow().column_names
        curves = experiment.metrics("h_r")
        frame = curves.to_pandas()
        assert list(frame.columns) == ["trial", "metric", "step", "epoch", "time", "value"]
        assert frame["value"].isna().sum() == 1
        assert list(frame[frame["trial"] == 1]["value"]) == [2.0, 2.5, 3.0]
        assert curves.to_arrow().num_rows == 5
        assert [series.total for series in trials[1].metrics()] == [3]
        answer = experiment.answer()
        table = answer.to_pandas()
        assert set(table["configuration"]) == {c.number for c in answer.configurations}
        assert table.set_index("configuration").loc[1, "h_r.mean"] == 3.0
        assert answer.to_arrow().num_rows == len(answer.configurations)
        assert answer.sentence in str(answer).replace("\n", " ")
        for shown in (experiment, trials, trials[0], answer, connection.experiments()):
            assert shown._repr_html_().startswith("<")
        assert experiment.best().number == 1, "not the one whose last value is not a number"

    await asyncio.to_thread(read)


async def test_text_of_others_is_no_html(service: Running, connection: adadim.Connection) -> None:
    experiment = await service.submit("{name: a}")
    async with service.context.database.transaction() as session:
        await session.execute(update(Trial).values(params={"<script>": "1"}))
    trials = await asyncio.to_thread(lambda: connection.experiment(experiment["id"]).trials())
    assert "<script>" in trials[0].label
    assert "<script>" not in trials._repr_html_()


async def test_what_failed_says_why_in_plain_text(service: Running, connection: adadim.Connection) -> None:
    number = (await service.submit("name: a"))["id"]
    async with service.context.database.transaction() as session:
        reason = "every trial failed\nRuntimeError: \x1b[2Jboom\n\nTraceback"
        await session.execute(update(Experiment).values(state="failed", state_reason=reason))
        await session.execute(update(Trial).values(state="failed", error="RuntimeError: \x1b[2Jboom\nTraceback"))
    experiment = await asyncio.to_thread(connection.experiment, number)
    assert repr(experiment).endswith(r"every trial failed: RuntimeError: \x1b[2Jboom>")
    trial = await asyncio.to_thread(experiment.trial, 0)
    assert repr(trial).endswith(r"failed: RuntimeError: \x1b[2Jboom>")


async def test_an_encoder_is_downloaded_whole_or_not_at_all(
    service: Running,
    connection: adadim.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_folder: Callable[[int], Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    number = (await service.submit("name: a"))["id"]
    trials = await asyncio.to_thread(lambda: connection.experiment(number).trials())
    with pytest.raises(adadim.ClientError, match="There is no encoder"):
        await asyncio.to_thread(trials[0].download_encoder)
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
    weights = bytes(range(256)) * 5000
    write_atomically(run_folder(number) / "trials/0000/encoder.safetensors", lambda file: file.write(weights))
    written = await asyncio.to_thread(trials[0].download_encoder)
    assert written.name == f"experiment-{number}-trial-0-encoder.safetensors"
    assert written.read_bytes() == weights


async def test_events_come_in_order_and_from_a_place(service: Running, connection: adadim.Connection) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(0, [1], [1.0])], trials=[{"number": 0, "state": "running"}])
    experiment = await asyncio.to_thread(connection.experiment, reporter.experiment_id)

    def take(after: int, count: int) -> list[adadim.Event]:
        events = experiment.events(after=after)
        return [next(events) for _ in range(count)]

    async with asyncio.timeout(30):
        first = await asyncio.to_thread(take, 0, 4)
        again = await asyncio.to_thread(take, first[0].id, 3)
    assert [event.id for event in first] == sorted({event.id for event in first})
    assert [event.id for event in again] == [event.id for event in first[1:]]
    assert "points" in {event.kind for event in first}
