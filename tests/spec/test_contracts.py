"""The JSON Schema of the spec, and the worker report: the two contracts other programs are written against."""

import json
import math
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from adadim_core.spec import ExperimentSpec, SpecError, json_schema, parse_spec, report_binary, validate_spec
from adadim_core.spec.report import (
    MAX_POINTS_PER_REPORT,
    Report,
    Series,
    decode_float,
    encode_float,
)


def test_the_json_schema_is_a_valid_schema_of_2020_12() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    json.dumps(schema, allow_nan=False)


@pytest.mark.parametrize(
    "document",
    [
        {"name": "a"},
        {"name": "a", "training": {"epochs": 20, "lr": 1}},
        {"name": "a", "objective": {"weighting": {"policy": "linear", "start": 0.2}}},
        {"name": "a", "objective": {"dimension_loss": {"name": "barlow_twins"}}},
        {"name": "a", "resources": {"gpus_per_worker": 0.5}},
        {"name": "a", "search": {"trials": 2, "space": {"training.lr": {"uniform": [0.1, 0.2]}}}},
        {"name": "a", "search": {"algorithm": "grid", "space": {"training.seed": {"choice": [1, 2]}}}},
        {},
        {"name": "a", "extra": 1},
        {"name": "bad/name"},
        {"name": "a", "training": {"epochs": "20"}},
        {"name": "a", "training": {"lr": 0}},
        {"name": "a", "objective": {"weighting": {"policy": "step"}}},
        {"name": "a", "data": {"dataset": "imagenet"}},
        {"name": "a", "search": {"trials": 2, "space": {}}},
        {"name": "a", "search": {"trials": 2, "space": {"training.lr": {"normal": [0, 1]}}}},
        {"name": "a", "search": {"trials": 0, "space": {"training.lr": {"uniform": [0.1, 0.2]}}}},
    ],
)
def test_schema_and_parser_agree(document: dict[str, Any]) -> None:
    valid = jsonschema.Draft202012Validator(json_schema()).is_valid(document)
    try:
        validate_spec(document)
    except SpecError:
        assert not valid
    else:
        assert valid


def test_a_stored_spec_satisfies_the_schema(sweep_text: str) -> None:
    jsonschema.validate(parse_spec(sweep_text).model_dump(mode="json"), json_schema())


def test_every_field_says_what_it_is_or_has_a_name_that_does() -> None:
    assert json_schema()["$defs"]["TrainingSpec"]["properties"]["lr"]["description"] == "Peak learning rate."


@pytest.mark.parametrize(
    ("number", "text"),
    [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (1.5, 1.5), (0.0, 0.0), (None, None)],
)
def test_floats_travel_as_json(number: float | None, text: Any) -> None:
    assert encode_float(number) == text
    back = decode_float(text)
    assert back == number or (math.isnan(back) and math.isnan(number or 0.0))


def test_a_report_round_trips_with_values_json_does_not_know() -> None:
    report = Report(
        series=[Series(trial=0, steps=[1, 2, 3], epochs=[0.1, 0.2, 0.3], times=[1.0, 2.0, 3.0],
                       values={"loss": [math.nan, math.inf, -math.inf], "h_r": [None, 1.0, None]})]
    )  # fmt: skip
    text = report.model_dump_json()
    assert json.loads(text)["series"][0]["values"]["loss"] == ["NaN", "Infinity", "-Infinity"]
    back = Report.model_validate_json(text).series[0].values
    assert math.isnan(back["loss"][0] or 0.0)
    assert back["loss"][1:] == [math.inf, -math.inf]
    assert back["h_r"] == [None, 1.0, None]
    assert report.series[0].point_count == 4


def _series(**changes: Any) -> dict[str, Any]:
    return {"trial": 0, "steps": [1], "epochs": [0.0], "times": [0.0], "values": {"loss": [1.0]}} | changes


@pytest.mark.parametrize(
    "report",
    [
        {"series": [_series(steps=[1, 2])]},
        {"series": [_series(values={"loss": [1.0, 2.0]})]},
        {"series": [_series(values={})]},
        {"series": [_series(values={"Loss!": [1.0]})]},
        {"series": [_series(values={"loss": ["1.0"]})]},
        {"series": [_series(values={"loss": [True]})]},
        {"series": [_series(steps=[-1])]},
        {"series": [_series(steps=[2**63])]},
        {"series": [_series(steps=[1.0])]},
        {"series": [_series(trial=-1)]},
        {"series": [_series(trial=2**31)]},
        {"series": [_series(epochs=[1e300])]},
        {"trials": [{"number": 0, "state": "sleeping"}]},
        {"trials": [{"number": 0, "state": "running", "epoch": 2**40}]},
        {"trials": [{"number": 0, "state": "running", "epochs": 2**40}]},
        {"outcome": {"state": "lost"}},
        {"outcome": {"state": "failed", "error": "x" * 20_001}},
        {"heartbeat": True},
    ],
)
def test_a_report_that_cannot_be_stored_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Report.model_validate(report)


@pytest.mark.parametrize("text", ["/data/한국", "cats 🐈", "𠮷野家", r"C:\udata", r"C:\u0000", "x" * 16_000])
def test_text_of_any_language_may_be_a_value(text: str) -> None:
    values = {"data.path": text}
    report = Report.model_validate({"trials": [{"number": 0, "state": "running", "params": values}]})
    assert report_binary.split(report_binary.encode(report))[0].trials[0].params == values


def test_facts_of_a_data_set_are_counted_in_characters() -> None:
    facts = {"classes": [f"{'龍' * 200}{k}" for k in range(100)], "note": "字" * 100_000}
    assert Report(data={"aa": facts}).data["aa"] == facts


@pytest.mark.parametrize("text", ["half a pair \ud83d", "\udc80", "nul \0", "x" * 16_384])
def test_text_that_no_database_takes_is_refused_in_values(text: str) -> None:
    for params in ({"data.path": text}, {text: 1}):
        with pytest.raises(
            ValidationError, match=r"half of a surrogate pair|at most 16384 characters, none of them NUL"
        ):
            Report.model_validate({"trials": [{"number": 0, "state": "running", "params": params}]})


def test_a_report_has_bounded_points() -> None:
    steps = list(range(MAX_POINTS_PER_REPORT // 2 + 1))
    part = {"steps": steps, "epochs": [0.0] * len(steps), "times": [0.0] * len(steps)}
    series = [_series(trial=t, values={"loss": [0.0] * len(steps)}, **part) for t in (0, 1)]
    with pytest.raises(ValidationError, match=f"at most {MAX_POINTS_PER_REPORT} are allowed"):
        Report.model_validate({"series": series})


def test_a_spec_never_changes_once_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ExperimentSpec(name="a").retries = 3


def test_importing_the_spec_imports_nothing_heavy() -> None:
    code = "import sys, adadim_core.spec; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in found
    assert not {"torch", "numpy", "ray", "sklearn", "httpx", "fastapi", "sqlalchemy"} & set(found)
