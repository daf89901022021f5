"""The encoder: pixel values to R. Owns the table of backbones and the normalisation of pixels in front of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adadim_core.models.conv_small import ConvSmall
from adadim_core.models.resnet import ResNet
from adadim_core.spec.sections import ModelSpec


@dataclass(frozen=True)
class EncoderConfig:
    """Everything needed to build an encoder again."""

    backbone: str
    width: int
    mean: tuple[float, ...]
    """Mean of each input channel in [0, 1]; its length is the number of channels."""
    std: tuple[float, ...]
    """Standard deviation of each input channel."""


BackboneFactory = Callable[[int, int], nn.Module]
"""(channels, width) to a module that maps (N, channels, H, W) to (N, D_r) and has D_r as `out_features`."""

_BACKBONES: dict[str, BackboneFactory] = {
    "conv_small": ConvSmall,
    "resnet18": lambda channels, width: ResNet(channels, width, blocks=(2, 2, 2, 2)),
}


def register_backbone(name: str, factory: BackboneFactory) -> None:
    """Make a backbone known. A name that is taken is replaced."""
    _BACKBONES[name] = factory


def build_encoder(spec: ModelSpec, *, mean: tuple[float, ...], std: tuple[float, ...]) -> "Encoder":
    """The encoder a spec names, for images with these channel statistics."""
    return Encoder(EncoderConfig(spec.backbone, spec.width, mean, std))


class Encoder(nn.Module):
    """Maps images (N, C, H, W), uint8 or floating point in [0, 1], to R (N, D_r)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        """Raises ValueError for a backbone that is not known."""
        super().__init__()
        if config.backbone not in _BACKBONES:
            raise ValueError(f"no backbone is called {config.backbone!r}; known are {', '.join(sorted(_BACKBONES))}")
        self.config = config
        # Rebuilt from the construction, so no part of the weights.
        self.register_buffer("mean", torch.tensor(config.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(config.std).view(-1, 1, 1), persistent=False)
        self.backbone = _BACKBONES[config.backbone](len(config.mean), config.width)
        self.features = int(self.backbone.out_features)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        x = ((x - self.mean) * self.scale).contiguous(memory_format=torch.channels_last)
        r_ND: Tensor = self.backbone(x)
        return r_ND
