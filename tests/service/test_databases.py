"""Databases that people have: each works, or is refused before anything is written, in one line with a remedy."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from fronts import PGBOUNCER, front, make_authority, pgbouncer
from typer.testing import CliRunner

from service.cli.main import app
from service.database.address import read_address
from service.database.check import DatabaseUnusable, _server_trouble, check_database
from service.database.engine import Database

PASSWORD = "hushed@quiet/100%"
COMMANDS = ("serve", "doctor", "migrate", "token recover")
"""Whatever opens the database."""
MARK = "CREATE TABLE alembic_version (version_num varchar(32) primary key)"
ENCODED = "hushed%40quiet%2F100%25"
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="takes pgbouncer")


class Lab(SimpleNamespace):
    """A database of its own, owned by a user with a password, at a TCP port."""

    admin: asyncpg.Connection
    """The superuser, in that database."""
    name: str
    folder: str
    """Of the server's socket."""
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://lab:{ENCODED}@127.0.0.1:{self.port}/{self.name}"

    async def tables(self) -> list[tuple[str, str]]:
        rows = await self.admin.fetch("SELECT schemaname, tablename FROM pg_tables ORDER BY 1, 2")
        return [(row[0], row[1]) for row in rows if row[0] not in ("pg_catalog", "information_schema")]


