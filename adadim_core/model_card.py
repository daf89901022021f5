"""The model card of an exported encoder: architecture, training, figures, and how to load it."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import yaml

from adadim_core.data import DataSummary
from adadim_core.models import Encoder
from adadim_core.spec import ExperimentSpec
from adadim_core.spec.base import KIND_FIELDS
from adadim_core.spec.metrics import METRICS

_CARD = """\
# {name}

{description}An image encoder trained without labels by AdaDim.

- Network: {backbone}, {parameters:,} parameters.
- Input: images (N, {channels}, {size}, {size}), uint8 or floating point in [0, 1]; it normalises them itself.
- Output: R, (N, {features}).

## Loading

    from adadim_core import load_encoder

    encoder = load_encoder("encoder.safetensors")
    r = encoder(images)  # (N, {features})

The file holds the weights, and in its header how the network is built.{registered}

## Training

{progress}, on `{dataset}`, with torch {torch}. Accuracies are on the held-out images of that data set.{collapsed}

```text
{data}
```

What the spec sets beside the defaults:

```yaml
{spec}```

## Figures

The last value of each metric.

| metric | value | meaning |
|---|---|---|
{figures}
"""


def model_card(
    spec: ExperimentSpec,
    encoder: Encoder,
    figures: Mapping[str, float],
    *,
    data: DataSummary,
    step: int,
    epoch: int,
    collapsed: int | None,
) -> str:
    """The card as Markdown.

    Args:
        spec: of the trial.
        encoder: what is exported.
        figures: last value of every metric.
        data: the facts about what it was trained on.
        step, epoch: steps and whole epochs trained.
        collapsed: step at which the collapse watch flagged the trial; None: it did not.
    """
    config = encoder.config
    # A network from Python takes the place of what the spec says of the encoder.
    hidden = {} if config.backbone == spec.model.backbone else {"model": {"backbone", "width", "stem"}}
    registered = (
        ""
        if config.backbone == spec.model.backbone
        else f"\nIts backbone is not part of adadim_core: call `register_backbone({config.backbone!r}, ...)` first."
    )
    return _CARD.format(
        name=spec.name,
        description=f"{spec.description}\n\n" if spec.description else "",
        backbone=config.backbone,
        parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        features=encoder.features,
        channels=config.channels,
        size=config.image_size,
        registered=registered,
        progress=f"{epoch} of {spec.training.epochs} epochs ({step} steps)",
        dataset=data.dataset,
        data="\n".join(data.lines()),
        torch=torch.__version__,
        collapsed="" if collapsed is None else f"\nThe collapse watch flagged the trial at step {collapsed}.",
        spec=yaml.safe_dump(
            _changed_fields(
                spec.model_dump(mode="json", exclude=hidden), ExperimentSpec(name="default").model_dump(mode="json")
            ),
            sort_keys=False,
        ),
        figures="\n".join(
            f"| `{name}` | {_number(value)} | {METRICS[name].description if name in METRICS else ''} |"
            for name, value in sorted(figures.items())
        ),
    )


def _changed_fields(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The values that are not the defaults. A section of several kinds says which it is."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        default = defaults.get(name)
        if isinstance(value, dict) and isinstance(default, dict):
            kind = {key: value[key] for key in KIND_FIELDS if key in value}
            if kind.items() <= default.items():
                other = _changed_fields(value, default)
                value = kind | other if other else default  # noqa: PLW2901
        if value != default:
            found[name] = value
    return found


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else str(value)
