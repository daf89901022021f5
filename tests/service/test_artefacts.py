"""What the service does in the storage, a folder or a bucket: encoders handed out, folders removed, reached or not."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dispatch_harness import act, dispatching
from service_harness import RAY_TOKEN, RayStandIn, Running, load, make_settings, parts, queue, until
from sqlalchemy import update

from adadim_core.storage.address import in_object_store
from adadim_core.storage.atomic import write_atomically
from adadim_core.storage.object_store import ObjectStore
from adadim_core.storage.reading import remove_run
from service.cli.doctor import examine
from service.database.tables import Experiment, Trial
from service.dispatch.service import start_attempt
from service.experiments import artefacts
from service.experiments import repository as experiments
from service.logs import driver
from service.logs.repository import kept
from service.settings import Settings, SettingsError
from tests.object_stores import S3


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    started = S3()
    yield started
    started.stop()


@pytest.fixture(params=["in the environment", "in the address"])
def bucket(request: pytest.FixtureRequest, server: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a storage in a bucket."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    if request.param == "in the environment":
        return "s3://bucket/runs/"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    return f"s3://bucket/runs?endpoint_override={server.address}&scheme=http"


def put(location: str, name: str, content: bytes) -> None:
    if not in_object_store(location):
        write_atomically(Path(location, name), lambda file: file.write(content))
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        ObjectStore(location).put(Path(file.name), name)


def names(location: str) -> list[str]:
    return sorted(ObjectStore(location).sizes())


@pytest.mark.parametrize(
    ("storage", "folder"),
    [
        ("/shared/a?b/", "/shared/a?b/adadim-k-7"),
        ("s3://bucket", "s3://bucket/adadim-k-7"),
        ("gs://bucket/runs/?retry_limit_seconds=5", "gs://bucket/runs/adadim-k-7?retry_limit_seconds=5"),
    ],
)
def test_every_experiment_has_a_folder_under_the_storage(storage: str, folder: str) -> None:
    settings = Settings.from_environ({"ADADIM_STORAGE": storage})
    assert artefacts.folder(settings, "adadim-k-7-3") == folder


@pytest.mark.parametrize("storage", ["ftp://host/a", "s3://", "s3:///a", "file:///a"])
def test_a_storage_that_cannot_be_used_is_refused_at_the_start(storage: str) -> None:
    with pytest.raises(SettingsError, match="s3://bucket"):
        Settings.from_environ({"ADADIM_STORAGE": storage})


def test_an_address_that_is_none_is_refused_in_words() -> None:
    with pytest.raises(SettingsError, match=r"^RAY_ADDRESS: should begin with http:// or https://$"):
        Settings.from_environ({"RAY_ADDRESS": "head:8265"})


async def test_deleting_an_experiment_empties_its_part_of_the_bucket(
    database_url: str, tmp_path: Path, ray: RayStandIn, bucket: str
) -> None:
    async with parts(database_url, tmp_path, ray, storage=bucket) as context:
        experiment_id = await queue(context)
        async with context.database.transaction() as session:
            key = await experiments.installation_key(session)
        own, other = (artefacts.folder(context.settings, artefacts.name(key, n)) for n in (experiment_id, 12))
        for location in (own, other):
            put(location, "trials/0000/checkpoint.pt", b"weights")
        await act(context, "delete", experiment_id)
        async with dispatching(context):

            async def gone() -> bool:
                async with context.database.transaction() as session:
                    return await session.get(Experiment, experiment_id) is None

            await until(gone)
        assert (names(own), names(other)) == ([], ["trials/0000/checkpoint.pt"])
        remove_run(own)  # once more is as good


async def test_a_bucket_that_is_not_there_is_said_without_its_keys(
    database_url: str, tmp_path: Path, ray: RayStandIn, server: S3
) -> None:
    storage = f"s3://id:secret@none/runs?endpoint_override={server.address}&scheme=http&region=us-east-1"
    async with parts(database_url, tmp_path, ray, storage=storage) as context:
        experiment_id = await queue(context)
        await act(context, "delete", experiment_id)
        async with dispatching(context):

            async def said() -> str | None:
                return (await load(context, experiment_id)).state_reason if experiment_id else None

            await until(said)
        reason = await said()
    assert "secret" not in f"{reason}{context.settings!r}"


async def test_the_doctor_asks_the_bucket(
    tmp_path: Path, database_url: str, ray: RayStandIn, server: S3, bucket: str
) -> None:
    shared = {"database_url": database_url, "ray_address": ray.address, "ray_auth_token": RAY_TOKEN}
    found = {f.name: f for f in await examine(make_settings(tmp_path, storage=bucket, **shared))}
    assert (found["storage"].ok, found["storage"].text) == (True, f"{bucket.partition('?')[0]} answers")
    missing = bucket.replace("bucket", "none")
    found = {f.name: f for f in await examine(make_settings(tmp_path, storage=missing, **shared))}
    assert found["storage"].ok is False
    assert "there is no bucket none" in found["storage"].text
    assert "ADADIM_STORAGE" in found["storage"].remedy


# -- encoders -----------------------------------------------------------------------------------------------------


async def a_trial(service: Running, state: str) -> tuple[str, str]:
    """Address of a trial and the place of its experiment."""
    experiment = await service.submit()
    trial = (await service.http.get(f"/api/v1/experiments/{experiment['id']}/trials")).json()["items"][0]
    async with service.context.database.transaction() as session:
        await session.execute(update(Trial).where(Trial.id == trial["id"]).values(state=state))
        key = await experiments.installation_key(session)
    location = artefacts.folder(service.context.settings, artefacts.name(key, experiment["id"]))
    return f"/api/v1/trials/{trial['id']}", location


@pytest.mark.parametrize("where", ["folder", "bucket"])
async def test_an_encoder_is_handed_out_whole(
    service: Running, where: str, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage = str(tmp_path / "storage") if where == "folder" else bucket
    monkeypatch.setattr(service.context, "settings", make_settings(tmp_path, storage=storage))
    trial, location = await a_trial(service, "succeeded")
    weights = bytes(range(256)) * 5_000
    put(location, "trials/0000/encoder.safetensors", weights)
    answer = await service.http.get(f"{trial}/encoder")
    assert (answer.status_code, answer.content) == (200, weights)
    assert answer.headers["content-length"] == str(len(weights))
    assert "encoder.safetensors" in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    ("state", "said"), [("running", "is running"), ("succeeded", "mount"), ("failed", "is failed")]
)
async def test_why_there_is_no_encoder_is_said(
    service: Running, state: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.context, "settings", make_settings(tmp_path))
    trial, _ = await a_trial(service, state)
    answer = await service.http.get(f"{trial}/encoder")
    assert answer.status_code == 404
    assert said in answer.json()["detail"]
    assert (await service.http.get("/api/v1/trials/4711/encoder")).status_code == 404


async def test_the_log_of_a_trial_comes_from_the_bucket_when_it_is_there(
    service: Running, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(service.context, "settings", make_settings(tmp_path, storage=bucket))
    trial, location = await a_trial(service, "succeeded")
    remove_run(location)  # another test's experiment had the same name
    log = await service.http.get(f"{trial}/logs")
    assert (log.status_code, "when the trial ends" in log.json()["detail"]) == (404, True)
    put(location, "trials/0000/log.1.txt", b"epoch 1\n")
    put(location, "trials/0000/log.txt", b"\x1b[31mepoch 2\x1b[0m\n")
    assert (await service.http.get(f"{trial}/logs")).text == "epoch 1\nepoch 2\n"


async def test_the_driver_s_own_log_is_kept_from_a_bucket(
    database_url: str, tmp_path: Path, ray: RayStandIn, bucket: str
) -> None:
    """Of a cluster that is gone with its logs."""
    async with parts(database_url, tmp_path, ray, storage=bucket) as context:
        experiment_id = await queue(context)
        async with context.database.transaction() as session:
            experiment = await session.get(Experiment, experiment_id)
            attempt, _ = await start_attempt(session, experiment)
        location = artefacts.folder(context.settings, attempt.submission_id)
        put(location, f"logs/attempt-{attempt.id}.1.log", b"the first words\n")
        put(location, f"logs/attempt-{attempt.id}.log", b"the last words\n")
        await driver.keep(context, attempt)
        async with context.database.transaction() as session:
            assert await kept(session, attempt.id) == ("the first words\nthe last words\n", 0)
        remove_run(location)


def plant(files: Path, token: Path) -> None:
    """What somebody may put in place of a trial's files."""
    token.write_text("adadim_admin_token")
    files.mkdir(parents=True)
    for name in ("encoder.safetensors", "log.txt"):
        (files / name).symlink_to(token)
    os.mkfifo(files / "log.1.txt")


async def test_links_and_fifos_in_the_storage_are_not_read(
    service: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who can write to the storage must not read the service's files through it, nor hold its threads."""
    monkeypatch.setattr(service.context, "settings", make_settings(tmp_path, storage=str(tmp_path / "storage")))
    trial, location = await a_trial(service, "succeeded")
    plant(Path(location, "trials/0000"), tmp_path / "token")
    assert (await service.http.get(f"{trial}/encoder")).status_code == 404
    for params in ({}, {"follow": True}):
        log = await service.http.get(f"{trial}/logs", params=params)
        assert (log.status_code, log.text) == (200, "")


@pytest.mark.slow
async def test_a_storage_that_is_away_asks_to_come_back(
    service: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    away = "s3://id:secret@bucket/runs?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    monkeypatch.setattr(service.context, "settings", make_settings(tmp_path, storage=away))
    trial, _ = await a_trial(service, "succeeded")
    answer = await service.http.get(f"{trial}/encoder")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "secret" not in answer.text
    log = await service.http.get(f"{trial}/logs")
    assert (log.status_code, log.headers["retry-after"]) == (503, "10")
    assert "secret" not in log.text
