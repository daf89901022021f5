"""Times that people read are their machine's own and name its zone; what programs read stays UTC."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_harness import Running, add_token
from test_command_line import Adadim, adadim  # noqa: F401 - a fixture

from service.cli import times
from workers.log import OutputLog


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


def test_a_time_is_this_machines_own(zone: Callable[[str], None]) -> None:
    zone("Asia/Tokyo")
    assert times.second("2026-11-26T18:13:05.123456Z") == "2026-11-27 03:13:05"
    assert times.minute("2026-11-26T18:13:05+00:00") == "2026-11-27 03:13"
    assert times.day("2026-11-26T18:13:05Z") == "2026-11-27"
    assert times.headed("created", ["2026-11-26T18:13:05Z", None]) == "created (JST)"
    assert times.headed("created", []) == "created"
    zone("Europe/Berlin")
    assert times.headed("time", ["2026-07-01T12:00:00Z", "2026-12-01T12:00:00Z"]) == "time (CEST/CET)"
    zone("UTC")
    assert times.headed("time", ["2026-07-01T12:00:00Z"]) == "time (UTC)"


def test_a_line_of_a_trials_log_says_how_far_from_utc_it_is(zone: Callable[[str], None], tmp_path: Path) -> None:
    zone("Asia/Tokyo")
    log = OutputLog(tmp_path / "log.txt")
    log.line("noted")
    log.close()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0900  noted\n", (tmp_path / "log.txt").read_text())


async def test_lists_name_the_zone_and_json_is_utc(
    adadim: Adadim,  # noqa: F811
    service: Running,
    zone: Callable[[str], None],
) -> None:
    number = str((await service.submit())["id"])
    admin = await add_token(service.context.database, "admin", "root")
    zone("Asia/Tokyo")
    for command in (["list"], ["history", number], ["token", "list"]):
        told = await adadim(*command, env={"COLUMNS": "160", "ADADIM_TOKEN": admin})
        assert told.exit_code == 0, told.output
        assert "(JST)" in told.output
    told = await adadim("token", "list", env={"COLUMNS": "160", "ADADIM_TOKEN": admin})
    assert "created (JST)" in told.output
    made = await adadim("token", "create", "carol", env={"COLUMNS": "160", "ADADIM_TOKEN": admin})
    assert re.search(r"valid until \d{4}-\d\d-\d\d \(JST\)\.", made.output), made.output
    created = (await service.experiment(int(number)))["created_at"]
    assert created.endswith(("Z", "+00:00"))
    assert f'"{created}"' in (await adadim("list", "--json")).output
    assert times.minute(created) in (await adadim("list", env={"COLUMNS": "160"})).output
