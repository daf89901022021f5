"""Presets: what a spec says wins, what it leaves out is filled in, once and for all."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadim_core.spec import Problem, plan_trials, trial_label, validate_spec
from adadim_core.spec.extension import continues, extended
from adadim_core.spec.presets import PRESETS, Preset, departures

Problems = Callable[..., list[Problem]]

OWN: dict[str, st.SearchStrategy[Any]] = {
    "model.projector.out": st.integers(2, 512),
    "objective.dimension_loss": st.sampled_from([{"name": "barlow_twins"}, {"name": "vicreg", "variance": 50.0}]),
    "objective.sample_loss.temperature": st.floats(0.05, 1.0),
    "objective.weighting": st.sampled_from(
        [{"policy": "fixed", "alpha": 0.3}, {"policy": "adaptive", "normalizer": "log"}]
    ),
    "objective.balancing": st.sampled_from(["initial", "gradient"]),
    "objective.mutual_information.gamma": st.floats(0.0, 10.0),
    "objective.mutual_information.sign": st.just("reward"),
    "training.epochs": st.integers(1, 50),
    "training.lr": st.floats(0.01, 1.0),
    "evaluation.linear_probe": st.just("offline"),
}
"""Fields that a spec may set itself, and values for them."""
MANY = [{"mutual_information": {"gamma": number / 1000}} for number in range(990)]
documents = st.fixed_dictionaries({}, optional=OWN)


def document(own: dict[str, Any], **top: Any) -> dict[str, Any]:
    """A spec that says these fields only."""
    made: dict[str, Any] = {"name": "a", **top}
    for path, value in own.items():
        section, (*parents, leaf) = made, path.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        section[leaf] = value
    return made


def leaves(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@given(st.sampled_from(sorted(PRESETS)), documents)
def test_what_a_spec_says_wins_and_the_preset_gives_the_rest(name: str, own: dict[str, Any]) -> None:
    spec = validate_spec(document(own, preset=name))
    assert (spec.preset, spec.from_preset) == (None, name)
    found, said = dict(leaves(spec.model_dump(mode="json"))), dict(leaves(document(own)))
    defaults = dict(leaves(validate_spec(document(own)).model_dump(mode="json")))
    preset = dict(leaves(dict(PRESETS[name].values)))
    for path in found.keys() - {"from_preset"}:
        kind = f"{path.rpartition('.')[0]}.{'policy' if 'weighting' in path else 'name'}"
        same_kind = kind not in preset or found[kind] == preset[kind]
        expected = said if path in said else preset if path in preset and same_kind else defaults
        assert found[path] == expected[path], path


@given(st.sampled_from(sorted(PRESETS)), documents)
def test_a_stored_spec_means_what_it_did_whatever_becomes_of_its_preset(name: str, own: dict[str, Any]) -> None:
    space = {"objective.weighting": {"choice": [{"policy": "adaptive"}, {"policy": "fixed", "alpha": 0.5}]}}
    fields = document({path: own[path] for path in own if path != "objective.weighting"}, preset=name)
    spec = validate_spec(fields | {"search": {"algorithm": "grid", "space": space}})
    stored = spec.model_dump(mode="json")
    trials = [spec.with_params(plan.params) for plan in plan_trials(spec)]
    before = PRESETS[name]
    other = {"objective": {"balancing": "gradient", "weighting": {"policy": "adaptive", "normalizer": "log",
                                                                  "floor": 0.2}}}  # fmt: skip
    PRESETS[name] = Preset(name=name, description="changed since", values=other)
    try:
        again = validate_spec(stored)
        assert again == spec
        assert [again.with_params(plan.params) for plan in plan_trials(again)] == trials
        more = validate_spec(extended(again, seeds=2))
        assert continues(spec, more)
        assert more.from_preset == name
    finally:
        PRESETS[name] = before


def test_each_preset_is_a_spec_with_every_value_of_its_own() -> None:
    for name, preset in PRESETS.items():
        spec = validate_spec({"name": "a", "preset": name})
        assert list(departures(preset.values, spec.model_dump(mode="json"))) == []
        fields = dict(leaves(spec.model_dump(mode="json")))
        assert dict(leaves(dict(preset.values))).keys() <= fields.keys()


def test_another_kind_takes_nothing_from_the_preset() -> None:
    spec = validate_spec(document({"objective.weighting": {"policy": "linear"}}, preset="paper"))
    assert (
        spec.objective.weighting
        == validate_spec(document({"objective.weighting.policy": "linear"})).objective.weighting
    )
    assert spec.objective.mutual_information.sign == "penalize"
    other = validate_spec(document({"objective.form": "single_invariance"}, preset="paper"))
    assert other.objective == validate_spec(document({"objective.form": "single_invariance"})).objective
    assert other.training == spec.training


def test_a_section_that_does_not_say_its_kind_is_of_the_presets() -> None:
    weighting = validate_spec(document({"objective.weighting": {"smoothing": 0.5}}, preset="paper")).objective.weighting
    assert weighting.model_dump(include={"policy", "normalizer", "smoothing"}) == {
        "policy": "adaptive", "normalizer": "dim", "smoothing": 0.5,
    }  # fmt: skip


def test_sections_of_a_search_are_filled_in_like_the_ones_they_replace() -> None:
    alternatives = [{"policy": "fixed", "alpha": 0.5}, {"policy": "adaptive"}, {"policy": "adaptive", "batches": 4},
                    {"policy": "adaptive", "smoothing": {"choice": [0.0, 0.5]}}]  # fmt: skip
    search = {
        "algorithm": "grid",
        "points": [{"objective.weighting": {"policy": "adaptive"}}],
        "space": {"objective.weighting": {"choice": alternatives}},
    }
    spec = validate_spec(document({}, preset="paper", search=search))
    labels = [trial_label(spec, plan.params) for plan in plan_trials(spec)]
    assert labels == [
        "adaptive (dim), batches=1", "fixed 0.5", "adaptive (dim), batches=4",
        "adaptive (dim), smoothing=0, batches=1", "adaptive (dim), smoothing=0.5, batches=1",
    ]  # fmt: skip


def test_a_search_inside_a_section_of_another_kind_takes_nothing_from_the_preset() -> None:
    own = {"objective.form": "single_invariance"}
    adaptive = {"objective.weighting": {"policy": "adaptive"}}
    search = {
        "algorithm": "grid",
        "points": [adaptive],
        "space": {"objective.weighting": {"choice": [{"policy": "adaptive"}, {"policy": "linear"}]}},
    }
    by_preset = validate_spec(document(own, preset="paper", search=search)).search
    assert by_preset == validate_spec(document(own, search=search)).search


def test_departures_are_the_fields_that_a_spec_says_otherwise() -> None:
    own = {"training.epochs": 7, "objective.weighting": {"policy": "fixed"}, "objective.mutual_information.gamma": 2.0}
    spec = validate_spec(document(own, preset="paper"))
    found = list(departures(PRESETS["paper"].values, spec.model_dump(mode="json")))
    assert found == [("objective.weighting.policy", "adaptive", "fixed"), ("training.epochs", 400, 7)]


@pytest.mark.parametrize(
    ("fields", "pointer", "message"),
    [
        ({"preset": "papr"}, "/preset", "'paper' or 'best', not \"papr\""),
        ({"preset": ["paper"]}, "/preset", "'paper' or 'best'"),
        ({"preset": "best", "from_preset": None}, "", "preset: best would fill in nothing"),
        (
            {"preset": "paper", "search": {"algorithm": "grid", "space": {"preset": {"choice": ["paper", "best"]}}}},
            "/search/space/preset",
            "does not vary; submit one sweep for each",
        ),
        (
            {"preset": "paper", "objective": {"weighting": {"alpha": 1.0}}},
            "/objective/weighting/alpha",
            "unknown field",
        ),
        ({"preset": "paper", "search": 3}, "/search", "dictionary"),
        (
            {"preset": "paper", "search": {"algorithm": "grid", "space": {"objective": {"choice": MANY}}}},
            "",
            "fields and values, with those that preset: paper fills in",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(problems: Problems, fields: Any, pointer: str, message: str) -> None:
    found = problems({"name": "a", **fields})
    assert [problem.pointer for problem in found] == [pointer]
    assert message in found[0].message
