"""Search spaces: the plan of trials, its numbering, its labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from adadim_core.spec import (
    ExperimentSpec,
    SpecError,
    TrialPlan,
    parse_spec,
    plan_trials,
    trial_label,
    validate_spec,
)
from adadim_core.spec.experiment import set_paths


def test_a_spec_without_search_is_one_trial() -> None:
    assert plan_trials(ExperimentSpec(name="a")) == [TrialPlan(0, {})]


def test_a_grid_takes_choices_as_written_and_the_last_path_of_the_alphabet_fastest() -> None:
    spec = parse_spec(
        """
        name: grid
        search:
          algorithm: grid
          space:
            training.seed: {choice: [2, 1]}
            training.optimizer: {choice: [sgd, lars, adamw]}
        """
    )
    plan = plan_trials(spec)
    assert [trial.number for trial in plan] == list(range(6))
    assert [tuple(trial.params.values()) for trial in plan] == [
        ("sgd", 2), ("sgd", 1), ("lars", 2), ("lars", 1), ("adamw", 2), ("adamw", 1),
    ]  # fmt: skip


def test_the_plan_is_the_same_every_time_and_longer_sweeps_begin_the_same(sweep_text: str) -> None:
    spec = parse_spec(sweep_text)
    longer = parse_spec(sweep_text.replace("trials: 5", "trials: 9"))
    assert plan_trials(spec) == plan_trials(spec) == plan_trials(longer)[:5]


def test_the_plan_survives_the_way_through_the_database(sweep_text: str) -> None:
    spec = parse_spec(sweep_text)
    stored = ExperimentSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json"))))
    # JSONB sorts the keys of an object: the plan must not depend on their order
    assert stored.search is not None
    shuffled = stored.model_dump(mode="json")
    shuffled["search"]["space"] = dict(sorted(shuffled["search"]["space"].items(), key=lambda item: len(item[0])))
    assert plan_trials(stored) == plan_trials(spec)
    assert plan_trials(ExperimentSpec.model_validate(shuffled)) == plan_trials(spec)


def test_another_seed_gives_other_values(sweep_text: str) -> None:
    other = sweep_text.replace("seed: 3", "seed: 4", 1)
    assert plan_trials(parse_spec(sweep_text)) != plan_trials(parse_spec(other))


def test_with_params_sets_the_fields_and_drops_the_search(sweep_text: str) -> None:
    spec = parse_spec(sweep_text)
    trial = spec.with_params({"training.lr": 0.25, "objective.weighting": {"policy": "fixed", "alpha": 0.1}})
    assert trial.training.lr == 0.25
    assert trial.objective.weighting.policy == "fixed"
    assert trial.search is None
    assert spec.search is not None  # the original stays


def test_a_path_that_does_not_exist_is_a_key_error() -> None:
    with pytest.raises(KeyError, match=r"training\.nothing"):
        set_paths(ExperimentSpec(name="a").model_dump(), {"training.nothing": 1})


def test_set_paths_copies_what_it_is_given() -> None:
    section = {"policy": "fixed", "alpha": 0.5}
    fields: dict[str, Any] = {"objective": {"weighting": {}}}
    set_paths(fields, {"objective.weighting": section})
    fields["objective"]["weighting"]["alpha"] = 1.0
    assert section["alpha"] == 0.5


@pytest.mark.parametrize(
    ("params", "label"),
    [
        ({}, "adaptive"),
        ({"objective.weighting": {"policy": "fixed", "alpha": 0.5}}, "fixed 0.5"),
        ({"objective.weighting": {"policy": "linear", "start": 0.1}}, "linear 0.1 to 1"),
        ({"objective.weighting": {"policy": "cosine", "start": 1.0, "end": 0.0}}, "cosine 1 to 0"),
        ({"objective.mutual_information.gamma": 0.123456}, "adaptive, gamma=0.123"),
        ({"training.optimizer": "sgd", "training.seed": 3}, "adaptive, optimizer=sgd, seed 3"),
        (
            {"objective.dimension_loss": {"name": "vicreg", "invariance": 14.5946}},
            "adaptive, VICReg (invariance=14.6)",
        ),
        ({"objective.dimension_loss": {"name": "barlow_twins"}}, "adaptive, Barlow Twins"),
        ({"model.backbone": "resnet50", "training.lr": 0.1}, "adaptive, ResNet-50, lr=0.1"),
        (
            {"objective.weighting": {"policy": "adaptive", "normalizer": "log", "floor": 0.1}},
            "adaptive (log), floor=0.1",
        ),
        (
            {"objective": {"weighting": {"policy": "adaptive", "floor": 0.1}, "balancing": "gradient"}},
            "adaptive, floor=0.1, balancing=gradient",
        ),
    ],
)
def test_a_trial_is_called_by_its_weighting_and_what_it_varies(params: dict[str, Any], label: str) -> None:
    assert trial_label(ExperimentSpec(name="a"), params) == label


def test_trials_that_differ_in_the_weighting_only_have_labels_that_differ() -> None:
    spec = ExperimentSpec(name="a")
    labels = {trial_label(spec, {"objective.weighting.smoothing": value}) for value in (0.0, 0.5, 0.9)}
    assert len(labels) == 3


# -- properties ---------------------------------------------------------------------------------------------------

_lr = st.floats(1e-6, 100.0)
_alpha = st.floats(0.0, 1.0)


def _range(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    pairs = st.tuples(values, values).filter(lambda pair: pair[0] != pair[1])
    return pairs.map(lambda pair: {name: sorted(pair)})


def _choice(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    distinct = st.lists(values, min_size=1, max_size=4, unique_by=lambda v: json.dumps(v, sort_keys=True))
    return distinct.map(lambda found: {"choice": found})


_weightings = st.one_of(
    st.fixed_dictionaries({"policy": st.just("fixed"), "alpha": _alpha}),
    st.fixed_dictionaries({"policy": st.sampled_from(["linear", "cosine"]), "start": _alpha, "end": _alpha}),
    st.fixed_dictionaries({"policy": st.just("adaptive"), "normalizer": st.sampled_from(["min", "dim", "log"])}),
)
_spaces = st.fixed_dictionaries(
    {},
    optional={
        "training.lr": st.one_of(_range("uniform", _lr), _range("log_uniform", _lr), _choice(_lr)),
        "training.seed": st.one_of(_range("integer", st.integers(0, 2**31 - 1)), _choice(st.integers(0, 99))),
        "training.optimizer": _choice(st.sampled_from(["adamw", "lars", "sgd"])),
        "training.epochs": _range("integer", st.integers(11, 100_000)),
        "training.warmup_epochs": _range("integer", st.integers(0, 10)),
        "objective.weighting": _choice(_weightings),
        "objective.mutual_information.gamma": _range("uniform", st.floats(0.0, 1e6)),
        "model.projector.out": _range("integer", st.integers(2, 16384)),
        "data.augmentation.flip": _range("uniform", _alpha),
    },
).filter(bool)
_documents = st.fixed_dictionaries(
    {"name": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9 ._-]{0,20}\Z")},
    optional={
        "description": st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=50),
        "retries": st.integers(0, 100),
        "training": st.fixed_dictionaries({}, optional={"lr": _lr, "batch_size": st.integers(4, 1000)}),
        "objective": st.fixed_dictionaries({}, optional={"weighting": _weightings}),
        "search": st.fixed_dictionaries(
            {"trials": st.integers(1, 30), "space": _spaces}, optional={"seed": st.integers(0, 2**31 - 1)}
        ),
    },
)
_fast = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@_fast
@given(_documents)
def test_every_valid_spec_round_trips_through_json(document: dict[str, Any]) -> None:
    spec = validate_spec(document)
    assert parse_spec(spec.model_dump_json(), syntax="json") == spec
    assert parse_spec(spec.model_dump_json(), syntax="yaml") == spec


@_fast
@given(_documents)
def test_every_planned_trial_of_a_valid_search_validates(document: dict[str, Any]) -> None:
    spec = validate_spec(document)
    plan = plan_trials(spec)
    assert [trial.number for trial in plan] == list(range(len(plan)))
    for trial in plan:
        assert spec.with_params(trial.params).search is None
        assert trial_label(spec, trial.params)


_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_paths = ["name", "version", "training", "objective", "data", "model", "resources", "search", "evaluation", "retries"]


@_fast
@given(
    st.dictionaries(st.sampled_from(_paths), _junk, max_size=4), st.sampled_from(["space", "lr", "weighting"]), _junk
)
def test_any_document_is_a_spec_or_a_spec_error(document: dict[str, Any], key: str, junk: Any) -> None:
    for section in document.values():
        if isinstance(section, dict):
            section[key] = junk
    spec, error = _spec_or_error(lambda: validate_spec(document))
    if spec is not None:
        assert parse_spec(spec.model_dump_json(), syntax="json") == spec
    else:
        assert error is not None
        assert error.problems
        assert all(p.pointer == "" or p.pointer.startswith("/") for p in error.problems)


@_fast
@given(st.text(max_size=200) | st.binary(max_size=200), st.sampled_from(["yaml", "json"]))
def test_any_text_is_a_spec_or_a_spec_error(text: str | bytes, syntax: Any) -> None:
    spec, error = _spec_or_error(lambda: parse_spec(text, syntax=syntax))
    assert spec is not None or (error is not None and error.problems)


def _spec_or_error(read: Callable[[], ExperimentSpec]) -> tuple[ExperimentSpec | None, SpecError | None]:
    try:
        return read(), None
    except SpecError as error:
        return None, error


def test_the_documented_spec_has_every_field_and_is_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "spec.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    spec = parse_spec(text)

    def missing(section: BaseModel, path: str = "") -> list[str]:
        names = [f"{path}{name}" for name in type(section).model_fields if name not in section.model_fields_set]
        for name in type(section).model_fields:
            if isinstance(part := getattr(section, name), BaseModel):
                names += missing(part, f"{path}{name}.")
        return names

    assert missing(spec) == []
