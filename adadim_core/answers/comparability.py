"""Whether a metric can be compared across configurations.

Owns the rules. Does not own the metrics' table (spec/metrics.py), which says of each what it depends on.
"""

from collections.abc import Iterable
from typing import Any

from adadim_core.answers.configurations import canonical
from adadim_core.spec.metrics import METRICS

_DATA = ("data", "data.dataset", "data.path")
_ORDER = ("objective", "objective.mutual_information", "objective.mutual_information.order")
_NOT_THE_MEASURE = ("evaluation.every_epochs",)


def varied_paths(params: Iterable[dict[str, Any]]) -> list[str]:
    """The paths in which some configurations differ."""
    documents = list(params)
    paths = sorted({path for document in documents for path in document})
    return [path for path in paths if len({canonical({path: document.get(path)}) for document in documents}) > 1]


def obstacle(metric: str, varied: Iterable[str]) -> str | None:
    """Why values of a metric cannot be compared between configurations that differ in these paths; None: they can."""
    known = METRICS.get(metric)
    for path in varied:
        section = path.partition(".")[0]
        if known is not None and not known.comparable and section == "objective":
            return "its values under different objectives are different quantities"
        if known is not None and known.of_the_order and path in _ORDER:
            return f"it is measured at the order of I(R;Z) in the loss, and {path} differs"
        if path in _DATA:
            return f"{path} differs, so it is measured on different data"
        if known is not None and known.needs_labels and section == "evaluation" and path not in _NOT_THE_MEASURE:
            return f"{path} differs, so it is measured in different ways"
        of_a_batch = known is not None and not known.needs_labels and not known.of_all_images
        if of_a_batch and path in ("training", "training.batch_size"):
            return f"it depends on the number of images in a batch, and {path} differs"
    return None
