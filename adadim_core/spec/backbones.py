"""The networks a spec may name as backbone: which settings each takes, and its words.

How a network is built is adadim_core/models/encoder.py's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What is known of a network without building it."""

    name: str
    """What `model.backbone` calls it."""
    title: str
    """What people call it."""
    takes_width: bool = True
    """Whether `model.width` sets its channels; otherwise it has a width of its own."""
    takes_stem: bool = False
    """Whether `model.stem` chooses its first layers."""


_TABLE = (
    Backbone(name="conv_small", title="small convolutional network"),
    Backbone(name="resnet18", title="ResNet-18", takes_stem=True),
    Backbone(name="resnet34", title="ResNet-34", takes_stem=True),
    Backbone(name="resnet50", title="ResNet-50", takes_stem=True),
    Backbone(name="vit_tiny", title="ViT-Tiny", takes_width=False),
    Backbone(name="vit_small", title="ViT-Small", takes_width=False),
)

BACKBONES: dict[str, Backbone] = {backbone.name: backbone for backbone in _TABLE}
"""Every network by name."""

if TYPE_CHECKING:
    BackboneName = str
else:  # a Literal, so that JSON Schema and error messages list the names
    BackboneName = Literal[tuple(BACKBONES)]