@pytest.fixture
async def lab(empty_database_url: str) -> AsyncIterator[Lab]:
    admin = await asyncpg.connect(empty_database_url)
    parsed = urlsplit(empty_database_url)
    folder = parse_qs(parsed.query)["host"][0]
    name = parsed.path.strip("/")
    if _ask_for_password(Path(await admin.fetchval("SHOW hba_file"))):
        await admin.execute("SELECT pg_reload_conf()")
        await admin.execute(f"CREATE ROLE lab LOGIN PASSWORD '{PASSWORD}'")
    await admin.execute(f"ALTER DATABASE {name} OWNER TO lab")
    async with front(lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432"), postgres=True) as port:
        yield Lab(admin=admin, name=name, folder=folder, port=port)
    await admin.close()


def _ask_for_password(hba: Path) -> bool:
    """Have the server ask lab for its password; False if it does so already."""
    line = "local all lab scram-sha-256\n"
    if (before := hba.read_text()).startswith(line):
        return False
    hba.write_text(line + before)
    return True


async def refusal(url: str) -> Any:
    with pytest.raises(DatabaseUnusable) as refused:
        await check_database(read_address(url))
    assert "\n" not in str(refused.value)
    assert "hushed" not in str(refused.value)
    return refused.value.trouble


async def adadim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, url: str) -> tuple[int, str]:
    """A command with this DATABASE_URL: exit code and all it printed."""
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("ADADIM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    result = await asyncio.to_thread(CliRunner().invoke, app, command.split())
    return result.exit_code, " ".join(result.output.split())  # where lines are folded is not what it tells


@pytest.mark.parametrize(
    ("query", "setting", "value"),
    [
        ("application_name=my%20lab&connect_timeout=5&channel_binding=prefer", "application_name", "my lab"),
        ("fallback_application_name=lab&sslmode=prefer&keepalives=1", "application_name", "lab"),
        (
            "options=-cwork_mem%3D5MB%20-c%20geqo%3Doff&target_session_attrs=read-write",
            "work_mem",
            "5MB",
        ),
        ("target_session_attrs=prefer-standby", "jit", "off"),
    ],
)
async def test_parameters_reach_the_server(lab: Lab, query: str, setting: str, value: str) -> None:
    url = f"{lab.url}?{query}"
    facts = await check_database(read_address(url))
    assert (facts.version.split(".")[0], facts.revision) == ("18", None)
    database = Database(url)
    async with database.connect() as connection:
        found = (await connection.exec_driver_sql(f"SHOW {setting}")).scalar_one()
    await database.close()
    assert found == value


async def test_the_host_that_answers_is_taken_and_one_that_is_silent_takes_its_own_time_only(lab: Lab) -> None:
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    who, _, where = lab.url.partition("@")
    hosts = f"127.0.0.1:1,127.0.0.1:{port},{where.partition('/')[0]}"
    await check_database(read_address(f"{who}@{hosts}/{lab.name}?connect_timeout=3"))
    silent.close()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            "CREATE TABLE experiments (experiment_id serial primary key, name text)",
            "something else (public: experiments)",
        ),
        ("CREATE TABLE trials (trial_id serial primary key)", "something else (public: trials)"),
        ("CREATE TABLE notes (id int)", "something else (public: notes)"),
        (f"{MARK}; INSERT INTO alembic_version VALUES ('bd07f7e963c5')", "something else (public: alembic_version)"),
        (  # of a program that numbers its revisions as we do
            f"{MARK}; INSERT INTO alembic_version VALUES ('0003'); CREATE TABLE users (id int)",
            "something else (public: alembic_version, users)",
        ),
        ("CREATE VIEW overview AS SELECT 1", "something else (public: overview)"),
    ],
)
async def test_the_tables_of_something_else_are_recognised_and_left(
    lab: Lab, made: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await lab.admin.execute(f"SET ROLE lab; {made}; RESET ROLE")
    before = await lab.tables()
    for command in COMMANDS:
        code, told = await adadim(monkeypatch, tmp_path, command, lab.url)
        assert code == 1
        assert words in told
        assert "give AdaDim a database of its own" in told
        assert "Traceback" not in told
    assert await lab.tables() == before
    assert not (tmp_path / "state").exists()


async def test_what_extensions_brought_and_what_other_schemas_hold_is_nobodys_business(lab: Lab) -> None:
    await lab.admin.execute("CREATE TABLE spatial_ref_sys (id int); ALTER EXTENSION plpgsql ADD TABLE spatial_ref_sys")
    await lab.admin.execute("CREATE SCHEMA mlflow; CREATE TABLE mlflow.experiments (id int)")
    assert (await check_database(read_address(lab.url))).revision is None
    await lab.admin.execute("CREATE TABLE public.notes (id int); CREATE SCHEMA adadim AUTHORIZATION lab")
    own = f"{lab.url}?options=-csearch_path%3Dadadim"
    database = Database(own)
    await check_database(database.address)
    await database.migrate()
    await database.close()
    assert ("adadim", "trials") in await lab.tables()
    assert (await check_database(read_address(own))).revision is not None


@pytest.mark.parametrize(
    ("change", "words", "remedy"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "(9999)", "install the version that wrote it"),
        ("ALTER TABLE trials OWNER TO postgres", "lacks rights on AdaDim's tables", "use the user who made them"),
        ("UPDATE alembic_version SET version_num = '0001'; ALTER TABLE trials OWNER TO postgres",
         "lacks rights on AdaDim's tables", "use the user who made them"),
        ("ALTER DATABASE {name} SET default_transaction_read_only = on", "read-only for lab", "RESET"),
        ("ALTER DATABASE {name} SET search_path = nowhere", "has no schema of search_path (nowhere)", "CREATE SCHEMA"),
    ],
)  # fmt: skip
async def test_a_schema_of_ours_that_cannot_be_used_is_told(lab: Lab, change: str, words: str, remedy: str) -> None:
    database = Database(lab.url)
    await database.migrate()
    await database.close()
    for statement in change.format(name=lab.name).split("; "):
        await lab.admin.execute(statement)
    found = await refusal(lab.url)
    assert words in found.text
    assert remedy in found.remedy
    assert not found.may_pass


