"""DATABASE_URL: libpq's parameters are honoured or named, and no part of a password is ever told."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.database.address import WrongAddress, read_address
from service.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@db/x", {"hosts": (("db", None),), "user": "u", "database": "x"}),
        ("postgres://db:5433/x", {"hosts": (("db", 5433),), "user": None}),
        ("POSTGRESQL+psycopg2://u@db/x", {"hosts": (("db", None),), "user": "u"}),
        ("postgresql:///x", {"hosts": ((None, None),), "database": "x"}),
        ("postgresql://u@[::1]:5433/x", {"hosts": (("::1", 5433),)}),
        ("postgresql://a:1,b:2/x", {"hosts": (("a", 1), ("b", 2))}),
        ("postgresql://a,b/x?port=7", {"hosts": (("a", 7), ("b", 7))}),
        ("postgresql://u@%2Frun%2Fpg/x", {"hosts": (("/run/pg", None),)}),
        ("postgresql://u@/x?host=/run/pg&port=5433", {"hosts": (("/run/pg", 5433),)}),
        ("postgresql://x?dbname=y&user=v", {"hosts": (("x", None),), "user": "v", "database": "y"}),
        ("  postgresql://db/x\n", {"database": "x"}),  # as files of secrets have it
        ("postgresql://db/x?connect_timeout=3", {"timeout_s": 3.0}),
        ("postgresql://db/x?connect_timeout=0", {"timeout_s": None}),
        ("postgresql://db/x", {"timeout_s": 10.0, "settings": {"application_name": "adadim"}}),
        ("postgresql://db/x?application_name=my%20lab", {"settings": {"application_name": "my lab"}}),
        (
            "postgresql://db/x?options=-csearch_path%3Dlab",
            {"settings": {"application_name": "adadim", "options": "-csearch_path=lab"}},
        ),
        (
            "postgresql://db/x?sslmode=require&target_session_attrs=read-write",
            {"driver": {"sslmode": "require", "target_session_attrs": "read-write"}},
        ),
        ("postgresql://db/x?ssl=true", {"driver": {"sslmode": "require"}}),
        ("postgresql://db/x?sslrootcert=system", {"driver": {"sslmode": "verify-full", "sslrootcert": "system"}}),
        (
            "postgresql://db/x?sslmode=require&channel_binding=require",
            {"driver": {"sslmode": "verify-full", "sslrootcert": "system"}, "by_certificate": True},
        ),
        (
            "postgresql://db/x?channel_binding=prefer&gssencmode=disable",
            {"driver": {}, "without_effect": ("gssencmode",)},
        ),
        ("postgresql://db/x?keepalives=1&keepalives_idle=30", {"without_effect": ("keepalives", "keepalives_idle")}),
        ("postgresql://db/x?user=a@b&password=p", {"user": "a@b"}),
    ],
)
def test_an_address_is_read_as_libpq_reads_it(url: str, expected: dict[str, object]) -> None:
    address = read_address(url)
    assert {name: getattr(address, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("mysql://u:hushedquiet@db/x", "this names MySQL"),
        ("sqlite:///home/me/x.db", "this names SQLite"),
        ("jdbc:postgresql://db/x", "this names JDBC"),
        ("host=db password=hushedquiet dbname=x", "should begin with postgresql://"),
        ('"postgresql://u:hushedquiet@db/x"', "should begin with postgresql://"),
        ("postgresql://u:hushed@quiet@db/x", "@ as %40"),
        ("postgresql://u:hushed/quiet@db/x", "/ as %2F"),
        ("postgresql://u:hushed?quiet@db/x", "? as %3F"),
        ("postgresql://u:hushed?quiet=hushed@db/x", "? as %3F"),
        ("postgresql://u:1hushed:quiet/@db/x", "%40"),
        ("postgresql://db:port/x", "number from 1 to 65535"),
        ("postgresql://db:70000/x", "number from 1 to 65535"),
        ("postgresql://a:1,b:2,c/x?port=1,2", "3 hosts and 2 ports"),
        ("postgresql://[::1/x", "a host cannot be read"),
        ("postgresql://a..b/x", "no name of a machine"),
        ("postgresql://db/x?sslmode=no-verify", "sslmode is one of disable"),
        ("postgresql://db/x?sslmode=require&sslrootcert=system", "takes sslmode=verify-full"),
        (
            "postgresql://db/x?sslmode=verify-full&sslrootcert=/not/there.pem",
            "sslrootcert: /not/there.pem: No such file",
        ),
        ("postgresql://db/x?passfile=/not/there", "passfile: /not/there: No such file"),
        ("postgresql://db/x?connect_timeout=soon", "whole number of seconds"),
        ("postgresql://db/x?schema=lab", "schema is no parameter"),
        ("postgresql://db/x?search_path=lab", "options=-csearch_path%3Dlab"),
        ("postgresql://db/x?pgbouncer=true", "pgbouncer is no parameter"),
        ("postgresql://db/x?gssencmode=require", "gssencmode=require is not supported"),
        ("postgresql://db/x?require_auth=scram-sha-256", "require_auth is not supported"),
        ("postgresql://db/x?hostaddr=10.0.0.1", "hostaddr is not supported: write the address as the host"),
        ("postgresql://db/x?service=lab", "service=lab: "),
        ("postgresql://db/x?channel_binding=maybe", "channel_binding is one of"),
        ("postgresql://u:p%00q@db/x", "zero byte"),
        ("postgresql://u:hushed\udcfcquiet@db/x", "is not UTF-8"),  # what a shell in Latin-1 hands over
        ("postgresql://u:hushed%FCquiet@db/x", "is not UTF-8"),
    ],
)
def test_what_cannot_be_honoured_is_named_with_what_to_write(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSERVICEFILE", "/not/there")
    with pytest.raises(SettingsError, match=f"^DATABASE_URL: .*{re.escape(words)}") as told:
        Settings.from_environ({"DATABASE_URL": url, "ADADIM_STATE_DIR": "/state"})
    assert "\n" not in str(told.value)
    assert "hushed" not in str(told.value)
    assert "quiet" not in str(told.value)


def test_no_database_url_is_the_embedded_one_and_an_empty_one_is_none() -> None:
    assert Settings.from_environ({"ADADIM_STATE_DIR": "/state"}).database_url is None
    with pytest.raises(SettingsError, match="DATABASE_URL: is empty"):
        Settings.from_environ({"ADADIM_STATE_DIR": "/state", "DATABASE_URL": ""})


def test_a_file_that_a_variable_of_libpq_names_is_looked_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", "/not/there")
    with pytest.raises(WrongAddress, match=r"^PGSSLROOTCERT: /not/there: No such file"):
        read_address("postgresql://db/x?sslmode=verify-ca")
    assert read_address("postgresql://db/x?sslrootcert=system").driver["sslrootcert"] == "system"
    assert read_address("postgresql:///x?host=/run/pg&sslmode=disable").driver["sslmode"] == "disable"  # the embedded


def test_a_service_file_is_read_below_what_the_address_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "services"
    file.write_text("[lab]\nhost=db.lab\nport=5433\ndbname=runs\nuser=carol\npassword=100%sure\nconnect_timeout=4\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    address = read_address("postgresql://dave@/?service=lab")
    assert (address.hosts, address.user, address.database) == ((("db.lab", 5433),), "dave", "runs")
    assert (address.arguments["password"], address.timeout_s) == ("100%sure", 4.0)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=6, max_size=30))
def test_whatever_the_password_is_no_part_of_it_is_told(password: str) -> None:
    """As it is, unencoded: the address is read, or refused in words that do not hold six characters of it."""
    try:
        told = repr(read_address(f"postgresql://carol:{password}@db.example.org/adadim"))
    except WrongAddress as error:
        told = str(error)
    words = "postgresql://user:password@host/database a character of the user or password means something in an address"
    parts = {password[n : n + 6] for n in range(len(password) - 5)}
    assert not [part for part in parts if part in told and part not in words and part not in read_words()]


def read_words() -> str:
    """What is told of every address, whoever's password it is."""
    told = [repr(read_address("postgresql://carol:p@db.example.org/adadim"))]
    for wrong in ("x@y@z/x", "db:port/x", "[x/x", "db/x?schema=lab", "a..b/x", "db/x?gssencmode=require", "d/x?pa=%00"):
        with pytest.raises(WrongAddress) as error:
            read_address(f"postgresql://{wrong}")
        told.append(str(error.value))
    return " ".join(told)
