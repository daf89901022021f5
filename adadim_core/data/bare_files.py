"""Image files without their metadata: comments, colour profiles, EXIF.

Pillow refuses a file whose profile or comment is damaged or too long, although the pixels are intact. Owns as much of
the PNG and JPEG containers as it takes to leave out what decoding does not need.
"""

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_NEEDED_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"}
_OPTIONAL_CHUNKS = {b"eXIf"}
"""Kept where they are whole: they say which way is up."""

_JPEG = b"\xff\xd8"
_START_OF_SCAN = 0xDA
_COMMENT = 0xFE
_APPLICATION = range(0xE0, 0xF0)
_NEEDED_APPLICATION = {0xE0, 0xEE}
"""JFIF, and Adobe's, which says what the channels mean."""


def without_metadata(data: bytes) -> bytes | None:
    """The file reduced to what its pixels need; None if it is neither PNG nor JPEG, or too damaged to tell."""
    try:
        if data.startswith(_PNG):
            return _bare_png(data)
        if data.startswith(_JPEG):
            return _bare_jpeg(data)
    except (struct.error, IndexError):
        pass
    return None


def _bare_png(data: bytes) -> bytes:
    parts, position = [_PNG], len(_PNG)
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        end = position + size + 12
        if kind in _NEEDED_CHUNKS or (kind in _OPTIONAL_CHUNKS and _is_whole(data, position, end)):
            parts.append(data[position:end])
        if kind == b"IEND":
            break
        position = end
    return b"".join(parts)


def _is_whole(data: bytes, start: int, end: int) -> bool:
    return zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def _bare_jpeg(data: bytes) -> bytes:
    parts, position = [_JPEG], len(_JPEG)
    while True:
        marker, kind, size = struct.unpack_from(">BBH", data, position)
        if marker != 0xFF or kind == _START_OF_SCAN:
            return b"".join([*parts, data[position:]])
        end = position + 2 + size
        if kind in _NEEDED_APPLICATION or not (kind in _APPLICATION or kind == _COMMENT):
            parts.append(data[position:end])
        position = end
