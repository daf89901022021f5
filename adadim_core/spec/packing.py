"""A spec as one word of plain characters, as it travels to a job.

Ray writes a job's environment as JSON, with escapes, into one argument of a command, of which Linux takes 128 KiB:
text of 64 KiB may become three times as long there. This form has no character that anything escapes, and its length
is bounded whatever the spec holds.
"""

import base64
import binascii
import zlib

from adadim_core.spec.notation import MAX_SPEC_BYTES
from adadim_core.spec.problems import Problem, SpecError

_MARK = "zlib:"
"""No spec begins so: it would be text and not a mapping."""


def packed(text: str) -> str:
    """A spec's text as one word."""
    return _MARK + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpacked(word: str) -> str:
    """The text of a packed spec; any other text as it is.

    Raises:
        SpecError: the word is damaged, or holds more than a spec may have.
    """
    if not word.startswith(_MARK):
        return word
    try:
        inflate = zlib.decompressobj()
        text = inflate.decompress(base64.b64decode(word.removeprefix(_MARK), validate=True), MAX_SPEC_BYTES + 1)
        if len(text) > MAX_SPEC_BYTES or not inflate.eof:
            raise ValueError("cut off, or too long")
        return text.decode()
    except (binascii.Error, zlib.error, ValueError) as error:
        raise SpecError([Problem("", f"a packed spec that is damaged: {error}")]) from None
