"""Names of metrics as an answer uses them, and how lists are written."""

from collections.abc import Iterable


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
