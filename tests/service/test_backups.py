"""A backup restored is the same database and an installation of its own; what is no archive changes nothing."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from service_harness import RAY_TOKEN, RayStandIn, Running, Worker, add_token, client, points, serving, until
from sqlalchemy import text
from typer.testing import CliRunner

from adadim_core.storage.runs import rename_run, sizes_of_runs
from service.app import create_app
from service.backups import repository
from service.backups import service as backups
from service.backups.archive import ArchiveError, Reader, storage_line
from service.backups.service import BackupError, back_up, restore, take_storage
from service.cli.main import app as command_line
from service.database.engine import Database
from service.settings import Settings
from tests.object_stores import s3, s3_server  # noqa: F401 - fixtures
from tests.service.test_migrations import _upgrade_to, differences

SWEEP = "{name: NAME, search: {trials: 2, space: {training.lr: {uniform: [0.1, 0.2]}}}}"
ODD = ["NaN", "Infinity", "-Infinity", 0.1, -1.5e-300, 1e300]


@pytest.fixture
async def original(
    start_service: Callable[..., Any], ray: RayStandIn, quick_dispatch: None
) -> tuple[Running, dict[str, int]]:
    """A service with an experiment in each of the states that matter, by name, all of them with points but the last."""
    service: Running = await start_service(ray, slots=10)
    ids = {}
    for name in ("succeeded", "running", "starting", "pausing", "deleted"):
        ids[name] = (await service.submit(SWEEP.replace("NAME", name)))["id"]
    await until(lambda: len(ray.jobs) == 5, "the jobs")
    workers = {}
    for job in ray.jobs.values():
        name = next(name for name, number in ids.items() if job.submission_id.split("-")[2] == str(number))
        workers[name] = Worker.of(service.context, job)
        if name != "starting":
            await workers[name].report(series=[points(0, [1, 2, 3, 4, 5, 6], ODD), points(1, [7], [ids[name]], "loss")])
    await workers["succeeded"].report(outcome={"state": "succeeded"})
    ray.end(ray.job_of(ids["succeeded"]), "SUCCEEDED", "")
    ray.stubborn = True
    await service.http.post(f"/api/v1/experiments/{ids['pausing']}/pause")
    await service.http.delete(f"/api/v1/experiments/{ids['deleted']}?confirm=true")
    service.context.settings.__dict__["slots"] = 1  # what comes now waits
    ids["queued"] = (await service.submit(SWEEP.replace("NAME", "queued")))["id"]
    return service, ids


async def exports(url: str, token: str, ids: dict[str, int]) -> dict[str, str]:
    found = {}
    async with client(url, token) as http:
        for name, number in ids.items():
            answer = await http.get(f"/api/v1/experiments/{number}/points.csv")
            found[name] = answer.text if answer.status_code == 200 else str(answer.status_code)
    return found


async def key_of(database: Database) -> str:
    async with database.connect() as connection:
        return str((await connection.execute(text("SELECT key FROM installation"))).scalar_one())


async def test_a_restored_copy_has_every_point_and_leaves_the_originals_jobs_alone(
    original: tuple[Running, dict[str, int]], ray: RayStandIn, empty_database_url: str, tmp_path: Path
) -> None:
    service, ids = original
    database = service.context.database
    archive = tmp_path / "backup.zip"
    manifest = await back_up(database, str(tmp_path / "storage"), archive)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert {table.name: table.rows for table in manifest.tables}["experiments"] == len(ids)
    before = await exports(service.url, service.token, ids)
    assert before["running"].count("\n") == 8

    copy = Database(empty_database_url)
    with Reader(archive) as reader:
        restored = await restore(copy, reader)
    assert await differences(copy) == []
    assert await key_of(copy) == restored.key != await key_of(database)
    assert restored.paused == 4
    token = await add_token(copy, "admin")
    await copy.close()

    stops = {name: job.stops for name, job in ray.jobs.items()}
    jobs = set(ray.jobs)
    ray.stubborn = False  # from here on whoever is told to stop does
    settings = Settings(
        state_dir=tmp_path / "copy", database_url=empty_database_url, ray_address=ray.address,
        ray_auth_token=RAY_TOKEN, slots=10,
    )  # fmt: skip
    # The original's dispatcher goes on telling those two to stop; nobody else's job may end.
    others = [name for name in stops if name.split("-")[2] not in (str(ids["pausing"]), str(ids["deleted"]))]
    async with serving(create_app(settings, "http://127.0.0.1:1"), lifespan=True) as url, client(url, token) as http:
        states = {}
        for name, number in ids.items():
            states[name] = (await http.get(f"/api/v1/experiments/{number}")).json().get("state")

        async def gone() -> bool:
            return (await http.get(f"/api/v1/experiments/{ids['deleted']}")).status_code == 404

        await until(gone, "the deletion to go on")
        assert {name: state for name, state in states.items() if name != "deleted"} == {
            "succeeded": "succeeded", **dict.fromkeys(("running", "starting", "pausing", "queued"), "paused"),
        }  # fmt: skip
        kept = {name: number for name, number in ids.items() if name != "deleted"}
        after = await exports(url, token, kept)
        assert after == {name: before[name] for name in kept}

        # It goes on where somebody says so, under names of its own; a number that was given is not given again.
        assert (await http.post(f"/api/v1/experiments/{ids['running']}/resume")).status_code == 200
        await until(lambda: set(ray.jobs) - jobs, "the copy's job")
        (mine,) = set(ray.jobs) - jobs
        assert mine.startswith(f"adadim-{restored.key}-{ids['running']}-")
        new = (await http.post("/api/v1/experiments", content="name: new")).json()
        assert new["id"] > max(ids.values())
    assert {name: ray.jobs[name].stops for name in others} == {name: stops[name] for name in others}
    assert (await service.experiment(ids["running"]))["state"] == "running"


async def test_a_backup_of_an_earlier_schema_is_brought_to_this_one(
    empty_database_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic.script import ScriptDirectory

    earlier = ScriptDirectory.from_config(backups.alembic_config()).get_revision("head").down_revision
    old = Database(empty_database_url)
    await _upgrade_to(old, earlier)
    with pytest.raises(BackupError, match=f"the database's schema is {earlier}, this version's is"):
        await back_up(old, str(tmp_path), tmp_path / "refused.zip")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    with monkeypatch.context() as patch:
        patch.setattr(ScriptDirectory, "get_current_head", lambda _: earlier)
        await back_up(old, str(tmp_path), tmp_path / "old.zip")
    with Reader(tmp_path / "old.zip") as reader:
        assert reader.manifest.revision == earlier
        full = Database(database_url)
        with pytest.raises(BackupError, match="the database is not empty"):
            await restore(full, reader)
        await full.close()
        async with old.transaction() as session:
            await session.execute(text("DROP SCHEMA public CASCADE"))
            await session.execute(text("CREATE SCHEMA public"))
        await restore(old, reader)
        assert await differences(old) == []
        await old.close()


Change = Callable[[dict[str, bytes]], None]


def manifest_with(**changes: Any) -> Change:
    def change(members: dict[str, bytes]) -> None:
        members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | changes).encode()

    return change


def table_with(table: str, **changes: Any) -> Change:
    def change(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        next(entry for entry in manifest["tables"] if entry["name"] == table).update(changes)
        members["manifest.json"] = json.dumps(manifest).encode()

    return change


def other_bytes(members: dict[str, bytes]) -> None:
    content = bytearray(members["tables/metrics.copy"])
    content[-8] ^= 1
    members["tables/metrics.copy"] = bytes(content)


def renamed(members: dict[str, bytes]) -> None:
    members["../../etc/passwd"] = members.pop("tables/metrics.copy")


def other_rows(members: dict[str, bytes]) -> None:
    """A table's rows in another's place, with the checksums of what they are."""
    manifest = json.loads(members["manifest.json"])
    tables = {table["name"]: table for table in manifest["tables"]}
    members["tables/metrics.copy"] = members["tables/tokens.copy"]
    tables["metrics"] |= {key: tables["tokens"][key] for key in ("bytes", "sha256", "rows")}
    members["manifest.json"] = json.dumps(manifest).encode()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda members: members.pop("manifest.json"), "has no manifest"),
        (lambda members: members.update(extra=b"x"), "members are not those of its manifest"),
        (lambda members: members.pop("tables/trials.copy"), "members are not those of its manifest"),
        (renamed, "members are not those of its manifest"),
        (manifest_with(format=2), "its format is not 1"),
        (manifest_with(more=1), "manifest is wrong at more"),
        (manifest_with(installation="a'; DROP TABLE x"), "manifest is wrong at installation"),
        (manifest_with(tables=[]), "members are not those of its manifest"),
        (table_with("metrics", name='metrics"; DROP TABLE experiments'), "manifest is wrong at tables"),
        (table_with("metrics", columns=["id"]), "tables are not those of its schema"),
        (table_with("metrics", rows=99), "table metrics has 2 rows, not 99"),
        (table_with("metrics", bytes=5), "metrics.copy is not what was written"),
        (table_with("metrics", bytes=10**12), "metrics.copy is not what was written"),
        (table_with("metrics", sequences={"name": 7}), "metrics.name is no identity"),
        (other_bytes, "metrics.copy is not what was written|does not fit its schema"),
        (other_rows, "table metrics does not fit its schema"),
        (lambda members: members.update({"storage.jsonl": b"[1]\n"}), "storage.jsonl is not what was written"),
    ],
)
async def test_an_archive_that_is_not_what_it_says_changes_nothing(
    change: Change, told: str, database: Database, empty_database_url: str, tmp_path: Path
) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO metrics (name) VALUES ('a'), ('b')"))
    await add_token(database, "viewer")
    await back_up(database, str(tmp_path), tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as good:
        members = {name: good.read(name) for name in good.namelist()}
    change(members)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        for name, content in members.items():
            bad.writestr(name, content)
    await refused(tmp_path / "bad.zip", told, empty_database_url)


@pytest.mark.parametrize("cut", ["half", "twice", "text", "folder"])
async def test_a_file_that_is_no_archive_changes_nothing(
    cut: str, database: Database, empty_database_url: str, tmp_path: Path
) -> None:
    await back_up(database, str(tmp_path), tmp_path / "good.zip")
    content = (tmp_path / "good.zip").read_bytes()
    bad = tmp_path / "bad.zip"
    if cut == "half":
        bad.write_bytes(content[: len(content) // 2])
    elif cut == "text":
        bad.write_text("a backup")
    elif cut == "twice":
        bad.write_bytes(content)
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(bad, "a") as archive:
            archive.writestr("manifest.json", b"{}")
    else:
        bad.mkdir()
        with pytest.raises(IsADirectoryError):
            Reader(bad)
        return
    await refused(bad, "cannot be restored", empty_database_url)


async def refused(archive: Path, told: str, url: str) -> None:
    database = Database(url)
    with pytest.raises(ArchiveError, match=told), Reader(archive) as reader:
        await restore(database, reader)
    async with database.connect() as connection:
        assert await repository.columns(connection) == {}
    await database.close()


async def test_a_revision_that_nobody_knows_is_a_later_versions(
    database: Database, empty_database_url: str, tmp_path: Path
) -> None:
    await back_up(database, str(tmp_path), tmp_path / "good.zip")
    with Reader(tmp_path / "good.zip") as reader:
        reader.manifest = reader.manifest.model_copy(update={"revision": "9999"})
        copy = Database(empty_database_url)
        with pytest.raises(BackupError, match=r"schema \(9999\) this version does not know"):
            await restore(copy, reader)
        await copy.close()


def _storage_of(key: str, tmp_path: Path) -> tuple[str, dict[str, bytes]]:
    """A storage with files of an installation, which are returned, and of others."""
    files = {
        f"adadim-{key}-7/trials/0000/result.json": b"{}",
        f"adadim-{key}-7/logs/a b.log": b"12345",
        f"adadim-{key}-12/results.json": b"123",
    }
    for name, content in (files | {"adadim-other-7/results.json": b"not ours", "readme": b"x"}).items():
        path = tmp_path / "storage" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(tmp_path / "storage"), files


def test_a_storages_list_follows_no_link(tmp_path: Path) -> None:
    storage, files = _storage_of("k", tmp_path)
    (tmp_path / "storage" / "adadim-k-7" / "link").symlink_to("/etc/passwd")
    (tmp_path / "storage" / "adadim-k-8").symlink_to("/etc")
    odd = os.fsdecode(b"adadim-k-7/\xff\n.log")
    (tmp_path / "storage" / odd).write_bytes(b"1")
    assert sizes_of_runs(storage, "adadim-k-") == {n: len(c) for n, c in files.items()} | {odd: 1}
    assert json.loads(storage_line(odd, 1)) == [odd, 1]
    assert sizes_of_runs(str(tmp_path / "nowhere"), "adadim-k-") == {}


@pytest.mark.parametrize("place", ["folder", "bucket"])
async def test_the_copy_takes_the_folders_and_says_what_they_lack(
    place: str, request: pytest.FixtureRequest, database: Database, empty_database_url: str, tmp_path: Path
) -> None:
    old = await key_of(database)
    storage, files = _storage_of(old, tmp_path)
    if place == "bucket":
        from pyarrow import fs

        request.getfixturevalue("s3")
        fs.copy_files(f"file://{storage}", f"s3://bucket/{tmp_path.name}")
        storage = f"s3://bucket/{tmp_path.name}"
    assert sizes_of_runs(storage, f"adadim-{old}-") == {name: len(content) for name, content in files.items()}
    manifest = await back_up(database, storage, tmp_path / "backup.zip")
    assert manifest.storage_files == len(files)

    gone = f"adadim-{old}-12/results.json"
    rename_run(storage, f"adadim-{old}-12", "elsewhere")
    copy = Database(empty_database_url)
    with Reader(tmp_path / "backup.zip") as reader:
        restored = await restore(copy, reader)
        assert await take_storage(storage, reader, restored) == [gone]
    await copy.close()
    found = sizes_of_runs(storage, "")
    taken = {name.replace(old, restored.key) for name in files if name != gone}
    assert taken | {"elsewhere/results.json", "adadim-other-7/results.json"} == {n for n in found if "/" in n}
    with pytest.raises(FileExistsError):
        rename_run(storage, f"adadim-{restored.key}-7", "elsewhere")


def test_both_are_one_command_each(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    archive = tmp_path / "backup.zip"
    run = CliRunner().invoke
    here = {"ADADIM_STATE_DIR": str(tmp_path / "state")}
    made = run(command_line, ["backup", str(archive)], env=here | {"DATABASE_URL": database_url})
    assert made.exit_code == 0, made.output
    assert f"{archive}: 0 experiments with 0 trials" in made.output
    again = run(command_line, ["backup", str(archive)], env=here | {"DATABASE_URL": database_url})
    assert again.exit_code == 1
    assert "name another file" in again.output
    assert [path.name for path in tmp_path.iterdir()] == ["backup.zip"]
    restored = run(command_line, ["restore", str(archive)], env=here | {"DATABASE_URL": empty_database_url})
    assert restored.exit_code == 0, restored.output
    assert "restored 0 experiments" in restored.output
    twice = run(command_line, ["restore", str(archive)], env=here | {"DATABASE_URL": empty_database_url})
    assert (twice.exit_code, "the database is not empty" in twice.output) == (1, True)
    archive.write_text("no archive")
    bad = run(command_line, ["restore", str(archive)], env=here | {"DATABASE_URL": empty_database_url})
    assert (bad.exit_code, "cannot be restored" in bad.output) == (1, True)
    assert "Traceback" not in bad.output
