"""A spec as it travels to a job: the same text comes out, and no text becomes longer than a command may have."""

import base64
import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadim_core.spec import MAX_SPEC_BYTES, SpecError, parse_spec, validate_spec
from adadim_core.spec.packing import packed, unpacked
from adadim_core.spec.parsing import compact

_MAX_ARG_STRLEN = 128 * 1024
"""Bytes Linux takes in one argument of a command."""


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_packed_text_comes_out_as_it_went_in(text: str) -> None:
    word = packed(text)
    assert unpacked(word) == text
    assert word.isascii()
    assert json.dumps(json.dumps(word)) == f'"\\"{word}\\""', "nothing in it is escaped"


@pytest.mark.parametrize("characters", ["ж", "龍", "🜁", '"', "\\", "\x01"])
def test_the_longest_spec_fits_into_one_argument(characters: str) -> None:
    draw = random.Random(0)
    room = MAX_SPEC_BYTES - 4_000
    # Drawn from the characters beside it, so that compression gains little.
    near = [chr(ord(characters) + k) for k in range(256)] if len(characters.encode()) > 1 else [characters, "a"]
    text = ""
    while len(json.dumps(text, ensure_ascii=False).encode()) < room:
        text += "".join(draw.choices(near, k=64))
    fields = validate_spec({"name": "x"}).model_dump(mode="json") | {"description": text}
    plain = compact(fields)
    assert MAX_SPEC_BYTES - 8_000 < len(plain.encode()) <= MAX_SPEC_BYTES
    assert len(json.dumps(json.dumps({"ADADIM_SPEC": packed(plain)}))) < _MAX_ARG_STRLEN - 16 * 1024


def test_what_no_compression_shortens_fits_too() -> None:
    text = random.Random(0).randbytes(MAX_SPEC_BYTES).decode("latin-1")[: MAX_SPEC_BYTES * 2 // 3]
    assert len(packed(text)) < _MAX_ARG_STRLEN - 16 * 1024


def test_a_spec_that_is_not_packed_is_taken_as_it_is() -> None:
    assert unpacked("name: zlib") == "name: zlib"
    assert parse_spec(unpacked('{"name": "x"}')).name == "x"


@pytest.mark.parametrize(
    "word",
    [
        "zlib:",
        "zlib:not base64",
        "zlib:bm90IHpsaWI=",
        packed("name: cut off, and long enough for that")[:-8],
        "zlib:" + base64.b64encode(zlib.compress(b"a" * (MAX_SPEC_BYTES + 1))).decode(),
        "zlib:" + base64.b64encode(zlib.compress(b"\xff\xfe")).decode(),
    ],
)
def test_a_damaged_word_is_told(word: str) -> None:
    with pytest.raises(SpecError, match="packed spec that is damaged"):
        unpacked(word)
