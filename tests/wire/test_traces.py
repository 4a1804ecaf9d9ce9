"""Spans of calls as a collector gets them: the GenAI conventions, the caller's trace, and no text of anybody."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from openai import APIError, OpenAI

from asgi_switch import Switch
from fakes import BASE, KEY, EchoEngine, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.core.ports import SpanSource
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.context import Context
from luthier.service.models.serving import Serving

pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from luthier.otlp.otlp_spans import OtlpSpans

SECRET = "marked text"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SERVER_KIND, ERROR = 2, 2


class Collector:
    """An OTLP receiver on loopback."""

    def __init__(self) -> None:
        received = self.received = list[bytes]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                received.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(data) for data in self.received]
        scopes = [scope for request in requests for one in request.resource_spans for scope in one.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    def resource(self) -> dict[str, Any]:
        request = ExportTraceServiceRequest.FromString(self.received[0])
        return values(request.resource_spans[0].resource.attributes)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as Python has them."""
    found = {}
    for one in attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def spans(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpanSource]:
    """As `luthier serve` has it with traces on. `close` sends everything."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    made = OtlpSpans()
    yield made
    made.close()


@pytest.fixture
def client(
    switch: tuple[Switch, str], context: Context, serving: Serving, grammars: GrammarChecker, spans: SpanSource
) -> Iterator[OpenAI]:
    made, url = switch
    services = Services(context, serving, lambda: None, grammars=grammars, calls=engine_calls(), spans=spans)
    made.app = server.build(services, None)
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_chat_is_a_span_of_the_callers_trace_with_figures_and_no_text(
    client: OpenAI, spans: SpanSource, collector: Collector
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    asked = client.chat.completions.with_raw_response.create(
        model=BASE,
        messages=[{"role": "user", "content": SECRET}],
        max_tokens=7,
        temperature=0.5,
        seed=3,
        stop=[SECRET],
        user=SECRET,
        extra_headers=headers,
    )
    spans.close()
    [span] = collector.spans()
    assert (span.name, span.kind) == (f"chat {BASE}", SERVER_KIND)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    told = values(span.attributes)
    assert told.pop("luthier.request_id") == asked.headers["x-request-id"]
    assert told.pop("server.port") > 0
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "luthier",
        "gen_ai.request.model": BASE,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stream": False,
        "gen_ai.response.model": BASE,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
    }
    assert collector.resource()["service.name"] == "luthier"
    assert not any(SECRET.encode() in data for data in collector.received)


def test_streams_completions_and_responses_are_spans(client: OpenAI, spans: SpanSource, collector: Collector) -> None:
    for _ in client.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "a"}], stream=True, n=2, temperature=0
    ):
        pass
    client.completions.create(model=BASE, prompt="a")
    for _ in client.completions.create(model=BASE, prompt="a", stream=True):
        pass
    for _ in client.responses.create(model=BASE, input="a", stream=True):
        pass
    client.models.list()
    spans.close()
    told = {span.name: values(span.attributes) for span in collector.spans()}
    assert [span.name for span in collector.spans()] == [
        f"chat {BASE}",
        f"text_completion {BASE}",
        f"text_completion {BASE}",
        f"chat {BASE}",
    ]
    first = values(collector.spans()[0].attributes)
    assert first["gen_ai.request.choice.count"] == 2
    assert first["gen_ai.response.finish_reasons"] == ["stop", "stop"]
    streamed = [values(span.attributes) for span in collector.spans() if span.name in told]
    times = [one.get("gen_ai.response.time_to_first_chunk") for one in streamed]
    assert times[1] is None
    assert all(0 < float(time or 0) < 60 for time in (times[0], times[2], times[3]))
    assert all(one["gen_ai.usage.output_tokens"] > 0 for one in streamed)


def test_refused_call_has_its_code_and_not_the_name_that_it_asked_for(
    client: OpenAI, spans: SpanSource, collector: Collector, engine: EchoEngine
) -> None:
    for model, content in ((SECRET, "a"), (BASE, "too long"), (BASE, "die")):
        with pytest.raises(APIError):
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
    with pytest.raises(APIError):
        client.chat.completions.create(model=BASE, messages=SECRET)
    httpx2.post(f"{client.base_url}chat/completions", json={"model": SECRET})
    spans.close()
    told = [(span.name, values(span.attributes), span.status.code == ERROR) for span in collector.spans()]
    assert [(name, one["error.type"], one["http.response.status_code"], failed) for name, one, failed in told] == [
        ("chat", "model_not_found", 404, False),
        (f"chat {BASE}", "context_length_exceeded", 400, False),
        (f"chat {BASE}", "engine_gone", 503, True),
        ("chat", "invalid_request", 400, False),
        ("chat", "missing_api_key", 401, False),
    ]
    assert not any(SECRET.encode() in data for data in collector.received)


def test_collector_that_does_not_answer_holds_up_neither_calls_nor_the_stop(
    client: OpenAI, spans: SpanSource, collector: Collector
) -> None:
    collector.close()
    client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "a"}])
    spans.close()


def test_sdk_is_not_imported_where_traces_are_off() -> None:
    names = ("opentelemetry.sdk", "opentelemetry.exporter", "luthier.otlp")
    code = f"import sys, luthier.app, luthier.cli.serve; print(*[m for m in sys.modules if m.startswith({names})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
