"""The methods paragraph: what was trained, on what, how it was compared, with which software."""

from collections.abc import Mapping
from typing import Any

from adadim_core.answers.document import Answer, ConfigurationAnswer
from adadim_core.answers.race import SPENT
from adadim_core.answers.words import counted
from adadim_core.report.material import Material
from adadim_core.spec.sections import warmup_of


def paragraph(material: Material) -> str:
    """What a paper's methods section needs, in plain text."""
    return " ".join([_training(material.spec), _objective(material.spec), _comparison(material), _software(material)])


def _training(spec: Mapping[str, Any]) -> str:
    model, data, training = spec["model"], spec["data"], spec["training"]
    projector = model["projector"]
    width = f" of width {model['width']}" if model.get("width") else ""
    warmup = warmup_of(training.get("warmup_epochs"), training["epochs"])
    schedule = f"{counted(warmup, 'epoch')} of linear warm-up, cosine decay" if warmup else "cosine decay"
    return (
        f"Encoders were {model['backbone']}{width}, projectors {projector['layers']} linear layers of width "
        f"{projector['hidden']} and output {projector['out']}, trained without labels on {data['dataset']} for "
        f"{training['epochs']} epochs at batch size {training['batch_size']} with {training['optimizer']} "
        f"(peak learning rate {training['lr']:g}, weight decay {training['weight_decay']:g}, {schedule})."
    )


def _objective(spec: Mapping[str, Any]) -> str:
    objective = spec["objective"]
    varied = ", ".join((spec.get("search") or {}).get("space", {}))
    losses = f"{objective['dimension_loss']['name']} and {objective['sample_loss']['name']}"
    if objective.get("form") == "single_invariance":
        formula = (
            "s + (1 - alpha) (v + c) + alpha U + beta I(R;Z) with the weighted invariance s, variance v and covariance "
            f"c of {objective['dimension_loss']['name']} and the log-sum-exp U of the negatives of "
            f"{objective['sample_loss']['name']}"
        )
    else:
        formula = f"(1 - alpha) L_dimension + alpha L_sample + beta I(R;Z) with {losses}"
    balanced = _BALANCED.get(objective.get("balancing", "none"), "")
    text = f"The objective was {formula}{balanced}, {_beta(objective['mutual_information'])}."
    if preset := spec.get("from_preset"):
        text += (
            f" What the specification left open was taken from the preset {preset!r}; all values are listed with it."
        )
    if not varied:
        return text
    return f"{text} The sweep varied {varied}; values given above are those of the base specification."


_BALANCED = {
    "initial": ", each divided by its value at the first step",
    "gradient": ", each divided by the length of its gradient at Z",
}


def _beta(term: Mapping[str, Any]) -> str:
    """beta = gamma alpha, or what else it follows. Specs of earlier versions have neither schedule nor lag."""
    factor = f"{'' if term['sign'] == 'penalize' else '-'}{term['gamma']:g}"
    lag = f" of {counted(term['lag_epochs'], 'epoch')} before" if term.get("lag_epochs") else ""
    match term.get("schedule", "follow"):
        case "follow":
            return f"beta = {factor} alpha{lag}"
        case "fixed":
            return f"beta = {factor}"
        case schedule:
            late = f", {counted(term['lag_epochs'], 'epoch')} late" if lag else ""
            return f"beta from 0 to {factor} by a {schedule} schedule{late}"


def _comparison(material: Material) -> str:
    answer = material.answer
    ranked = [c for c in answer.configurations if c.rank is not None]
    if not ranked or answer.verdict == "no statement":
        outcome = "their comparisons gave no statement" if answer.method.comparisons else "no comparison was made"
        return f"{len(answer.configurations)} configurations were trained; {outcome}."
    method = answer.method
    return (
        f"{len(ranked)} configurations were compared by {answer.title} over {_seeds(ranked)}: "
        f"{method.test}, adjusted by {method.adjustment} "
        f"({method.comparisons} comparisons, family-wise error {method.level:.2g}); intervals of "
        f"means are {100 * method.confidence:.0f} % t intervals{_of_differences(answer)}.{_race(material.spec)}"
    )


def _seeds(ranked: list[ConfigurationAnswer]) -> str:
    """The seeds of each: all of them, or how many where configurations differ in them."""
    different = {tuple(c.seeds) for c in ranked}
    if len(different) == 1:
        (common,) = different
        return f"{len(common)} common seeds ({', '.join(map(str, common))})"
    least, most = min(map(len, different)), max(map(len, different))
    return f"{least} to {most} seeds each" if least != most else f"{most} seeds each, not all of them common"


def _of_differences(answer: Answer) -> str:
    """The level of the intervals that tables and text print of differences."""
    level = answer.method.difference_level
    if level is None:
        return ""
    return f", those of differences t intervals at 1 - {level:.2g}, which agree with the adjusted p values"


def _race(spec: Mapping[str, Any]) -> str:
    """How a race spent seeds; nothing for other sweeps."""
    search = spec.get("search") or {}
    scheduler = search.get("scheduler") or {}
    if scheduler.get("name") != "race":
        return ""
    seeds, indifference = search["seeds"], scheduler.get("indifference")
    early = (
        f" It was over once all that were left were within {indifference:g} of each other (two one-sided t tests)."
        if indifference
        else ""
    )
    return (
        f" Seeds were given by a sequential test: each configuration had {seeds['first']} seeds; then, and after each "
        f"further one up to {seeds['most']}, those behind the leader by the same test were dropped, at levels that add "
        f"up to {SPENT:.2g} over all looks (alpha spending).{early}"
    )


def _software(material: Material) -> str:
    known = ", ".join(f"{name} {version}" for name, version in material.versions.items())
    return f"Software and hardware: {known}." if known else "Software and hardware are not recorded with the results."