async def test_rights_an_encoding_and_a_pooler_that_cannot_be_used_are_told(lab: Lab) -> None:
    await lab.admin.execute(MARK)  # which lab may not read
    assert "something else (public: alembic_version)" in (await refusal(lab.url)).text
    await lab.admin.execute(f"DROP TABLE alembic_version; ALTER DATABASE {lab.name} OWNER TO postgres")
    await lab.admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    found = await refusal(lab.url)
    assert "lab may not make tables in schema public" in found.text
    await lab.admin.execute(f"REVOKE CONNECT ON DATABASE {lab.name} FROM PUBLIC")
    assert "lacks rights for us" in (await refusal(lab.url)).text
    await lab.admin.execute(f"UPDATE pg_database SET datallowconn = false WHERE datname = '{lab.name}'")
    assert "takes no connections" in (await refusal(lab.url)).text
    await lab.admin.execute("DROP DATABASE IF EXISTS latin")
    await lab.admin.execute(
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    )
    latin = await refusal(lab.url.replace(f"/{lab.name}", "/latin"))
    await lab.admin.execute("DROP DATABASE latin WITH (FORCE)")
    assert "stores text as LATIN1" in latin.text
    assert "ENCODING 'UTF8'" in latin.remedy


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"version": "PostgreSQL 12.22 on x86_64", "major": 12}, "is PostgreSQL 12; AdaDim needs 13 or later"),
        ({"version": "CockroachDB CCL v25.2.1 (x86_64-linux)"}, "is CockroachDB CCL, not PostgreSQL"),
        ({"encoding": "SQL_ASCII"}, "stores text as SQL_ASCII"),
        ({"standby": True, "read_only": True}, "is a standby, which takes no changes"),
        ({"read_only": True}, "is read-only for carol"),
        ({"home": None}, "no schema of search_path (nowhere) that is open to carol"),
        ({}, ""),
    ],
)
def test_what_no_server_here_is_like_is_told_too(answers: dict[str, Any], words: str) -> None:
    server = {
        "version": "PostgreSQL 15.18 on x86_64", "major": 15, "encoding": "UTF8", "standby": False, "read_only": False,
        "me": "carol", "path": "nowhere", "home": "public", "may_create": True,
    }  # fmt: skip
    found = _server_trouble(server | answers, read_address("postgresql://carol@db/x"))
    assert words in str(found or "")
    assert found is None or "\n" not in str(found)


