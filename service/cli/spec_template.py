"""A spec to start from, with comments: `adadim init`.

Owns which settings a first spec has and what is said of them. Names of kinds come from the tables of adadim_core.spec,
and what comes out is checked as any spec before it is handed out.
"""

import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from adadim_core.spec import ExperimentSpec, SpecError, parse_spec, unintended
from adadim_core.spec.backbones import BACKBONES
from adadim_core.spec.datasets import DATASETS
from adadim_core.spec.metrics import METRICS
from adadim_core.spec.notation import load_value

Vary = Literal["weighting", "weighting-and-lr", "nothing"]
Size = Literal["small", "paper"]

_WIDTH = 100
_SIDE = 64
"""Of the images of a folder, which may be of any size."""
_CONFIGURATIONS = 12
"""Of a random search over weighting and learning rate."""


@dataclass(frozen=True)
class Wishes:
    """What the questions of `adadim init` ask for."""

    name: str = "my-sweep"
    dataset: str = "digits"
    path: str | None = None
    vary: Vary = "weighting"
    seeds: int = 5
    size: Size = "small"
    epochs: int | None = None
    """Default: 6 of a small network on digits, 20 on other data, 100 of the paper's."""


@dataclass(frozen=True)
class _Network:
    """The settings that go with a network."""

    comment: str
    backbone: str
    width: int
    projector: str
    dimension_loss: str
    gamma: float
    optimizer: str
    lr: float
    epochs: int


_PAPER = _Network(
    "As in the paper's line of work. It wants a GPU, and 400 epochs for final numbers.",
    "resnet18", 64, "{layers: 3, hidden: 2048, out: 2048}", "{name: vicreg}", 0.1, "lars", 0.3, 100,
)  # fmt: skip
_SMALL = _Network(
    "Small enough for a CPU.",
    "conv_small", 16, "{layers: 2, hidden: 256, out: 64}", "{name: vicreg}", 0.1, "adamw", 2e-3, 20,
)  # fmt: skip
_DIGITS = _Network(
    "So small, and trained so briefly, that accuracy on digits has room to differ: a trial takes seconds on a CPU.",
    "conv_small", 4, "{layers: 2, hidden: 256, out: 64}",
    "{name: vicreg, invariance: 1.0, variance: 5.0, covariance: 1.0}", 0.5, "adamw", 5e-3, 6,
)  # fmt: skip
"""That of examples/digits-sweep.yaml, where weightings differ beyond doubt."""


def template(wishes: Wishes) -> tuple[str, ExperimentSpec]:
    """The text of a spec, and the spec it is.

    Raises:
        SpecError: the wishes contradict each other, or a name or a path is none.
    """
    small = _DIGITS if wishes.dataset == "digits" else _SMALL
    network = _PAPER if wishes.size == "paper" else small
    parts = [_head(wishes), _data(wishes), _model(network), _objective(wishes, network), _training(wishes, network)]
    if wishes.vary != "nothing":
        parts.append(_search(wishes, network))
    text = "\n".join(parts)
    spec = parse_spec(text)
    if problems := unintended(spec):
        raise SpecError(problems)
    return text, spec


def _head(wishes: Wishes) -> str:
    line = "preset: paper  # fills in what is left out, as the paper is believed to do; or best (docs/spec.md)"
    return f"""{_comment("An experiment. Every field that is not here has a default: docs/spec.md lists them all.")}
version: 1
name: {_quoted(wishes.name)}
description: ""  # one sentence for those who find it in the list
{line if wishes.size == "paper" else f"# {line}"}
"""


def _data(wishes: Wishes) -> str:
    dataset = DATASETS[wishes.dataset]
    lines = ["data:", f"  dataset: {dataset.name}"]
    if wishes.path is not None:
        lines.append(f"  path: {_quoted(wishes.path)}  # file or folder; `adadim data PATH` says what would be read")
    if dataset.name == "image_folder":
        lines.append(f"  image_size: {_SIDE}  # pixels that images are resized to; files may have any size")
    others = _comment(f"Which images. There are {_listed(DATASETS)}; all but digits need a path.")
    return "\n".join([others, *lines, ""])


def _model(network: _Network) -> str:
    return f"""{_comment(f"The network. {network.comment} Backbones: {_listed(BACKBONES)}.")}
model:
  backbone: {network.backbone}
  width: {network.width}
  projector: {network.projector}  # from R, which is kept, to Z, on which the losses are
"""


def _objective(wishes: Wishes, network: _Network) -> str:
    weighting = ["  weighting: {policy: adaptive}  # or {policy: fixed, alpha: 0.5}, linear, cosine"]
    loss = "L = (1 - alpha) L_dimension + alpha L_sample + gamma alpha I(R;Z)."
    lines = ["objective:", *(weighting if wishes.vary == "nothing" else [])]
    lines += [
        "  # L_dimension decorrelates features: vicreg or barlow_twins.",
        f"  dimension_loss: {network.dimension_loss}",
        "  sample_loss: {name: nt_xent}  # spreads samples",
        f"  mutual_information: {{gamma: {network.gamma:g}}}  # weight of the penalty on I(R;Z); 0 leaves it out",
    ]
    return "\n".join([_comment(f"The loss: {loss} alpha is what the weighting says."), *lines, ""])


def _training(wishes: Wishes, network: _Network) -> str:
    epochs = wishes.epochs or network.epochs
    return f"""training:
  epochs: {epochs}
  batch_size: 256
  optimizer: {network.optimizer}  # lars, sgd or adamw
  lr: {network.lr:g}
  seed: 0
"""


def _search(wishes: Wishes, network: _Network) -> str:
    free = [name for name, metric in METRICS.items() if metric.ranks and not metric.needs_labels]
    lines = [
        _comment(
            "What varies. Every configuration trains with the same seeds, so that a difference can be told from luck: "
            "with one seed there is no statement."
        ),
        "search:",
    ]
    both = wishes.vary == "weighting-and-lr"
    if both:
        lines += ["  algorithm: quasi_random  # or grid, random, tpe", f"  trials: {_CONFIGURATIONS}  # configurations"]
    else:
        lines.append("  algorithm: grid  # every choice; or random, quasi_random, tpe")
    lines += [
        f"  seeds: {wishes.seeds}",
        _comment(f"What ranks them, by its last value. Without labels: {_listed(free)}.", "  "),
        "  metric: knn_top1",
        "  space:  # dotted path of any field to the values it may take",
        "    objective.weighting:",
        "      choice:",
        "        - {policy: fixed, alpha: 0.0}  # decorrelation alone",
        "        - {policy: fixed, alpha: 0.5}",
        "        - {policy: fixed, alpha: 1.0}  # contrast alone",
        "        - {policy: adaptive}",
    ]
    if both:
        lines.append(f"    training.lr: {{log_uniform: [{network.lr / 5:g}, {network.lr * 5:g}]}}")
    return "\n".join([*lines, ""])


def _comment(text: str, indent: str = "") -> str:
    start = f"{indent}# "
    return "\n".join(textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _quoted(text: str) -> str:
    """A text as it stands in YAML, in quotes where it would be read as something else."""
    try:
        if load_value(text) == text:
            return text
    except SpecError:
        pass
    return json.dumps(text, ensure_ascii=False)
