"""Names of metrics as an answer uses them, and how lists are written."""

from collections.abc import Iterable

from adadim_core.spec.metrics import metric_title

BESIDE = ("h_r", "i_rz", "erank_r")
"""Metrics whose differences are shown beside those of the metric that ranks: they say why."""
SHARES_OF_IMAGES = ("knn_top1", "linear_top1")
"""Metrics that are whole numbers of test images."""
_SHORT_TITLES = {"erank_r": "effective rank"}


def short_title(metric: str) -> str:
    """A metric within a sentence or over a narrow column."""
    return _SHORT_TITLES.get(metric, metric_title(metric))


def within_sentence(title: str) -> str:
    """A title in running text; symbols keep their case: "k-NN accuracy", "H(R)"."""
    first = title.partition(" ")[0]
    return title[0].lower() + title[1:] if first.isalpha() and first[1:].islower() else title


def listed(parts: Iterable[str]) -> str:
    """ "a, b and c"; with semicolons where a part has a comma of its own."""
    *head, last = parts
    if not head:
        return last
    mark = "; " if any("," in part for part in (*head, last)) else ", "
    return f"{mark.join(head)} and {last}"


def counted(n: int, noun: str) -> str:
    """ "1 seed", "5 seeds"."""
    return f"{n} {noun}{'s' * (n != 1)}"
