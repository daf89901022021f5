"""The encoder: pixel values to R. Owns the table of backbones and the normalisation of pixels in front of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from adadim_core.models.conv_small import ConvSmall
from adadim_core.models.resnet import ResNet
from adadim_core.models.vit import VisionTransformer
from adadim_core.spec.backbones import SMALL_IMAGE
from adadim_core.spec.sections import ModelSpec

_DEFAULT_WIDTH = 64


@dataclass(frozen=True)
class EncoderConfig:
    """Everything needed to build an encoder again."""

    backbone: str
    width: int
    """Channels after the first layer of a convolutional network; others have a width of their own."""
    stem: Literal["cifar", "imagenet"]
    """First layers of a ResNet."""
    image_size: int
    """Side of the images in pixels; a ViT takes no other."""
    mean: tuple[float, ...]
    """Mean of each input channel in [0, 1]; its length is the number of channels."""
    std: tuple[float, ...]
    """Standard deviation of each input channel."""

    @property
    def channels(self) -> int:
        return len(self.mean)


BackboneFactory = Callable[[EncoderConfig], nn.Module]
"""Builds a module that maps normalised images (N, channels, H, W) to (N, D_r)."""

_BACKBONES: dict[str, BackboneFactory] = {
    "conv_small": lambda c: ConvSmall(c.channels, c.width),
    "resnet18": lambda c: ResNet(c.channels, c.width, blocks=(2, 2, 2, 2), stem=c.stem),
    "resnet34": lambda c: ResNet(c.channels, c.width, blocks=(3, 4, 6, 3), stem=c.stem),
    "resnet50": lambda c: ResNet(c.channels, c.width, blocks=(3, 4, 6, 3), bottleneck=True, stem=c.stem),
    "vit_tiny": lambda c: VisionTransformer(c.channels, c.image_size, dim=192, heads=3, depth=12),
    "vit_small": lambda c: VisionTransformer(c.channels, c.image_size, dim=384, heads=6, depth=12),
}


BUILT_IN = frozenset(_BACKBONES)
"""Names that a spec may give; others are registered."""


def register_backbone(name: str, factory: BackboneFactory) -> None:
    """Register a backbone for `Trainer(spec, backbone=name)` and `load_encoder`, in place of any of that name.

    A spec cannot name it: specs hold no code, and only this process knows the factory.

    Args:
        name: what exported encoders will refer to it by; none of the names a spec can give.
        factory: builds the network. D_r is found by a forward pass.

    Raises:
        ValueError: the name is that of a network of adadim_core.
    """
    if name in BUILT_IN:
        raise ValueError(f"{name} is a network of adadim_core: specs that name it mean that one")
    _BACKBONES[name] = factory


def build_encoder(
    spec: ModelSpec,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    image_size: int = 32,
    backbone: str | None = None,
) -> "Encoder":
    """The encoder a spec names, for images with these channel statistics.

    Args:
        spec: the network.
        mean, std: of each channel, in [0, 1].
        image_size: side of the images in pixels. Decides the stem of a ResNet and the patches of a ViT.
        backbone: a name known through `register_backbone`, in place of the spec's.
    """
    stem = spec.stem
    if stem == "auto":
        stem = "cifar" if image_size <= SMALL_IMAGE else "imagenet"
    width = spec.width or _DEFAULT_WIDTH
    return Encoder(EncoderConfig(backbone or spec.backbone, width, stem, image_size, mean, std))


class Encoder(nn.Module):
    """Maps images (N, C, H, W), uint8 or floating point in [0, 1], to R (N, D_r)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        """Raises ValueError for a backbone that is not known, or that does not map images to (N, D_r)."""
        super().__init__()
        if config.backbone not in _BACKBONES:
            raise ValueError(f"no backbone is called {config.backbone!r}; known are {', '.join(sorted(_BACKBONES))}")
        self.config = config
        # Rebuilt from the construction, so no part of the weights.
        self.register_buffer("mean", torch.tensor(config.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(config.std).view(-1, 1, 1), persistent=False)
        backbone = _BACKBONES[config.backbone](config)
        if not isinstance(backbone, nn.Module):
            raise ValueError(f"the factory of {config.backbone!r} gave a {type(backbone).__name__}, not a torch module")
        self.backbone = backbone
        self.features = _features(backbone, config)

    @property
    def memory_format(self) -> torch.memory_format:
        """Channels last, in which convolutions are faster; a registered network gets torch's usual format.

        `x.view(len(x), -1)`, for example, fails with channels last.
        """
        return torch.channels_last if self.config.backbone in BUILT_IN else torch.contiguous_format

    def forward(self, images: Tensor) -> Tensor:
        """R of images. Raises ValueError unless they are a batch of images with this encoder's channels."""
        channels = self.config.channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(f"images (N, {channels}, H, W) are needed, not a tensor of shape {(*images.shape,)}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images must be uint8, or floating point in [0, 1], not {images.dtype}")
        # In float32 at least: half precision does not tell all bytes apart.
        wide = torch.promote_types(self.mean.dtype, torch.float32)
        x = images.to(wide) / 255 if images.dtype == torch.uint8 else images.to(wide)
        x = ((x - self.mean.to(wide)) * self.scale.to(wide)).to(self.mean.dtype)
        r_ND: Tensor = self.backbone(x.contiguous(memory_format=self.memory_format))
        return r_ND


@torch.no_grad()
def _features(backbone: nn.Module, config: EncoderConfig) -> int:
    """D_r, by a forward pass."""
    side = config.image_size
    training = backbone.training
    r = backbone.eval()(torch.zeros(1, config.channels, side, side))
    backbone.train(training)
    if not isinstance(r, Tensor) or r.ndim != 2:
        found = f"{(*r.shape,)}" if isinstance(r, Tensor) else type(r).__name__
        raise ValueError(f"backbone {config.backbone!r} must map images to a matrix (N, D_r), not to {found}")
    return r.shape[1]
