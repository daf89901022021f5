"""From text to a validated spec: every field, every search path and every planned trial.

Owns what is checked and in which order. Text is read in notation.py, errors are worded in problems.py.
"""

import itertools
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from adadim_core.spec.algorithms import ALGORITHMS
from adadim_core.spec.experiment import ExperimentSpec, dotted_paths, kind_section, with_paths
from adadim_core.spec.notation import MAX_SPEC_BYTES, Syntax, check_document, load
from adadim_core.spec.plan import plan_trials
from adadim_core.spec.problems import (
    MAX_PROBLEMS,
    Problem,
    SpecError,
    did_you_mean,
    did_you_mean_path,
    escape,
    problems_of,
    shorten,
    spelt,
)
from adadim_core.spec.search import MAX_TRIALS, SearchSpec
from adadim_core.spec.seeds import SEED_PATH
from adadim_core.spec.space import Choice, check_size, combinations, extremes

_TPE_SAMPLES = 100
_CORNERS = MAX_TRIALS
"""Values of a path that are checked before any trial: every alternative, and every bound of every range in it."""


def parse_spec(text: str | bytes, *, syntax: Syntax = "yaml", own_data: bool = False) -> ExperimentSpec:
    """Read a spec from YAML or JSON text.

    Args:
        text: the document.
        syntax: how it is written.
        own_data: the spec is for `Trainer(spec, data=...)`: size and number of the images of the set it names do not
            matter.

    Raises:
        SpecError: the text is too large, is not UTF-8, does not parse, or is not a valid spec.
    """
    return validate_spec(load(text, syntax), own_data=own_data)


def validate_spec(document: Any, *, own_data: bool = False) -> ExperimentSpec:
    """Check a parsed document, its search paths and every planned trial.

    Raises:
        SpecError: it is not a valid spec.
    """
    check_document(document)
    _check_space(document)
    try:
        spec = ExperimentSpec.model_validate(document, context={"own_data": own_data})
    except ValidationError as error:
        raise SpecError(problems_of(error, document)) from None
    size = len(compact(spec.model_dump(mode="json")).encode())
    if size > MAX_SPEC_BYTES:  # it travels in one environment variable, of which Linux takes 128 KiB
        raise SpecError([Problem("", f"{size} bytes with its defaults; a spec has at most {MAX_SPEC_BYTES}")])
    if spec.search is not None:
        _check_search(spec, spec.search)
    return spec


def _check_space(document: Mapping[str, Any]) -> None:
    search = document.get("search")
    try:
        check_size(search.get("space") if isinstance(search, dict) else None)
    except ValueError as error:
        raise SpecError([Problem("/search/space", str(error))]) from None


