"""The augmentation a data set gets where the spec names none. docs/data.md lists them."""

from adadim_core.augmentation import Augmentation

# A mirrored digit is another shape or none; solarised or heavily cropped it is gone. Grey has no hue.
DIGITS = Augmentation(crop_scale=(0.5, 1.0), jitter=0.5)

CLOTHES = Augmentation(crop_scale=(0.3, 1.0), flip=0.5, jitter=0.5)

# The usual one for CIFAR: jitter of 0.4 and a tenth of a turn, no blur on images this small.
SMALL_PHOTOS = Augmentation(crop_scale=(0.2, 1.0), flip=0.5, jitter=0.5, grayscale=0.2)

# The usual one for ImageNet, the same for both views.
LARGE_PHOTOS = Augmentation(crop_scale=(0.08, 1.0), flip=0.5, jitter=0.5, grayscale=0.2, blur=0.5, solarize=0.1)

MEDIUM_PHOTOS = Augmentation(crop_scale=(0.2, 1.0), flip=0.5, jitter=0.5, grayscale=0.2, blur=0.5)

# Left and right are labels in some of these sets (kidneys, thigh bones).
SCANS = Augmentation(crop_scale=(0.3, 1.0), jitter=0.5)

_SMALL, _MEDIUM = 64, 128


def photos(channels: int, side: int) -> Augmentation:
    """The recipe for photographs of this many channels and pixels a side."""
    recipe = SMALL_PHOTOS if side <= _SMALL else MEDIUM_PHOTOS if side <= _MEDIUM else LARGE_PHOTOS
    return recipe if channels == 3 else greyscale(recipe)


def greyscale(recipe: Augmentation) -> Augmentation:
    """The recipe without what only colours have."""
    return Augmentation(
        crop_scale=recipe.crop_scale,
        flip=recipe.flip,
        jitter=recipe.jitter,
        blur=recipe.blur,
        solarize=recipe.solarize,
    )
