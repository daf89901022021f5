"""The admin token of a database: one, whichever replica starts first, or that of a file."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from service_harness import add_token
from sqlalchemy import select, update
from typer.testing import CliRunner

from adadim.client import ClientError
from adadim.connection import _recorded_token, open_client
from service.auth.admin_token import AdminTokenUnusable, ensure_admin_token, replace_admin_token
from service.auth.service import authenticate
from service.cli.main import app
from service.database.engine import Database
from service.database.tables import Audit, Token
from service.secret import hash_token, new_token
from service.settings import Settings
from service.starting import CANNOT_START, why_not


async def admins(database: Database) -> list[Token]:
    """Admin tokens that are valid."""
    async with database.transaction() as session:
        query = select(Token).where(Token.role == "admin", Token.revoked_at.is_(None)).order_by(Token.id)
        return list((await session.scalars(query)).all())


async def valid(database: Database, token: str) -> bool:
    async with database.transaction() as session:
        return await authenticate(session, token.strip()) is not None


async def test_the_admin_token_is_in_a_file_for_its_owner_only_and_hashed_in_the_database(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    assert await ensure_admin_token(database, path) == path
    token = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    async with database.transaction() as session:
        (row,) = (await session.scalars(select(Token))).all()
    assert (row.name, row.role, row.expires_at) == ("admin", "admin", None)
    assert row.hash == hash_token(token)
    assert token not in repr(vars(row))


async def test_the_admin_token_stays_the_same_over_restarts_and_a_new_database(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    await ensure_admin_token(database, path)
    token = path.read_text()
    assert await ensure_admin_token(database, path) == path
    async with database.transaction() as session:
        await session.delete((await session.scalars(select(Token))).one())
    assert await ensure_admin_token(database, path) == path
    assert path.read_text() == token
    assert len(await admins(database)) == 1


async def test_replicas_that_start_together_make_one(database_url: str, tmp_path: Path) -> None:
    replicas = [Database(database_url) for _ in range(5)]
    paths = [tmp_path / str(k) / "token" for k in range(5)]
    for path in paths:
        path.parent.mkdir()
    found = await asyncio.gather(*(ensure_admin_token(d, p) for d, p in zip(replicas, paths, strict=True)))
    assert len(await admins(replicas[0])) == 1
    (made,) = [path for path in found if path is not None]
    assert [path for path in paths if path.exists()] == [made]
    assert await valid(replicas[0], made.read_text())
    for replica in replicas:
        await replica.close()


async def test_a_replica_without_the_token_says_where_it_is_and_how_to_get_one(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await ensure_admin_token(database, tmp_path / "token")
    (tmp_path / "other").mkdir()
    for there in ("", new_token()):  # an empty state directory, and one of another database
        if there:
            (tmp_path / "other" / "token").write_text(there)
        caplog.clear()
        assert await ensure_admin_token(database, tmp_path / "other" / "token") is None
        assert f"made in {tmp_path / 'token'} on " in caplog.text
        assert "`adadim token create NAME --role admin`" in caplog.text
        assert "`adadim token recover`" in caplog.text
        assert not there or not await valid(database, there), "nobody becomes an admin by a file that is there"
    assert len(await admins(database)) == 1


async def test_a_revoked_admin_token_does_not_come_back_at_the_next_start(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "token"
    await ensure_admin_token(database, path)
    leaked = path.read_text().strip()
    async with database.transaction() as session:
        await session.execute(update(Token).values(revoked_at=datetime.now(UTC)))
    await ensure_admin_token(database, path)
    fresh = path.read_text().strip()
    assert fresh != leaked
    assert path.stat().st_mode & 0o777 == 0o600
    assert await ensure_admin_token(database, path) == path
    assert path.read_text().strip() == fresh


async def test_an_admin_of_the_lab_s_is_one_too(database: Database, tmp_path: Path) -> None:
    """Once people have admin tokens of their own, the first may be revoked for good."""
    await ensure_admin_token(database, tmp_path / "token")
    await add_token(database, "admin", "carol")
    async with database.transaction() as session:
        await session.execute(update(Token).where(Token.name == "admin").values(revoked_at=datetime.now(UTC)))
    assert await ensure_admin_token(database, tmp_path / "token") is None
    assert [token.name for token in await admins(database)] == ["carol"]


# -- a file ---------------------------------------------------------------------------------------------------------


async def test_the_token_of_a_file_is_taken_and_none_is_made(database: Database, tmp_path: Path) -> None:
    given = tmp_path / "secret"
    given.write_text("0123456789abcdef" * 4 + "\n")
    for number in range(3):  # replicas with state directories of their own, and a restart
        assert await ensure_admin_token(database, tmp_path / f"{number}-token", given) == given
    assert [token.hash for token in await admins(database)] == [hash_token("0123456789abcdef" * 4)]
    assert not any((tmp_path / f"{number}-token").exists() for number in range(3))
    given.write_text("another" * 10)  # changed: that one is an admin's too, until the first is revoked
    await ensure_admin_token(database, tmp_path / "token", given)
    assert await valid(database, "another" * 10)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read .*: No such file"),
        (b"", "holds no token: one line of at least 32 characters"),
        (b"short", "holds no token"),
        (b"two lines of it\n" * 4, "holds no token"),
        ("ж".encode() * 40, "holds no token"),
        (b"\xff" * 40, "it is no text"),
    ],
)
async def test_a_file_without_a_token_is_told_at_the_start(
    database: Database, tmp_path: Path, content: bytes | None, said: str
) -> None:
    given = tmp_path / "secret"
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(AdminTokenUnusable, match=f"^ADADIM_ADMIN_TOKEN_FILE: .*{said}") as caught:
        await ensure_admin_token(database, tmp_path / "token", given)
    assert isinstance(caught.value, CANNOT_START)
    assert why_not(caught.value) == str(caught.value)
    assert await admins(database) == []


async def test_a_revoked_token_or_somebody_s_is_no_admin_s_by_being_in_the_file(
    database: Database, tmp_path: Path
) -> None:
    given = tmp_path / "secret"
    given.write_text(await add_token(database, "viewer"))
    with pytest.raises(AdminTokenUnusable, match="is a viewer's"):
        await ensure_admin_token(database, tmp_path / "token", given)
    given.write_text(new_token())
    await ensure_admin_token(database, tmp_path / "token", given)
    async with database.transaction() as session:
        await session.execute(update(Token).where(Token.role == "admin").values(revoked_at=datetime.now(UTC)))
    with pytest.raises(AdminTokenUnusable, match="was revoked; put another one there"):
        await ensure_admin_token(database, tmp_path / "token", given)


def test_the_setting_names_the_file(tmp_path: Path) -> None:
    environ = {"ADADIM_STATE_DIR": str(tmp_path), "ADADIM_ADMIN_TOKEN_FILE": "/run/secrets/admin"}
    assert Settings.from_environ(environ).admin_token_file == Path("/run/secrets/admin")


def test_the_command_line_finds_the_token_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADADIM_TOKEN", raising=False)
    monkeypatch.setenv("ADADIM_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("ADADIM_ADMIN_TOKEN_FILE", str(tmp_path / "secret"))
    with pytest.raises(ClientError, match=r"`adadim token create`.*`adadim token recover` replaces"):
        open_client("http://127.0.0.1:1")
    (tmp_path / "secret").write_text("the-token\n")
    assert _recorded_token(tmp_path) == "the-token"


# -- a lost one -----------------------------------------------------------------------------------------------------


async def test_a_lost_token_is_replaced_by_whoever_has_the_database(database: Database, tmp_path: Path) -> None:
    await ensure_admin_token(database, tmp_path / "token")
    lost = (tmp_path / "token").read_text()
    (tmp_path / "token").unlink()
    carol = await add_token(database, "admin", "carol")
    await replace_admin_token(database, tmp_path / "token")
    assert await valid(database, (tmp_path / "token").read_text())
    assert not await valid(database, lost)
    assert await valid(database, carol), "the lab's own are left alone"
    async with database.transaction() as session:
        actions = [row.action for row in await session.scalars(select(Audit).order_by(Audit.id))]
    assert actions == ["token.created", "token.revoked", "token.created"]


def test_recover_works_on_the_database_and_takes_no_token(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADADIM_TOKEN", raising=False)
    monkeypatch.setenv("ADADIM_STATE_DIR", str(tmp_path / "state"))
    umask = os.umask(0o077)
    try:
        nothing = CliRunner().invoke(app, ["token", "recover"])
        assert nothing.exit_code == 1
        assert "no database in" in nothing.stderr
        monkeypatch.setenv("DATABASE_URL", database_url)
        done = CliRunner().invoke(app, ["token", "recover"])
        assert done.exit_code == 0, done.output
        assert "A new admin token is in" in done.output
        assert (tmp_path / "state" / "token").stat().st_mode & 0o777 == 0o600
        monkeypatch.setenv("ADADIM_ADMIN_TOKEN_FILE", "/run/secrets/admin")
        from_file = CliRunner().invoke(app, ["token", "recover"])
        assert from_file.exit_code == 1
        assert "put another one there" in from_file.stderr
    finally:
        os.umask(umask)
