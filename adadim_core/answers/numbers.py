"""Formatting of numbers: decimals by the table of metrics, more where an interval needs them."""

import math

from adadim_core.spec.metrics import METRICS

_MOST_DECIMALS = 6
_DECIMALS = 3
"""Of a value without spread, or with one of rounding only."""


def decimals_for(metric: str, half_width: float) -> int:
    """Decimals at which an interval of this half width has a digit left.

    As many as the table of metrics says; if it gives none, as many as leave the half width two significant digits.
    """
    known = METRICS.get(metric)
    fixed = known.decimals if known is not None else None
    known_width = half_width >= 0.5 * 10**-_MOST_DECIMALS and math.isfinite(half_width)
    if fixed is None:
        wanted = 1 - math.floor(math.log10(half_width)) if known_width else _DECIMALS
    else:  # 0.0005 is the least that three decimals do not show as zero
        wanted = max(fixed, -math.floor(math.log10(2 * half_width))) if known_width else fixed
    return min(max(wanted, 0), _MOST_DECIMALS)


def number(value: float, decimals: int) -> str:
    """A number with a typographic minus sign; zero has none."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float, decimals: int) -> str:
    """A difference, with its sign, including +."""
    text = number(value, decimals)
    return f"+{text}" if float(text.replace("−", "-")) > 0 else text


def plain(value: float, metric: str) -> str:
    """A single value, without an interval: by the table's decimals, or four significant digits."""
    known = METRICS.get(metric)
    if known is not None and known.decimals is not None:
        return number(value, known.decimals)
    return f"{value:.4g}".replace("-", "−")
