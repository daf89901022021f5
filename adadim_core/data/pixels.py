"""From encoded files to pixels, and from one size to another. Owns every use of Pillow.

Pillow lets other threads run while it decodes and resizes: with two threads on two cores, 224-pixel JPEG files decode
1.9 times as fast as with one.
"""

import io
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PcxImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    SgiImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from adadim_core.data.bare_files import without_metadata
from adadim_core.data.errors import BadFileError

Pixels = NDArray[np.uint8]
_Result = TypeVar("_Result")

# No other decoder of Pillow is ever used: EPS starts a program, icons and films are not single images.
_ENDINGS = {
    JpegImagePlugin.JpegImageFile: (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo"),
    PngImagePlugin.PngImageFile: (".png", ".apng"),
    WebPImagePlugin.WebPImageFile: (".webp",),
    AvifImagePlugin.AvifImageFile: (".avif", ".avifs"),
    GifImagePlugin.GifImageFile: (".gif",),
    BmpImagePlugin.BmpImageFile: (".bmp",),
    BmpImagePlugin.DibImageFile: (".dib",),
    PpmImagePlugin.PpmImageFile: (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    TiffImagePlugin.TiffImageFile: (".tif", ".tiff"),
    Jpeg2KImagePlugin.Jpeg2KImageFile: (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    TgaImagePlugin.TgaImageFile: (".tga", ".icb", ".vda", ".vst"),
    PcxImagePlugin.PcxImageFile: (".pcx",),
    SgiImagePlugin.SgiImageFile: (".sgi", ".rgb", ".rgba", ".bw"),
}
_FORMATS = [str(reader.format) for reader in _ENDINGS]

SUFFIXES = frozenset(ending for endings in _ENDINGS.values() for ending in endings)
"""Endings of file names that count as images."""

MAX_PIXELS = 2**26
"""Larger images are refused: a small file can claim to be huge. Below Pillow's own bound, which only warns."""

_GREY = {"1", "L", "LA", "La"}
_SIXTEEN_BITS = {"I;16", "I;16B", "I;16L", "I;16N"}
_MODES = _GREY | _SIXTEEN_BITS | {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
# The eight bits that 16 are cut down to are all below this where the values use twelve bits or fewer.
_TWELVE_OF_SIXTEEN = 17


class Header(NamedTuple):
    """What an image is before its pixels are decoded."""

    channels: int
    """1 or 3."""
    width: int
    height: int


def inspect(data: bytes, name: str) -> Header:
    """Channels and size of an encoded image, from its header.

    Raises:
        BadFileError: it is not an image of a known format, is too large, or does not declare the range of its pixels.
    """

    def read(image: Image.Image) -> Header:
        grey = image.mode in _GREY | _SIXTEEN_BITS | {"I"}
        return Header(1 if grey else 3, image.width, image.height)

    return _read(data, name, read)


def decode(data: bytes, name: str, *, channels: int, image_size: int | None) -> Pixels:
    """(C, H, W) of an encoded image: as it is, or its central square resized to image_size.

    Transparency is dropped, the first of several frames is used, and an image that a camera stored rotated or mirrored
    (EXIF) is put upright. Sixteen bits per channel become eight by dropping the lower half. Metadata (EXIF, colour
    profiles, comments) is ignored if it is damaged or too long.

    Args:
        data: the file.
        name: what to call it in errors.
        channels: 1 or 3; the image is converted.
        image_size: H and W; None: those of the image.

    Raises:
        BadFileError: as for `inspect`; the file is truncated or damaged; or the values of its 16 bits are so small that
            eight bits would be black.
    """
    mode = "L" if channels == 1 else "RGB"

    def read(image: Image.Image) -> Pixels:
        if image_size is not None:
            # JPEG can be decoded at a half, a quarter or an eighth: twice the wanted size leaves resizing its part.
            image.draft(mode, (2 * image_size, 2 * image_size))
        deep = _is_deep(image)
        eight = _in_eight_bits(image)
        if deep and max(high for _, high in _extrema(eight)) < _TWELVE_OF_SIXTEEN and _is_not_black(image, eight):
            raise BadFileError(
                f"{name} has 16 bits a channel but uses 12 of them at most, and would be black with 8: scale it to 8"
            )
        converted = _upright(eight.convert(mode), image)
        if image_size is not None:
            converted = _resized(converted, image_size)
        return np.asarray(converted)

    pixels = _read(data, name, read)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def resize(pixels: Pixels, image_size: int) -> Pixels:
    """The central square of an image (H, W, C) of 1 or 3 channels, resized."""
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels))
    resized = np.asarray(_resized(image, image_size))
    return resized[..., None] if resized.ndim == 2 else resized


def _resized(image: Image.Image, size: int) -> Image.Image:
    """Crop and linear interpolation in one go; shrinking averages over all pixels that fall into one."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has 16 bits per channel. Pillow silently cuts those of colour images to eight."""
    if image.mode in _SIXTEEN_BITS | {"I"}:
        return True
    if image.format == "PNG":
        tile = image.tile[0] if image.tile else None  # type: ignore[attr-defined]
        return tile is not None and "16" in str(tile[3])
    if image.format == "PPM":
        settings = image.tile[0][3] if image.tile else None  # type: ignore[attr-defined]
        return isinstance(settings, tuple) and settings[-1] > 255
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))  # type: ignore[attr-defined]
        return bool(np.max(bits) > 8)
    return False


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """The image in a mode that converts to L and RGB."""
    if image.mode in _SIXTEEN_BITS | {"I"}:
        values = np.asarray(image)
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
            values = 0xFFFF - values  # white is zero, of which Pillow takes notice with 8 bits only
        return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "RGBa":
        return image.convert("RGBA")
    if image.mode == "La":
        return image.convert("LA")
    if image.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB") or image
    return image


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    found = image.getextrema()
    return [found] if isinstance(found[0], int | float) else list(found)  # type: ignore[list-item]


