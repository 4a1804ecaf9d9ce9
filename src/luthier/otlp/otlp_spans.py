"""Spans by OpenTelemetry's SDK, sent in batches by OTLP over HTTP.

The standard's own variables say where to and how much: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS,
OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER (docs/traces.md).
"""

import threading
from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from luthier import __version__

_CLOSE_S = 2.0
_SCOPE = "luthier"


class OtlpSpan:
    """A Span of the SDK."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def rename(self, name: str) -> None:
        if self._span.is_recording():  # the SDK warns of a span that has ended
            self._span.update_name(name)

    def set(self, name: str, value: str | int | float | bool | Sequence[str]) -> None:
        if self._span.is_recording():
            self._span.set_attribute(name, value)

    def end(self, failed: bool) -> None:
        if self._span.is_recording():
            if failed:
                self._span.set_status(Status(StatusCode.ERROR))
            self._span.end()


class OtlpSpans:
    """A SpanSource with a thread of its own that sends; what cannot be sent in time is dropped and logged."""

    def __init__(self) -> None:
        """Reads the OTEL_ variables; connects to nothing. Raises ValueError for one that cannot be read."""
        defaults = Resource({SERVICE_NAME: "luthier", SERVICE_VERSION: __version__})
        resource = Resource.create().merge(defaults).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(_SCOPE, __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, headers: Mapping[str, str]) -> OtlpSpan:
        """A span of kind SERVER: the caller's own span of the call, if it has one, is of kind CLIENT."""
        context = self._propagator.extract(headers)
        return OtlpSpan(self._tracer.start_span(name, context, SpanKind.SERVER))

    def close(self) -> None:
        """A collector that does not answer holds up nothing longer than two seconds."""
        closing = threading.Thread(target=self._provider.shutdown, name="otlp-close", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
