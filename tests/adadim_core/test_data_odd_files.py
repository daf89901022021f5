"""Sound pixels are read whatever stands beside them; more than 8 bits a channel are never turned black unsaid."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tiny_sets import encoded, pixels

from adadim_core.data import DataError
from adadim_core.data.pixels import decode, inspect

PIXELS = pixels(1, 32)[0]
RANDOM = random.Random(0)
MEGABYTES = bytes(2_000_000)


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    data = encoded(PIXELS, "JPEG")
    added = b"".join(b"\xff" + struct.pack(">BH", kind, len(body) + 2) + body for kind, body in segments)
    return data[:2] + added + data[2:]


def chunk(kind: bytes, body: bytes, *, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) if crc is None else crc)
    )


def png(*chunks: bytes, at_end: bool = False) -> bytes:
    data = encoded(PIXELS)
    place = len(data) - 12 if at_end else 33
    return data[:place] + b"".join(chunks) + data[place:]


def webp(exif: bytes) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "WEBP", lossless=True, exif=exif)
    return out.getvalue()


NOISE = RANDOM.randbytes(16)
ODD = {
    "exif jpeg": jpeg((0xE1, b"Exif\0\0" + NOISE)),
    "orientation is a text": jpeg((0xE1, b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0up\0\0\0\0\0\0")),
    "exif png": png(chunk(b"eXIf", NOISE)),
    "exif webp": webp(NOISE),
    "profile png": png(chunk(b"iCCP", b"p\0\0" + zlib.compress(MEGABYTES))),
    "random profile png": png(chunk(b"iCCP", b"p\0\0" + zlib.compress(RANDOM.randbytes(2_000_000)))),
    "broken profile png": png(chunk(b"iCCP", b"p\0\0" + NOISE)),
    "comment png": png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(MEGABYTES))),
    "international comment png": png(chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(MEGABYTES))),
    "comment after the pixels": png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(MEGABYTES)), at_end=True),
    "checksum of a comment": png(chunk(b"tEXt", b"a\0b", crc=1)),
    "checksum of exif": png(chunk(b"eXIf", NOISE, crc=1)),
    "many comments": png(*[chunk(b"tEXt", b"k\0" + bytes(900_000)) for _ in range(60)]),
    "several pictures jpeg": jpeg((0xE2, b"MPF\0" + NOISE)),
    "photoshop jpeg": jpeg((0xED, b"Photoshop 3.0\x008BIM" + NOISE)),
    "profile jpeg": jpeg((0xE2, b"ICC_PROFILE\0" + NOISE)),
    "adobe jpeg": jpeg((0xFE, b"comment"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + NOISE)),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sound_pixels_are_read_whatever_stands_beside_them(data):
    plain = encoded(PIXELS, "JPEG") if data.startswith(b"\xff\xd8") else encoded(PIXELS)
    expected = decode(plain, "plain", channels=3, image_size=None)
    assert np.array_equal(decode(data, "odd", channels=3, image_size=None), expected)
    assert decode(data, "odd", channels=3, image_size=8).shape == (3, 8, 8)
    assert inspect(data, "odd") == (3, 32, 32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        encoded(PIXELS)[:-40],
        encoded(PIXELS)[:60],
        encoded(PIXELS, "JPEG")[:-40],
        encoded(PIXELS).replace(b"IDAT", b"IDAX"),
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
    ],
)
def test_damaged_pixels_are_refused(data):
    with pytest.raises(DataError, match=r"a/x\.png cannot be decoded"):
        decode(data, "a/x.png", channels=3, image_size=None)


def test_an_orientation_is_kept_beside_a_damaged_comment():
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = png(chunk(b"eXIf", exif.tobytes()[6:]), chunk(b"tEXt", b"a\0b", crc=1))
    upright = decode(encoded(np.rot90(PIXELS, -1).copy()), "x", channels=3, image_size=None)
    assert np.array_equal(decode(tall, "x", channels=3, image_size=None), upright)


def deep_png(values: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) of 16 bits."""
    colour = values.ndim == 3
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2 if colour else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_tiff(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "TIFF")
    return out.getvalue()


def deep_pgm(values: np.ndarray, maximum: int) -> bytes:
    return b"P5 %d %d %d\n" % (values.shape[1], values.shape[0], maximum) + values.astype(">u2").tobytes()


RAMP = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040).astype(np.uint16)


@pytest.mark.parametrize(
    ("data", "channels"),
    [(deep_png(RAMP), 1), (deep_tiff(RAMP), 1), (deep_pgm(RAMP, 65535), 1), (deep_png(np.dstack([RAMP] * 3)), 3)],
    ids=["png", "tiff", "pgm", "colour png"],
)
def test_sixteen_bits_become_eight(data, channels):
    assert inspect(data, "x").channels == channels
    found = decode(data, "x", channels=channels, image_size=None)
    assert np.abs(found.astype(int) - (RAMP >> 8)[None]).max() <= 1


def white_is_zero(values: np.ndarray) -> bytes:
    """A TIFF file of (H, W) 16-bit pixels whose zero is white."""
    height, width = values.shape
    entries = [(256, width), (257, height), (258, 16), (259, 1), (262, 0), (273, 122), (277, 1), (278, height)]
    entries += [(279, values.nbytes)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", 0)
    assert len(head) == 122
    return head + values.astype("<u2").tobytes()


def test_sixteen_bits_whose_zero_is_white_are_turned_round():
    found = decode(white_is_zero(RAMP), "x", channels=1, image_size=None)
    assert np.abs(found.astype(int) - (255 - (RAMP >> 8))[None]).max() <= 1


def test_the_range_of_a_pgm_file_is_the_one_it_names():
    twelve = deep_pgm((RAMP >> 4).astype(np.uint16), 4095)
    assert np.abs(decode(twelve, "x", channels=1, image_size=None).astype(int) - (RAMP >> 8)[None]).max() <= 1


@pytest.mark.parametrize(
    "data",
    [
        deep_png(RAMP >> 8),
        deep_png(RAMP >> 4),
        deep_tiff(RAMP >> 4),
        deep_png(np.dstack([RAMP >> 4] * 3)),
        b"P6 8 8 65535\n" + np.dstack([RAMP >> 4] * 3).astype(">u2").tobytes(),
    ],
    ids=["8 of 16", "12 of 16", "12 of 16 tiff", "12 of 16 colour", "12 of 16 colour ppm"],
)
def test_sixteen_bits_that_would_be_black_are_refused(data):
    with pytest.raises(DataError, match="16 bits a channel but uses 12"):
        decode(data, "x", channels=3, image_size=None)


@pytest.mark.parametrize("values", [np.ones((8, 8), np.float32), np.ones((8, 8), np.int32)], ids=["float", "32 bits"])
def test_pixels_without_a_range_are_refused(values):
    for read in (lambda data: inspect(data, "x"), lambda data: decode(data, "x", channels=1, image_size=None)):
        with pytest.raises(DataError, match="whose range the file does not tell"):
            read(deep_tiff(values))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_of_eight_bits_is_read(mode):
    image = Image.fromarray(np.full((8, 8, 3), (200, 60, 30), np.uint8))
    made = Image.new("LAB", (8, 8), (128, 160, 160)) if mode == "LAB" else image.convert(mode)
    out = io.BytesIO()
    made.save(out, "TIFF")
    for channels in (1, 3):
        found = decode(out.getvalue(), "x", channels=channels, image_size=None)
        assert found.shape == (channels, 8, 8)
        assert found.max() > 50