def compact(fields: Mapping[str, Any]) -> str:
    """A spec's fields as the JSON text that its job gets: the one whose size is bounded."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _check_search(spec: ExperimentSpec, search: SearchSpec) -> None:
    """Every path exists, every bound and choice validates where it goes, and so does every planned trial."""
    problems: list[Problem] = []
    fields = spec.trial_fields([*search.space, SEED_PATH])
    for path, distribution in search.space.items():
        problems += _path_problems(spec, fields, path, distribution)
        if len(problems) >= MAX_PROBLEMS:
            raise SpecError(problems[:MAX_PROBLEMS])
    if not problems:
        for name, params in _candidates(spec, search):
            problems += _trial_problems(spec, fields, params, "/search/space", f"{name}: ")
            if len(problems) >= MAX_PROBLEMS:
                break
    if problems:
        raise SpecError(problems[:MAX_PROBLEMS])


def _path_problems(spec: ExperimentSpec, fields: dict[str, Any], path: str, distribution: Any) -> list[Problem]:
    """What is wrong with one path of a space: it does not exist, or a bound or a choice is not allowed there."""
    pointer = "/search/space/" + escape(path)
    missing = _missing_path(spec, path)
    if missing is not None:
        return [Problem(pointer, missing)]
    problems: list[Problem] = []
    section = kind_section(path)
    within = "/" + (section or path).replace(".", "/")
    top, _, below = path.partition(".")
    for value in itertools.islice(extremes(distribution), _CORNERS):
        # What contradicts another field only (warm-up longer than training) the trials decide: most values fit, and
        # the part of the spec that the path is in says so ten times sooner than all of it.
        part = with_paths(fields[top], {below: value}) if below else value
        try:
            type(getattr(spec, top)).model_validate(part)
            continue
        except ValidationError:
            found = _trial_problems(spec, fields, {path: value}, pointer, within=within)
        if found and section is not None:
            return [Problem(pointer, _whole_section(section, path, distribution))]
        problems += found
        if len(problems) >= MAX_PROBLEMS:
            break
    return problems


def _candidates(spec: ExperimentSpec, search: SearchSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Trials that stand for all: one of each planned configuration, and the last, which has the largest seed.

    Where TPE has yet to choose: corners of the space and draws from all over it.
    """
    plans = plan_trials(spec)
    chosen = {plan.configuration: plan.number for plan in reversed(plans)}.values()
    yield from (
        (f"trial {number}", plans[number].params)
        for number in sorted({*chosen, len(plans) - 1})
        if plans[number].params
    )
    if not ALGORITHMS[search.algorithm].learns:
        return
    yield from (("a possible trial", params) for params in itertools.islice(combinations(search.space), _TPE_SAMPLES))
    rng = random.Random(search.seed)
    for _ in range(_TPE_SAMPLES):
        yield "a possible trial", search.assignment(lambda _, d: d.at(rng.random()))


def _trial_problems(
    spec: ExperimentSpec,
    fields: dict[str, Any],
    params: dict[str, Any],
    pointer: str,
    prefix: str = "",
    within: str = "",
) -> list[Problem]:
    """What is wrong with a trial; `within` keeps only problems at or below that pointer."""
    trial = with_paths(fields, params)
    try:
        ExperimentSpec.model_validate(trial, context=spec.context)
    except ValidationError as error:
        values = ", ".join(f"{path} = {shorten(value)}" for path, value in params.items())
        return [
            Problem(pointer, f"{prefix}{values} is not allowed: {p.message}")
            for p in problems_of(error, trial)
            if p.pointer.startswith(within)
        ]
    return []


def _whole_section(section: str, path: str, distribution: Any) -> str:
    """What to write in place of a path that chooses the kind of a section only."""
    kinds = distribution.choice if isinstance(distribution, Choice) else ["..."]
    whole = spelt({"choice": [{path.rpartition(".")[2]: kind} for kind in kinds]})
    return f"each kind has fields of its own; sweep the whole section: {section}: {whole}"


def _missing_path(spec: ExperimentSpec, path: str) -> str | None:
    """Why a search path cannot be set, or None if it can."""
    section: Any = spec
    parts = path.split(".")
    if parts[0] not in ("data", "model", "objective", "training", "evaluation"):
        if parts[0] in ("preset", "from_preset"):
            return "a preset fills in what a spec leaves out and does not vary; submit one sweep for each"
        allowed = "data, model, objective, training or evaluation"
        paths = dotted_paths(spec.model_dump(mode="json", include={*allowed.replace(",", "").split()}))
        return f"a search path starts with {allowed}" + did_you_mean_path(path, paths)
    for depth, part in enumerate(parts):
        fields = list(type(section).model_fields) if isinstance(section, BaseModel) else []
        if part not in fields:
            parent = ".".join(parts[:depth])
            has = f"it has {', '.join(fields)}" if fields else "it has no fields"
            hint = did_you_mean(part, fields)
            policy = getattr(section, "policy", None) or getattr(section, "name", None)
            kind = f" (here: {policy})" if policy and depth else ""
            return f"{parent}{kind} has no field {part!r}; {has}{hint}"
        section = getattr(section, part)
    return None
