"""From text to a spec: what is accepted, and that every bad input is refused with a place and a reason."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from adadim_core.spec import (
    MAX_SPEC_BYTES,
    ExperimentSpec,
    Problem,
    SpecError,
    parse_spec,
    plan_trials,
    trial_label,
    validate_spec,
)

Problems = Callable[..., list[Problem]]


def test_the_smallest_spec_gets_every_default() -> None:
    spec = parse_spec("name: first")
    assert spec == ExperimentSpec(name="first")
    assert (spec.retries, spec.training.epochs, spec.objective.dimension_loss.name) == (2, 100, "vicreg")


def test_yaml_and_json_give_the_same_spec(sweep_text: str) -> None:
    spec = parse_spec(sweep_text)
    assert parse_spec(spec.model_dump_json(), syntax="json") == spec
    assert parse_spec(sweep_text.encode()) == spec


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("1E-3", 1e-3), ("+1.5e-1", 0.15), (".5e-1", 0.05), ("2.e-1", 0.2), ("1", 1.0), ("0.25", 0.25)],
)
def test_numbers_are_read_as_a_reader_sees_them(text: str, number: float) -> None:
    assert parse_spec(f"{{name: a, training: {{lr: {text}}}}}").training.lr == number


def test_a_leading_zero_is_not_octal() -> None:
    assert parse_spec("{name: a, training: {seed: 010}}").training.seed == 10


def test_a_date_stays_the_text_it_looks_like() -> None:
    assert parse_spec("{name: a, description: 2025-05-18}").description == "2025-05-18"


@pytest.mark.parametrize(
    ("document", "pointer", "message"),
    [
        ({"name": "a", "trainig": {}}, "/trainig", "unknown field 'trainig'; allowed: version, name"),
        ({"name": "a", "trainig": {}}, "/trainig", "did you mean 'training'?"),
        ({"name": "a", "training": {"epoch": 3}}, "/training/epoch", "did you mean 'epochs'?"),
        ({"name": "a", "training": {"a/b~c": 3}}, "/training/a~1b~0c", "unknown field"),
        ({"name": "a", "training": {"epochs": "ten"}}, "/training/epochs", 'valid integer, not "ten"'),
        ({"name": "a", "training": {"epochs": 3.5}}, "/training/epochs", "valid integer"),
        ({"name": "a", "training": {"epochs": True}}, "/training/epochs", "valid integer, not true"),
        ({"name": "a", "training": [1]}, "/training", "dictionary"),
        ({"name": "a", "training": None}, "/training", "dictionary"),
        ({"name": "a", "data": {"dataset": "imagenet"}}, "/data/dataset", "'digits'"),
        ({"name": "a", "training": {"lr": 0}}, "/training/lr", "greater than 0"),
        ({"name": "a", "training": {"epochs": 0}}, "/training/epochs", "greater than or equal to 1"),
        ({"name": "a", "training": {"lr": float("nan")}}, "/training/lr", "finite number"),
        ({"name": "a", "training": {"lr": float("inf")}}, "/training/lr", "finite number"),
        (
            {"name": "a", "training": {"epochs": 5, "warmup_epochs": 5}},
            "/training",
            "warmup_epochs (5) must be smaller than epochs (5)",
        ),
        ({"name": "a", "training": {"accumulate": 129}}, "", "fewer than two of 256 images per part; use at most 128"),
        (
            {"name": "a", "objective": {"weighting": {"policy": "adaptive", "floor": 0.9, "ceiling": 0.1}}},
            "/objective/weighting",
            "floor (0.9) must not be above ceiling (0.1)",
        ),
        ({"name": "a", "objective": {"dimension_loss": {"name": "x"}}}, "/objective/dimension_loss/name", "'vicreg'"),
        ({"name": "a", "objective": {"weighting": {"alpha": 0.5}}}, "/objective/weighting", "needs policy"),
        (
            {"name": "a", "objective": {"weighting": {"policy": "fixed", "alpha": 2}}},
            "/objective/weighting/alpha",
            "less than or equal to 1",
        ),
        (
            {"name": "a", "objective": {"weighting": {"policy": "fixed", "floor": 0}}},
            "/objective/weighting/floor",
            "unknown field 'floor'; allowed: policy, alpha",
        ),
        ({"name": "a", "data": {"augmentation": {"crop_scale": [0.1]}}}, "/data/augmentation/crop_scale", "at least 2"),
        (
            {"name": "a", "data": {"augmentation": {"crop_scale": [0.1, 2.0]}}},
            "/data/augmentation/crop_scale/1",
            "less than or equal to 1",
        ),
        ({"name": "a", "resources": {"gpus_per_worker": "all"}}, "/resources/gpus_per_worker", "'auto'"),
        ({"name": "a", "resources": {"gpus_per_worker": 1.5}}, "/resources", "whole number above 1"),
        (
            {"name": "a", "resources": {"workers": 3}},
            "",
            "must be a multiple of the processes of a trial",
        ),
        ({}, "/name", "this field is required"),
        ({"name": ""}, "/name", "at least 1 character"),
        ({"name": "../../etc/passwd"}, "/name", "pattern"),
        ({"name": "a\n"}, "/name", "pattern"),
        ({"name": "a", "version": 2}, "/version", "1"),
        ({"name": "a", "description": "nul \0 byte"}, "/description", "NUL"),
        ({"name": "a", "nul\0": 1}, "", "NUL"),
        ({"name": "a", "training": {"<<": {"lr": 1}}}, "/training/<<", "unknown field '<<'"),
        ({"name": "a", "description": "half a pair \ud800"}, "/description", "surrogate"),
        ([], "", "a spec is a mapping of fields"),
        (None, "", "a spec is a mapping of fields"),
        ("text", "", "a spec is a mapping of fields"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    problems: Problems, document: Any, pointer: str, message: str
) -> None:
    found = problems(document if isinstance(document, dict | list) else json.dumps(document))
    assert [p.pointer for p in found] == [pointer]
    assert message in found[0].message


@pytest.mark.parametrize(
    ("search", "pointer", "message"),
    [
        ({"training.lrr": {"uniform": [0.1, 1.0]}}, "training.lrr", "did you mean 'lr'?"),
        (
            {"objective.weighting.alpha": {"uniform": [0.0, 1.0]}},
            "objective.weighting.alpha",
            "(here: adaptive) has no",
        ),
        ({"retries": {"integer": [0, 3]}}, "retries", "a search path starts with data, model"),
        ({"search.seed": {"integer": [0, 3]}}, "search.seed", "a search path starts with"),
        ({"training.lr.x": {"uniform": [0.1, 1.0]}}, "training.lr.x", "it has no fields"),
        ({"training..lr": {"uniform": [0.1, 1.0]}}, "training..lr", "has no field ''"),
        (
            {"training.lr": {"uniform": [0.1, 101.0]}},
            "training.lr",
            "training.lr = 101.0 is not allowed: should be less",
        ),
        ({"training.lr": {"uniform": [0.0, 1.0]}}, "training.lr", "training.lr = 0.0 is not allowed"),
        ({"training.epochs": {"uniform": [20.0, 30.0]}}, "training.epochs", "valid integer"),
        ({"training.optimizer": {"choice": ["sgd", "adam"]}}, "training.optimizer", "'adamw', 'lars' or 'sgd'"),
        (
            {"objective.weighting": {"choice": [{"policy": "fixed", "alpha": 7}]}},
            "objective.weighting",
            "less than or equal to 1",
        ),
        ({"training.lr": {"normal": [0.0, 1.0]}}, "training.lr", "should be one of {uniform: [low, high]}"),
        ({"training.lr": 0.5}, "training.lr", "should be one of {uniform: [low, high]}"),
        ({"training.lr": {"uniform": [0.5, 0.1]}}, "training.lr/uniform", "low < high"),
        ({"training.lr": {"uniform": [0.5]}}, "training.lr/uniform", "at least 2 items"),
        ({"training.lr": {"uniform": [0.1, "x"]}}, "training.lr/uniform/1", "valid number"),
        ({"training.lr": {"log_uniform": [0.0, 0.1]}}, "training.lr/log_uniform/0", "greater than 0"),
        ({"training.lr": {"uniform": [0.1, 0.5], "step": 1}}, "training.lr/step", "unknown field 'step'"),
        ({"training.lr": {"choice": []}}, "training.lr/choice", "at least 1 item"),
        ({"training.lr": {"choice": [0.1, 0.1]}}, "training.lr/choice", "lists a value twice"),
    ],
)
def test_a_wrong_search_path_or_bound_is_named_at_submission(
    problems: Problems, search: dict[str, Any], pointer: str, message: str
) -> None:
    found = problems({"name": "a", "search": {"trials": 3, "space": search}})
    expected = f"/search/space/{pointer}"
    # a rule of a whole section is reported where the section is
    assert found[0].pointer in (expected, expected.rpartition("/")[0])
    assert message in found[0].message


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"space": {"training.lr": {"uniform": [0.1, 1.0]}}}, "a random search needs trials"),
        ({"trials": 1001, "space": {"training.lr": {"uniform": [0.1, 1.0]}}}, "less than or equal to 1000"),
        ({"algorithm": "grid", "space": {"training.lr": {"uniform": [0.1, 1.0]}}}, "a grid takes choices only"),
        ({"algorithm": "grid", "trials": 2, "space": {"training.lr": {"choice": [0.1]}}}, "as many trials as"),
        ({"trials": 2, "space": {}}, "at least 1 item"),
        (
            {"trials": 2, "space": {"training": {"choice": [{}]}, "training.lr": {"choice": [0.1]}}},
            "training and training.lr overlap",
        ),
        (
            {
                "algorithm": "grid",
                "space": {
                    "training.seed": {"choice": list(range(40))},
                    "training.epochs": {"choice": list(range(20, 60))},
                },
            },
            "more than 1000 combinations",
        ),
    ],
)
def test_a_search_that_contradicts_itself_is_refused(problems: Problems, search: dict[str, Any], message: str) -> None:
    found = problems({"name": "a", "search": search})
    assert found[0].pointer.startswith("/search")
    assert message in found[0].message


def test_values_that_fit_singly_but_not_together_are_refused(problems: Problems) -> None:
    space = {"training.epochs": {"choice": [5, 50]}, "training.warmup_epochs": {"choice": [1, 20]}}
    found = problems({"name": "a", "search": {"algorithm": "grid", "space": space}})
    assert [p.pointer for p in found] == ["/search/space"]
    assert "trial 1: training.epochs = 5, training.warmup_epochs = 20 is not allowed" in found[0].message


def test_values_that_fit_together_are_accepted_though_one_contradicts_a_default() -> None:
    space = {"training.accumulate": {"choice": [200, 250]}, "training.batch_size": {"choice": [600, 700]}}
    spec = validate_spec({"name": "a", "search": {"algorithm": "grid", "space": space}})
    assert spec.training.batch_size == 256  # which no accumulate of the sweep would allow


def test_the_warm_up_is_a_tenth_of_a_short_training() -> None:
    for epochs, warmup in ((1, 0), (5, 0), (30, 3), (400, 10)):
        assert validate_spec({"name": "a", "training": {"epochs": epochs}}).training.warmup == warmup


BOMB = "name: a\nx: &a [1,1]\ny: &b [*a,*a,*a]\nz: [*b,*b,*b]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not valid YAML: "),
        ("name: a\n\tb: 1", "line 2, column 1"),
        ("name: a\nname: b", "'name' is set twice at line 2"),
        ("{name: a, training: {lr: 0.1, lr: 0.2}}", "'lr' is set twice"),
        (BOMB, "aliases are not allowed"),
        ("name: a\n? [x]\n: 1", "field names must be text"),
        ("name: a\n1: 2", "field names must be text"),
        ("--- {name: a}\n--- {name: b}", "found another document at line 2"),
        ("!!python/object/apply:os.system ['true']", "tags"),
        ("{name: a, description: !!binary aGVsbG8=}", "tags"),
        ("{name: a, description: !!bool maybe}", "tags"),
        ("{name: a, description: !!int ''}", "tags"),
        ("{name: a, description: !!timestamp never}", "tags"),
        ("!!map [1, 2]", "tags"),
        ("!local {name: a}", "tags"),
        ("name: " + "[" * 100, "nested deeper than 32 levels"),
        ("{a: " * 40 + "1" + "}" * 40, "nested deeper than 32 levels"),
        ("name: a\0b", "not valid YAML"),
        ("", "a spec is a mapping of fields"),
        ("- 1", "a spec is a mapping of fields"),
        (b"name: \xff\xfe", "not UTF-8 text: byte 0xff at line 1, column 7; save it as UTF-8"),
        ("name: gr\u00fcn".encode("latin-1"), "byte 0xfc at line 1, column 9"),
        ("name: a\n# gr\u00fcn".encode("cp1252"), "byte 0xfc at line 2, column 5"),
        *(("name: a".encode(form), "UTF-16 or UTF-32 text") for form in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        ("name: a\ntraining:\n\tepochs: 3", "line 3, column 1; YAML is indented with spaces, not with tabs"),
        ("name: a\ntraining: {epochs:\u00a03}", "a no-break space (U+00A0) stands where a space is needed at line 2"),
        ("name: a\n\u2003training: {epochs: 3}", "em space (U+2003)"),
        ("x" * (MAX_SPEC_BYTES + 1), f"a spec has at most {MAX_SPEC_BYTES}"),
        ("\ud800", "not UTF-8 text"),
    ],
)
def test_text_that_is_not_yaml_of_the_strict_kind_is_refused(
    problems: Problems, text: str | bytes, message: str
) -> None:
    (found,) = problems(text)
    assert found.pointer == ""
    assert message in found.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "a"', "not valid JSON"),
        ("name: a", "not valid JSON"),
        ('{"name": "a", "name": "b"}', "'name' is set twice"),
        ('{"name": "a", "training": {"lr": NaN}}', "NaN"),
        ('{"name": "a", "training": {"lr": -Infinity}}', "Infinity"),
        ('{"name": "a", "training": {"seed": ' + "9" * 5000 + "}}", "not valid JSON"),
        ("[" * 30_000, "not valid JSON|nested deeper"),
        ("[" * 30_000 + "]" * 30_000, "nested deeper than 32 levels"),
        ('{"a":' * 40 + "1" + "}" * 40, "nested deeper than 32 levels"),
        ('{"name": "a", "description": "\\u0000"}', "NUL"),
        ('\ufeff{"name": "a"}', "not valid JSON"),
    ],
)
def test_text_that_is_not_strict_json_is_refused(problems: Problems, text: str, message: str) -> None:
    (found,) = problems(text, syntax="json")
    assert any(part in found.message for part in message.split("|"))


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("{name: a, training: {epochs: 0x" + "f" * 20_000 + "}}", "yaml"),
        ("{name: a, training: {epochs: " + "9" * 20_000 + "}}", "yaml"),
        ("{name: a, training: {lr: " + "1:" * 1000 + "1.5}}", "yaml"),
        ("{name: a, training: {log_every_steps: " + "9" * 300 + "}}", "yaml"),
        ("{name: a, objective: {mutual_information: {start_epoch: " + "9" * 30 + "}}}", "yaml"),
        ("{name: a, evaluation: {every_epochs: " + "9" * 30 + "}}", "yaml"),
        ("{name: a, objective: {dimension_loss: {name: vicreg, variance: " + "9" * 400 + "}}}", "yaml"),
        ("{name: a, search: {trials: 1, space: {training.lr: {uniform: [0.1, " + "9" * 400 + "]}}}}", "yaml"),
        ("{name: a, search: {trials: 1, space: {training.seed: {integer: [1, " + "9" * 400 + "]}}}}", "yaml"),
        ('{"name": "a", "training": {"lr": 1e999}}', "json"),
        ('{"name": "a", "training": {"lr": ' + "9" * 400 + "}}", "json"),
        ('{"name": "a", "search": {"trials": 1, "space": {"training.lr": {"choice": [1e999]}}}}', "json"),
        ('{"name": "a", "\\ud800": 1}', "json"),
    ],
)
def test_numbers_no_machine_holds_are_a_spec_error(problems: Problems, text: str, syntax: str) -> None:
    for problem in problems(text, syntax=syntax):
        problem.pointer.encode()  # can be sent
        problem.message.encode()
        assert len(problem.message) < 2000


@pytest.mark.parametrize(
    "text",
    [
        "name: " + "1" * 60_000,
        "name: " + "1" * 60_000 + "x",
        "name: " + "1" * 30_000 + "e" + "1" * 30_000,
        "name: " + "1:" * 30_000 + "1",
        "name: " + "1_" * 30_000,
        "{" * 60_000,
        "- " * 30_000,
        "a: " + "&x " * 20_000,
        "search: {trials: 1000, space: {"
        + ",".join(f"training.seed{i}: {{integer: [0, 9]}}" for i in range(1000))
        + "}}",
        "{name: a, search: {trials: 1, space: {training.lr: {choice: ["
        + ",".join(f"{{x: {i}}}" for i in range(900))
        + "]}, model.projector: {choice: ["
        + ",".join(f"{{y: {i}}}" for i in range(900))
        + "]}}}}",
    ],
)
def test_no_text_of_allowed_size_takes_long_to_refuse(text: str) -> None:
    assert len(text) <= MAX_SPEC_BYTES
    started = time.process_time()
    with pytest.raises(SpecError):
        parse_spec(text)
    assert time.process_time() - started < 2.0


def test_no_search_of_allowed_size_takes_long_to_accept() -> None:
    paths = ["training.seed", "model.projector.out", "training.log_every_steps", "evaluation.knn_k"]
    values = ",".join(str(value) for value in range(2, 252))
    space = ", ".join(f"{path}: {{choice: [{values}]}}" for path in paths)
    started = time.process_time()
    spec = parse_spec(f"{{name: a, search: {{trials: 1000, space: {{{space}}}}}}}")
    assert spec.search is not None
    for trial in plan_trials(spec):
        trial_label(spec, trial.params)
    assert time.process_time() - started < 4.0


def test_at_most_twenty_problems_are_listed(problems: Problems) -> None:
    assert len(problems({"name": "a", **{f"x{i}": 1 for i in range(100)}})) == 20


def test_the_error_as_text_names_every_problem(problems: Problems) -> None:
    with pytest.raises(SpecError, match=r"^/retries: should be .*; /trainig: unknown field"):
        validate_spec({"name": "a", "trainig": {}, "retries": -1})
