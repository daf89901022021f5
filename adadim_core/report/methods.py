"""The methods paragraph: what was trained, on what, how it was compared, with which software."""

from collections.abc import Mapping
from typing import Any

from adadim_core.report.material import Material


def paragraph(material: Material) -> str:
    """What a paper's methods section needs, in plain text."""
    return " ".join([_training(material.spec), _objective(material.spec), _comparison(material), _software(material)])


def _training(spec: Mapping[str, Any]) -> str:
    model, data, training = spec["model"], spec["data"], spec["training"]
    projector = model["projector"]
    width = f" of width {model['width']}" if model.get("width") else ""
    warmup = training.get("warmup_epochs")
    schedule = "linear warm-up" if warmup is None else f"{warmup} epochs of linear warm-up"
    return (
        f"Encoders were {model['backbone']}{width}, projectors {projector['layers']} linear layers of width "
        f"{projector['hidden']} and output {projector['out']}, trained without labels on {data['dataset']} for "
        f"{training['epochs']} epochs at batch size {training['batch_size']} with {training['optimizer']} "
        f"(peak learning rate {training['lr']:g}, weight decay {training['weight_decay']:g}, {schedule}, cosine decay)."
    )


def _objective(spec: Mapping[str, Any]) -> str:
    objective = spec["objective"]
    term = objective["mutual_information"]
    varied = ", ".join((spec.get("search") or {}).get("space", {}))
    text = (
        f"The objective was (1 - alpha) L_dimension + alpha L_sample + beta I(R;Z) with "
        f"{objective['dimension_loss']['name']} and {objective['sample_loss']['name']}, beta = "
        f"{'' if term['sign'] == 'penalize' else '-'}{term['gamma']:g} alpha."
    )
    if not varied:
        return text
    return f"{text} The sweep varied {varied}; values given above are those of the base specification."


def _comparison(material: Material) -> str:
    answer = material.answer
    ranked = [c for c in answer.configurations if c.rank is not None]
    if not ranked or answer.verdict == "no statement":
        return f"{len(answer.configurations)} configurations were trained; no comparison was made."
    seeds = sorted({seed for c in ranked for seed in c.seeds})
    method = answer.method
    return (
        f"{len(ranked)} configurations were compared by {answer.title} over {len(seeds)} common seeds "
        f"({', '.join(map(str, seeds))}): {method.test}, adjusted by {method.adjustment} "
        f"({method.comparisons} comparisons, family-wise error {method.level:.2g}); intervals are "
        f"{100 * method.confidence:.0f} % t intervals."
    )


def _software(material: Material) -> str:
    known = ", ".join(f"{name} {version}" for name, version in material.versions.items())
    return f"Software and hardware: {known}." if known else "Software and hardware are not recorded with the results."
