"""Random views of images: resized crop, flip, blur, colour jitter, grayscale, solarisation, in whole batches.

Owns the recipe and its random parameters. Does not own which settings a data set or a spec asks for.

Each image has its own parameters, drawn and prepared on the CPU: the same generator gives the same views on every
device, nothing waits for the device, and a process that works on part of a batch gives its images the same views as
they would get in the whole batch.

Shapes: N images of C channels, H rows and W columns, V views of each.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adadim_core.spec.sections import AugmentationSpec
from adadim_core.transfer import send

_COLUMNS = 13
_MAX_LOG_RATIO = math.log(4 / 3)
_JITTER_PROBABILITY = 0.8
_BLUR_SIGMA = (0.1, 2.0)
_NO_BLUR = 0.01
_LUMA = (0.299, 0.587, 0.114)
# RGB to luma and two chroma axes (NTSC); turning the chroma plane turns the hue and keeps the luma.
_TO_YIQ = torch.tensor([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


@dataclass(frozen=True)
class Augmentation:
    """A complete recipe. The defaults change nothing: every image is its own view."""

    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest share of the area a crop keeps, before it is resized to the full size."""
    flip: float = 0.0
    """Probability of a horizontal flip."""
    jitter: float = 0.0
    """Strength s of colour jitter: brightness, contrast and saturation by up to 0.8 s, hue by 0.2 s of a turn."""
    grayscale: float = 0.0
    """Probability of dropping colour."""
    blur: float = 0.0
    """Probability of a Gaussian blur of 0.1 to 2 pixels."""
    solarize: float = 0.0
    """Probability of inverting all values from one half up."""

    def with_spec(self, spec: AugmentationSpec) -> "Augmentation":
        """This recipe with the fields that the spec sets."""
        given = {name: value for name, value in spec.model_dump().items() if value is not None}
        if "crop_scale" in given:
            given["crop_scale"] = tuple(given["crop_scale"])
        return replace(self, **given)


def augment(
    images: Tensor,
    recipe: Augmentation,
    generator: torch.Generator,
    *,
    views: int = 2,
    total: int | None = None,
    offset: int = 0,
) -> Tensor:
    """Random views of a batch.

    Args:
        images: uint8, or floating point in [0, 1].
        recipe: the augmentation.
        generator: a CPU generator; it is advanced by views * total draws whatever the recipe is.
        views: V, views of each image.
        total: size of the batch that these images are a part of; None: they are all of it.
        offset: place of the first of these images in that batch.

    Returns:
        (V * N, C, H, W) float32 in [0, 1] on the images' device; the first N rows are the first view.
    """
    n = images.shape[0]
    uniform_VTK = torch.rand((views, n if total is None else total, _COLUMNS), generator=generator)
    uniform_VNK = uniform_VTK[:, offset : offset + n]
    draws = uniform_VNK.reshape(views * n, _COLUMNS).unbind(dim=1)
    x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    x = x.repeat(views, 1, 1, 1)
    x = _resample(x, recipe, draws[0:6])
    x = _colour(x, recipe, draws[6:12])
    if recipe.solarize:
        inverted = send((draws[12] < recipe.solarize)[:, None, None, None], x.device)
        x = torch.where(inverted & (x >= 0.5), 1 - x, x)
    return x