def _is_not_black(image: Image.Image, eight: Image.Image) -> bool:
    """Whether an image that is nearly black with eight bits may not be so with all of its bits.

    Of colour images Pillow has only the upper eight bits.
    """
    return image is eight or bool(np.asarray(image).any())


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """The image put upright. A damaged EXIF block is ignored."""
    orientation = None
    with suppress(Exception):  # Pillow's reader raises a dozen types
        orientation = opened.getexif().get(_ORIENTATION)
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _read(data: bytes, name: str, read: Callable[[Image.Image], _Result]) -> _Result:
    """The result of `read` on the opened file. Any failure within is a BadFileError."""
    try:
        return _read_once(data, name, read)
    except BadFileError:
        raise
    except Exception as error:  # what Pillow raises for damaged files is of a dozen types
        bare = without_metadata(data)
        if bare is not None:
            with suppress(Exception):
                return _read_once(bare, name, read)
        raise BadFileError(f"{name} cannot be decoded: {_reason(data, error)}") from error


def _reason(data: bytes, error: Exception) -> str:
    if not isinstance(error, UnidentifiedImageError):
        return str(error) or type(error).__name__
    return f"it is no image, or damaged at its beginning ({data[:12]!r})" if data else "it is empty"


def _read_once(data: bytes, name: str, read: Callable[[Image.Image], _Result]) -> _Result:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise BadFileError(f"{name} has {image.width} x {image.height} pixels, more than {MAX_PIXELS}")
        # Pillow brings the values of a PGM file to the whole range, whatever its own range is.
        if image.mode not in _MODES and not (image.mode == "I" and image.format in ("PPM", "PNG")):
            raise BadFileError(
                f"{name} has pixels of mode {image.mode}, whose range the file does not tell; convert it to 8 bits a "
                "channel"
            )
        return read(image)
