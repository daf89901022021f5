"""One notation: a value given to a command is read exactly as the same text in a spec file."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadim_core.spec import SpecError
from adadim_core.spec.notation import load, load_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("2e-03", 0.002),
        ("off", "off"),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("010", 10),
        ("0x10", "0x10"),
        ("1_0", "1_0"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01 10:00:00", "2026-01-01 10:00:00"),
        ("null", None),
        ("", None),
        ("=", "="),
        ("<<", "<<"),
        ("'10'", "10"),
        ("a # b", "a"),
        ("[1, 2e1]", [1, 20.0]),
        ("{name: barlow_twins}", {"name": "barlow_twins"}),
        ("\u00fcber", "\u00fcber"),
    ],
)
def test_a_value_is_read_as_yaml_1_2_reads_it(text: str, value: object) -> None:
    found = load_value(text)
    assert found == value
    assert type(found) is type(value)


def test_a_number_too_large_for_a_float_is_infinite_as_in_a_file() -> None:
    assert load_value("1e400") == load_value(".inf") == math.inf


@pytest.mark.parametrize("text", ["foo: bar", "- a", "[a", "'a", "*a", "!!int 3", "a\nb", "{a: 1, a: 2}", "a\0b"])
def test_what_no_field_of_a_spec_can_hold_in_a_line_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="not a value in YAML"):
        load_value(text)


@pytest.mark.parametrize("text", ["18446744073709551616", "1e30", '"a\\0b"', '"\\ud800"'])
def test_a_value_that_no_database_takes_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"64 bits|2\^63|NUL|surrogate|not a value"):
        load_value(text)


@given(st.text(alphabet="0123456789eE+-._:[]{}, #'\"abnoyxtfTN~=<&*!|>%@`\\\u00a0\t", max_size=12))
def test_no_text_reads_otherwise_than_behind_a_field(text: str) -> None:
    def behind_a_field() -> object:
        return load(f"name: a\nfield: {text}\n")

    try:
        value = load_value(text)
    except SpecError as error:
        if "64 bits" in str(error) or "2^63" in str(error):  # which a file is told after it was read
            return
        with pytest.raises(SpecError):
            behind_a_field()
    else:
        assert repr(behind_a_field()) == repr({"name": "a", "field": value})
