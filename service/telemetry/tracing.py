"""OpenTelemetry traces of requests, SQL statements, calls to Ray and dispatch steps, sent over OTLP/HTTP.

On when OTEL_EXPORTER_OTLP_ENDPOINT is set, which with the other OTEL_ variables OpenTelemetry itself reads. Off, a
span is one comparison, and OpenTelemetry's SDK is not even imported.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

from adadim_core.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_tracer: "Tracer | None" = None


class TracingUnavailable(Exception):  # noqa: N818 - said to the user as it is
    """An endpoint is configured, but not what it takes to send to it."""


def configure(environ: Mapping[str, str] = os.environ) -> "TracerProvider | None":
    """Begin to trace if an endpoint is configured. Shut the provider down at the end: it sends what is left.

    Raises:
        TracingUnavailable: the packages are not installed.
    """
    global _tracer  # noqa: PLW0603 - one process, one tracer, as in OpenTelemetry itself
    if not any(environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingUnavailable(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set: install adadim[otel] to send traces, or unset it"
        ) from None
    service = {"service.name": "adadim", "service.version": VERSION}
    if environ.get("OTEL_SERVICE_NAME"):
        service["service.name"] = environ["OTEL_SERVICE_NAME"]
    provider = TracerProvider(resource=Resource.create(service))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("adadim")
    return provider


def stop(provider: "TracerProvider | None") -> None:
    """Send what is left, and trace no more."""
    global _tracer  # noqa: PLW0603
    _tracer = None
    if provider is not None:
        provider.shutdown()


@contextlib.contextmanager
def span(name: str, **attributes: Any) -> Iterator["Span | None"]:
    """A span of its own around a block, child of the one around it; None while tracing is off."""
    if _tracer is None:
        yield None
        return
    with _tracer.start_as_current_span(name, attributes=attributes) as current:
        yield current


@contextlib.contextmanager
def server_span(method: str, headers: Mapping[str, str]) -> Iterator["Span | None"]:
    """The span of one request, child of the caller's if its `traceparent` says so."""
    if _tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = TraceContextTextMapPropagator().extract(dict(headers))
    with _tracer.start_as_current_span(
        method, context=parent, kind=SpanKind.SERVER, attributes={"http.request.method": method}
    ) as current:
        yield current


def trace_id() -> str | None:
    """The id of the trace at hand, for log records."""
    if _tracer is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None


def trace_statements(engine: Engine) -> None:
    """A span for every SQL statement of an engine. Its text has placeholders, never values."""
    if _tracer is None:
        return
    from opentelemetry.trace import SpanKind, Status, StatusCode

    @event.listens_for(engine, "before_cursor_execute")
    def begin(_c: Any, _cursor: Any, statement: str, _p: Any, context: Any, _many: bool) -> None:
        if _tracer is not None and context is not None:
            words = statement.split(maxsplit=1)
            attributes = {"db.system.name": "postgresql", "db.query.text": statement[:2000]}
            context._adadim_span = _tracer.start_span(
                f"sql {words[0].upper() if words else ''}", kind=SpanKind.CLIENT, attributes=attributes
            )

    @event.listens_for(engine, "after_cursor_execute")
    def end(_c: Any, _cursor: Any, _s: str, _p: Any, context: Any, _many: bool) -> None:
        _end_of(context)

    @event.listens_for(engine, "handle_error")
    def fail(error: Any) -> None:
        _end_of(error.execution_context, Status(StatusCode.ERROR, type(error.original_exception).__name__))


def _end_of(context: Any, status: Any = None) -> None:
    current = getattr(context, "_adadim_span", None)
    if current is not None:
        context._adadim_span = None
        if status is not None:
            current.set_status(status)
        current.end()