def _resample(x: Tensor, recipe: Augmentation, draws: tuple[Tensor, ...]) -> Tensor:
    """Crop, flip and blur. All three are linear and separable: one small matrix a side for each image."""
    crops = recipe.crop_scale != (1.0, 1.0)
    if not (crops or recipe.flip or recipe.blur):
        return x
    u_area, u_ratio, u_top, u_left, u_flip, u_blur = draws
    low, high = recipe.crop_scale
    area = low + (high - low) * u_area
    # Ratios from 3/4 to 4/3 as usual, as far as a crop of this area fits the image with them.
    limit = (-area.log()).clamp(max=_MAX_LOG_RATIO)
    log_ratio = limit * (2 * u_ratio - 1)
    height, width = (area * (-log_ratio).exp()).sqrt(), (area * log_ratio.exp()).sqrt()
    # One draw serves twice: below the probability it is uniform there, and gives the width of the blur.
    narrow, wide = _BLUR_SIGMA
    sigma = torch.where(u_blur < recipe.blur, narrow + (wide - narrow) * u_blur / max(recipe.blur, 1e-12), _NO_BLUR)
    mirrored = (u_flip < recipe.flip).float()
    parameters = torch.stack([u_top * (1 - height), height, u_left * (1 - width), width, mirrored, sigma])
    top, height, left, width, mirrored, sigma = send(parameters, x.device).unbind()
    rows = _interpolation(x.shape[2], top, height, torch.zeros_like(mirrored))
    columns = _interpolation(x.shape[3], left, width, mirrored)
    if recipe.blur:
        rows, columns = _blur(x.shape[2], sigma) @ rows, _blur(x.shape[3], sigma) @ columns
    n, c, h, w = x.shape
    x = torch.bmm(x.reshape(n, c * h, w), columns.transpose(1, 2)).view(n, c, h, w)
    if c == 1:
        return torch.bmm(rows, x.view(n, h, w)).view(n, c, h, w)
    return rows[:, None] @ x


def _interpolation(size: int, start: Tensor, share: Tensor, mirrored: Tensor) -> Tensor:
    """(N, size, size): each output pixel as a linear interpolation of input pixels, inside a crop of one side."""
    pixel = torch.arange(size, device=start.device, dtype=torch.float32)
    source = start[:, None] * size + (pixel + 0.5) * share[:, None] - 0.5
    source = source.clamp(0, size - 1)
    source = torch.where(mirrored[:, None] > 0, source.flip(1), source)
    return (1 - (source[:, :, None] - pixel).abs()).clamp(min=0)


def _blur(size: int, sigma: Tensor) -> Tensor:
    """(N, size, size): a Gaussian around each pixel, renormalised at the border."""
    pixel = torch.arange(size, device=sigma.device, dtype=torch.float32)
    squared = (pixel[:, None] - pixel).square()
    weights = torch.exp(-squared / (2 * sigma.square())[:, None, None])
    return weights / weights.sum(dim=2, keepdim=True)


def _colour(x: Tensor, recipe: Augmentation, draws: tuple[Tensor, ...]) -> Tensor:
    """Brightness, contrast, saturation, hue and grayscale: together one affine map of the channels for each image."""
    if not (recipe.jitter or recipe.grayscale):
        return x
    n, c, h, w = x.shape
    u_apply, u_brightness, u_contrast, u_saturation, u_hue, u_gray = draws
    strength = torch.where(u_apply < _JITTER_PROBABILITY, recipe.jitter, 0.0)
    brightness, contrast, saturation = (
        1 + 0.8 * strength * (2 * u - 1) for u in (u_brightness, u_contrast, u_saturation)
    )
    gain, lift = brightness * contrast, brightness * (1 - contrast)
    if c != 3:
        gain, lift = send(torch.stack([gain, lift]), x.device)[:, :, None, None, None]
        grey: Tensor = x * gain + lift * x.mean(dim=(1, 2, 3), keepdim=True)
        return grey.clamp_(0, 1)
    saturation = torch.where(u_gray < recipe.grayscale, 0.0, saturation)
    colours = send(_turn_hue(0.2 * strength * (2 * u_hue - 1), saturation) * gain[:, None, None], x.device)
    flat = x.reshape(n, 3, h * w)
    red, green, blue = flat.mean(dim=2).unbind(dim=1)
    mean = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    # Colour maps leave grey as it is, so the grey that contrast mixes in need not pass through them.
    x = torch.baddbmm((send(lift, x.device) * mean)[:, None, None], colours, flat)
    return x.clamp_(0, 1).view(n, 3, h, w)


def _turn_hue(turns: Tensor, saturation: Tensor) -> Tensor:
    """(N, 3, 3): chroma turned by a share of a full turn and scaled, luma kept."""
    cos = saturation * torch.cos(2 * math.pi * turns)
    sin = saturation * torch.sin(2 * math.pi * turns)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    return torch.matmul(_FROM_YIQ @ turn, _TO_YIQ)
