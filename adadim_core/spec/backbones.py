"""The networks a spec may name as backbone: which settings each takes, and its words.

How a network is built is in adadim_core/models/encoder.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

SMALL_IMAGE = 64
"""Largest side in pixels for which a ResNet gets the CIFAR stem and a ViT the smaller grid of patches."""


def patch_size(side: int) -> int:
    """Side of a ViT's patches in pixels: the smallest divisor of the side that leaves at most 14 patches a side.

    At most 8 for images of up to 64 pixels. So 4 pixels for 32, 8 for 64 and 96, 16 for 224.

    Raises:
        ValueError: the side has no divisor that leaves at least 4 patches a side.
    """
    most = 8 if side <= SMALL_IMAGE else 14
    for size in range(1, side // 4 + 1):
        if side % size == 0 and side // size <= most:
            return size
    raise ValueError(
        f"images of {side} pixels cannot be cut into 4 to {most} patches a side; set data.image_size to a multiple of "
        f"{4 if side <= SMALL_IMAGE else 16}"
    )


def _any_side(_side: int) -> None:
    """Convolutions take images of any size."""


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
    check_side: Callable[[int], object] = _any_side
    """Raises ValueError for a side of images, in pixels, that it does not take."""


_TABLE = (
    Backbone(name="conv_small", title="small convolutional network"),
    Backbone(name="resnet18", title="ResNet-18", takes_stem=True),
    Backbone(name="resnet34", title="ResNet-34", takes_stem=True),
    Backbone(name="resnet50", title="ResNet-50", takes_stem=True),
    Backbone(name="vit_tiny", title="ViT-Tiny", takes_width=False, check_side=patch_size),
    Backbone(name="vit_small", title="ViT-Small", takes_width=False, check_side=patch_size),
)

BACKBONES: dict[str, Backbone] = {backbone.name: backbone for backbone in _TABLE}
"""Every network by name."""

if TYPE_CHECKING:
    BackboneName = str
else:  # a Literal, so that JSON Schema and error messages list the names
    BackboneName = Literal[tuple(BACKBONES)]
