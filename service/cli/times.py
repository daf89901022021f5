"""Times as people read them: this machine's own, with its zone named once, at the head of a column or beside one."""

from collections.abc import Iterable
from datetime import datetime


def day(text: str) -> str:
    """The day of a time as the API tells it."""
    return f"{_local(text):%Y-%m-%d}"


def minute(text: str) -> str:
    """Day and minute."""
    return f"{_local(text):%Y-%m-%d %H:%M}"


def second(text: str) -> str:
    """Day and second."""
    return f"{_local(text):%Y-%m-%d %H:%M:%S}"


def headed(head: str, texts: Iterable[str | None]) -> str:
    """A column's head with the zone of its times: two where summer time begins or ends between them."""
    zones = {_local(text).tzname() or "" for text in texts if text is not None}
    return f"{head} ({'/'.join(sorted(zones))})" if zones else head


def _local(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()