async def test_who_is_not_let_in_is_told_why_and_no_password(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for old, new, words in (
        (ENCODED, "hushed-and-wrong", "refuses the password"),
        (ENCODED, PASSWORD, "write @ as %40"),
        ("lab:", "nobody:", "nobody"),
        (f"/{lab.name}", "/absent", 'is not there (database "absent" does not exist)'),
        (f"/{lab.name}", f"/{lab.name}?options=-cnonsense%3D1", "refuses what options= sets"),
        (f"/{lab.name}", f"/{lab.name}?sslmode=require", "offers no TLS, which sslmode=require asks for"),
        (f"/{lab.name}", f"/{lab.name}?sslmode=verify-full&sslrootcert=system", "offers no TLS"),
    ):
        for command in COMMANDS:
            code, told = await adadim(monkeypatch, tmp_path, command, lab.url.replace(old, new))
            assert code == 1
            assert words in told
            assert "Traceback" not in told
            assert not any(part in told for part in ("hushed", "quiet", "100%25"))


@pytest.mark.parametrize(("name", "value"), [("PGPORT", "port"), ("PGSSLMODE", "always")])
async def test_variables_of_libpq_that_will_not_do_are_told(
    lab: Lab, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert not (await refusal(f"postgresql://lab:x@127.0.0.1/{lab.name}")).may_pass


async def test_a_database_that_may_come_is_told_from_one_that_never_will(lab: Lab, tmp_path: Path) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    comes = [
        f"postgresql://u@127.0.0.1:1/{lab.name}",
        "postgresql://u@host.invalid/x",
        f"postgresql://u@/x?host={tmp_path}",
    ]
    servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for answer in (web, hang_up, lambda *_: None)]
    web_page, closed, silent = [f"postgresql://u@127.0.0.1:{s.sockets[0].getsockname()[1]}/x" for s in servers]
    comes += [closed, f"{silent}?connect_timeout=1"]
    await lab.admin.execute("ALTER ROLE lab CONNECTION LIMIT 1")
    comes += [lab.url, f"{lab.url}?target_session_attrs=standby"]
    for url in comes:
        found = await refusal(url)
        assert found.may_pass, (url, found)
    await lab.admin.execute("ALTER ROLE lab CONNECTION LIMIT -1")
    never = (
        web_page,
        lab.url.replace(ENCODED, "x"),
        lab.url.replace(f"/{lab.name}", "/absent"),
        f"{lab.url}?sslmode=require",
    )
    for url in never:
        assert not (await refusal(url)).may_pass
    for server in servers:
        server.close()


def _at(server: asyncio.Server) -> str:
    return f"postgresql://u@127.0.0.1:{server.sockets[0].getsockname()[1]}/x?connect_timeout=1"


async def test_tls_is_checked_as_asked_and_told_as_what_is_wrong(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority(tmp_path)

    def opener() -> Any:
        return asyncio.open_unix_connection(f"{lab.folder}/.s.PGSQL.5432")

    async def at(tls: ssl.SSLContext, query: str, host: str = "localhost") -> str:
        async with front(opener, tls, postgres=True) as port:
            url = f"postgresql://lab:{ENCODED}@{host}:{port}/{lab.name}?{query}"
            try:
                await check_database(read_address(url))
            except DatabaseUnusable as error:
                return f"may pass: {error}" if error.trouble.may_pass else str(error)
            return "works"

    good, ca = authority.server("localhost"), f"sslrootcert={authority.file}"
    assert await at(good, "sslmode=require") == "works"
    assert await at(good, f"sslmode=verify-full&{ca}") == "works"
    assert await at(good, f"sslmode=require&channel_binding=require&{ca}") == "works"
    assert "sslrootcert=" in await at(good, "sslmode=require&channel_binding=require")
    assert "channel_binding=require checks the certificate" in await at(good, "channel_binding=require")
    assert "as its certificate names it" in await at(good, f"sslmode=verify-full&{ca}", "127.0.0.1")
    assert await at(good, f"sslmode=verify-ca&{ca}", "127.0.0.1") == "works"
    assert "renew the server's certificate" in await at(
        authority.server("localhost", days=-1), f"sslmode=verify-ca&{ca}"
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert await at(good, "sslrootcert=system") == "works"
    assert await at(good, "sslmode=require&channel_binding=require") == "works"


@needs_pgbouncer
async def test_pgbouncer_works_by_session_and_is_refused_by_transaction(lab: Lab, tmp_path: Path) -> None:
    users = {"lab": PASSWORD}
    async with pgbouncer(tmp_path / "session", lab.port, users, pool_mode="session") as port:
        url = lab.url.replace(str(lab.port), str(port))
        database = Database(url)
        await check_database(database.address)
        await database.migrate()
        async with database.connect() as connection:
            assert (await connection.exec_driver_sql("SHOW jit")).scalar_one() == "off"
        await database.close()
        found = await refusal(f"{url}?options=-csearch_path%3Dlab")
        assert "refuses what options= sets" in found.text
    for mode in ("transaction", "statement"):
        async with pgbouncer(tmp_path / mode, lab.port, users, pool_mode=mode) as port:
            found = await refusal(lab.url.replace(str(lab.port), str(port)))
            assert "lends a connection for a transaction at a time" in found.text
            assert "pool_mode = session" in found.remedy
    async with pgbouncer(tmp_path / "small", lab.port, users, pool_mode="session", default_pool_size="1") as port:
        found = await refusal(lab.url.replace(str(lab.port), str(port)) + "?connect_timeout=5")
        assert "lets us in, but does not answer" in found.text
