"""Queries behind the list of experiments: what is searched, filtered and sorted, and where the next page begins.

A cursor holds the last row's value of the column that sorts, and its number: pages neither skip nor repeat what stays
as it is while somebody turns them.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from sqlalchemy import ColumnElement, Text, and_, cast, false, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from adadim_core.spec.report import TrialState
from service.database.tables import Experiment, Trial
from service.errors import FieldError, InvalidError

Sort = Literal[
    "id", "name", "owner", "state", "trials", "best", "duration",
    "-id", "-name", "-owner", "-state", "-trials", "-best", "-duration",
]  # fmt: skip
"""A column; with a minus the largest first."""


@dataclass(frozen=True)
class Cursor:
    """The last row of a page."""

    sort: str
    value: str | float | None
    id: int
    at: float
    """When the first page was read, in seconds since 1970: durations that go on are compared as they were then."""

    def text(self) -> str:
        """As the API hands it out."""
        return base64.urlsafe_b64encode(json.dumps([self.sort, self.value, self.id, self.at]).encode()).decode()

    @classmethod
    def read(cls, text: str, sort: str) -> Self:
        """A cursor that was handed out for this order. Raises InvalidError for any other text."""
        try:
            found, value, number, at = json.loads(base64.urlsafe_b64decode(text.encode()))
            kind = str if sort.removeprefix("-") in _TEXTS else (int, float)
            known = value is None or (isinstance(value, kind) and not isinstance(value, bool))
            if found != sort or not known or type(number) is not int or not 0 <= number < 2**63:
                raise ValueError(text)
            if isinstance(value, str) and "\0" in value:
                raise ValueError(text)
            return cls(found, value if isinstance(value, str | None) else float(value), number, float(at))
        except (ValueError, TypeError, OverflowError, RecursionError):
            wrong = FieldError(pointer="cursor", detail="is not one that this list gave for this order")
            raise InvalidError("cursor: is not one that this list gave for this order", errors=[wrong]) from None


@dataclass(frozen=True)
class Filter:
    """Which experiments are listed: those for which everything holds."""

    text: str | None = None
    """In the name, the description, the owner or a label; or the number."""
    states: Sequence[str] = ()
    """One of them."""
    owner: str | None = None
    labels: Sequence[str] = ()
    """Each as key=value, or as a key alone."""


async def page(
    session: AsyncSession, wanted: Filter, sort: Sort, cursor: str | None, limit: int
) -> tuple[Sequence[Experiment], str | None]:
    """Experiments without their specs, and the cursor of the next page. Ties go to the newer one.

    Raises InvalidError for a cursor that is not one.
    """
    after = Cursor.read(cursor, sort) if cursor else None
    now: datetime = (await session.scalars(select(func.now()))).one()
    at = after.at if after else now.timestamp()
    descending, column = sort.startswith("-"), sort.removeprefix("-")
    key = _sorted_by(column, at)
    order = (key.desc() if descending else key.asc()).nulls_last()
    without = (defer(Experiment.spec, raiseload=True), defer(Experiment.spec_text, raiseload=True))
    query = select(Experiment, key).options(*without).where(*_conditions(wanted)).order_by(order, Experiment.id.desc())
    if after is not None:
        query = query.where(_behind(key, after, descending=descending))
    rows = (await session.execute(query.limit(limit + 1))).all()
    if len(rows) <= limit:
        return [row[0] for row in rows], None
    last = rows[limit - 1]
    return [row[0] for row in rows[:limit]], Cursor(sort, last[1], last[0].id, at).text()


async def trial_states(session: AsyncSession, ids: Sequence[int]) -> dict[int, dict[TrialState, int]]:
    """How many trials of each of these experiments are in which state."""
    query = (
        select(Trial.experiment_id, Trial.state, func.count())
        .where(Trial.experiment_id.in_(ids))
        .group_by(Trial.experiment_id, Trial.state)
    )
    found: dict[int, dict[TrialState, int]] = {number: {} for number in ids}
    rows: Sequence[Any] = (await session.execute(query)).all()
    for number, state, count in rows:
        found[number][state] = count
    return found


_TEXTS: Mapping[str, ColumnElement[str]] = {
    "name": func.lower(Experiment.name).collate("C"),
    "owner": func.lower(Experiment.owner).collate("C"),
    "state": Experiment.state.collate("C"),
}
_NUMBERS: Mapping[str, Any] = {
    "id": Experiment.id,  # as they were submitted
    "trials": Experiment.trial_count,
    "best": Experiment.best_value,
}


def _sorted_by(column: str, at: float) -> ColumnElement[Any]:
    if column == "duration":
        end = func.coalesce(Experiment.ended_at, func.to_timestamp(at))
        return cast(func.extract("epoch", end - Experiment.started_at), Experiment.best_value.type)
    return _TEXTS[column] if column in _TEXTS else _NUMBERS[column]


def _behind(key: ColumnElement[Any], last: Cursor, *, descending: bool) -> ColumnElement[bool]:
    """The rows after the last one: those without a value come last, the newer of two equals first."""
    older = Experiment.id < last.id
    if last.value is None:
        return and_(key.is_(None), older)
    further = key < last.value if descending else key > last.value
    return or_(further, and_(key == last.value, older), key.is_(None))


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.text:
        texts = (
            Experiment.name,
            Experiment.owner,
            Experiment.spec["description"].astext,
            cast(Experiment.labels, Text),
        )
        number = Experiment.id == int(wanted.text.removeprefix("#")) if _is_number(wanted.text) else false()
        found.append(or_(number, *(text.icontains(wanted.text, autoescape=True) for text in texts)))
    if wanted.states:
        found.append(Experiment.state.in_(wanted.states))
    if wanted.owner is not None:
        found.append(Experiment.owner == wanted.owner)
    for label in wanted.labels:
        key, equals, value = label.partition("=")
        has = Experiment.labels.has_key(key)
        found.append(Experiment.labels.contains(literal({key: value}, JSONB)) if equals else has)
    return found


def _is_number(text: str) -> bool:
    digits = text.removeprefix("#")
    return digits.isascii() and digits.isdecimal() and len(digits) <= 18
