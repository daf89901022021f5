"""Random views of images: resized crop, flip, blur, colour jitter, grayscale, solarisation, in whole batches.

Owns the recipe and its random parameters. Does not own which settings a data set or a spec asks for.

Each image has its own parameters, drawn and prepared on the CPU: the same generator gives the same views on every
device, nothing waits for the device, and a process that works on part of a batch gives its images the same views as
they would get in the whole batch.

Shapes: N images of C channels, H rows and W columns, V views of each.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adadim_core.spec.sections import AugmentationSpec
from adadim_core.transfer import send

_COLUMNS = 13
_MAX_LOG_RATIO = math.log(4 / 3)
_JITTER_PROBABILITY = 0.8
_BLUR_SIGMA = (0.1, 2.0)
_NO_BLUR = 0.01
LUMA = (0.299, 0.587, 0.114)
# RGB to luma and two chroma axes (NTSC); turning the chroma plane turns the hue and keeps the luma. As flat maps:
# what keeps the luma, what keeps the chroma, and what turns the chroma by a right angle.
_TO_YIQ = np.array([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_LUMA_PART = (_FROM_YIQ[:, :1] @ _TO_YIQ[:1]).astype(np.float32).ravel()
_CHROMA_PART = (_FROM_YIQ[:, 1:] @ _TO_YIQ[1:]).astype(np.float32).ravel()
_TURNED_PART = (_FROM_YIQ[:, 1:] @ [[0, -1], [1, 0]] @ _TO_YIQ[1:]).astype(np.float32).ravel()

Draws = NDArray[np.float32]


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
    n, c = images.shape[:2]
    uniform_VTK = torch.rand((views, n if total is None else total, _COLUMNS), generator=generator)
    uniform_MK = uniform_VTK[:, offset : offset + n].reshape(views * n, _COLUMNS)
    # All of them in NumPy and sent at once: so small, an operation costs its call, and torch's calls cost more.
    parameters = _parameters(uniform_MK.numpy(), recipe, c)
    sent = {}
    if parameters:
        widths = [columns.shape[1] for columns in parameters.values()]
        together = send(torch.from_numpy(np.concatenate(list(parameters.values()), axis=1)), images.device)
        sent = dict(zip(parameters, torch.split(together, widths, dim=1), strict=True))
    x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    x = x.repeat(views, 1, 1, 1)
    if "geometry" in sent:
        x = _resample(x, sent["geometry"], blur=recipe.blur > 0)
    if "colour" in sent:
        x = _colour(x, sent["colour"])
    if "inverted" in sent:
        inverted = sent["inverted"][:, :, None, None] > 0
        x = torch.where(inverted & (x >= 0.5), 1 - x, x)
    return x


def _parameters(uniform: Draws, recipe: Augmentation, channels: int) -> dict[str, Draws]:
    """What the operations of a recipe need for each view, (M, columns) each; operations that are off are left out.

    Args:
        uniform: (M, 13) draws from [0, 1), a row for each view.
        recipe: the augmentation.
        channels: of the images.
    """
    draws = np.ascontiguousarray(uniform.T)
    parameters: dict[str, Draws] = {}
    if recipe.crop_scale != (1.0, 1.0) or recipe.flip or recipe.blur:
        parameters["geometry"] = _geometry(draws[0:6], recipe)
    if recipe.jitter or recipe.grayscale:
        parameters["colour"] = _colour_map(draws[6:12], recipe, channels)
    if recipe.solarize:
        parameters["inverted"] = (recipe.solarize > draws[12:13].T).astype(np.float32)
    return parameters


def _geometry(draws: Draws, recipe: Augmentation) -> Draws:
    """(M, 6): top, height, left and width of the crop as shares of a side, 1 for a mirrored view, sigma of the blur."""
    u_area, u_ratio, u_top, u_left, u_flip, u_blur = draws
    low, high = recipe.crop_scale
    area = low + (high - low) * u_area
    # Ratios from 3/4 to 4/3 as usual, as far as a crop of this area fits the image with them.
    log_ratio = np.minimum(-np.log(area), _MAX_LOG_RATIO) * (2 * u_ratio - 1)
    height, width = np.sqrt(area * np.exp(-log_ratio)), np.sqrt(area * np.exp(log_ratio))
    # One draw serves twice: below the probability it is uniform there, and gives the width of the blur.
    narrow, wide = _BLUR_SIGMA
    sigma = np.where(u_blur < recipe.blur, narrow + (wide - narrow) / max(recipe.blur, 1e-12) * u_blur, _NO_BLUR)
    columns = [u_top * (1 - height), height, u_left * (1 - width), width, u_flip < recipe.flip, sigma]
    return np.stack(columns, axis=1, dtype=np.float32)


def _colour_map(draws: Draws, recipe: Augmentation, channels: int) -> Draws:
    """(M, 1 + 9) for three channels: how much of the grey mean is added, and the (3, 3) map of the channels.

    (M, 1 + 1) for others: the same, and the factor of the channels.
    """
    u_apply, u_brightness, u_contrast, u_saturation, u_hue, u_gray = draws
    strength = np.where(u_apply < _JITTER_PROBABILITY, np.float32(recipe.jitter), np.float32(0))
    brightness, contrast, saturation = (
        1 + 0.8 * strength * (2 * u - 1) for u in (u_brightness, u_contrast, u_saturation)
    )
    lift, gain = brightness * (1 - contrast), brightness * contrast
    if channels != 3:
        return np.stack([lift, gain], axis=1)
    chroma = np.where(u_gray < recipe.grayscale, np.float32(0), saturation)
    turn = 2 * math.pi * 0.2 * strength * (2 * u_hue - 1)
    colours = _LUMA_PART + np.outer(chroma * np.cos(turn), _CHROMA_PART) + np.outer(chroma * np.sin(turn), _TURNED_PART)
    return np.concatenate([lift[:, None], colours * gain[:, None]], axis=1)


def _resample(x: Tensor, geometry: Tensor, *, blur: bool) -> Tensor:
    """Crop, flip and blur. All three are linear and separable: one small matrix a side for each image."""
    n, c, h, w = x.shape
    top, height, left, width, mirrored, sigma = geometry.unbind(dim=1)
    if h == w:  # both sides at once, for half as many operations
        straight = torch.zeros_like(mirrored)
        sides = _interpolation(h, torch.cat([top, left]), torch.cat([height, width]), torch.cat([straight, mirrored]))
        rows, columns = sides.view(2, n, h, h).unbind()
        if blur:
            smooth = _blur(h, sigma)
            rows, columns = smooth @ rows, smooth @ columns
    else:
        rows = _interpolation(h, top, height, torch.zeros_like(mirrored))
        columns = _interpolation(w, left, width, mirrored)
        if blur:
            rows, columns = _blur(h, sigma) @ rows, _blur(w, sigma) @ columns
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


def _colour(x: Tensor, colour: Tensor) -> Tensor:
    """Brightness, contrast, saturation, hue and grayscale: together one affine map of the channels for each image."""
    n, c, h, w = x.shape
    lift, factors = colour[:, 0], colour[:, 1:]
    if c != 3:
        lifted = lift[:, None, None, None] * x.mean(dim=(1, 2, 3), keepdim=True)
        return (x * factors[:, :, None, None] + lifted).clamp_(0, 1)
    flat = x.reshape(n, 3, h * w)
    red, green, blue = flat.mean(dim=2).unbind(dim=1)
    mean = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    # Colour maps leave grey as it is, so the grey that contrast mixes in need not pass through them.
    x = torch.baddbmm((lift * mean)[:, None, None], factors.reshape(n, 3, 3), flat)
    return x.clamp_(0, 1).view(n, 3, h, w)
