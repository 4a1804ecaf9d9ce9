"""What goes between API processes and engine hosts: each value comes back as it was, through JSON text."""

import json
import math
from typing import Any

import pytest

from luthier.core import errors
from luthier.core.engine_ports import Address, Capacity, EngineState, ParityReport
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import HostGone
from luthier.core.inference.generation import (
    MIN_LOG_PROB,
    EngineDelta,
    FinishReason,
    TokenLogProb,
    ToolCallDelta,
    Usage,
)
from luthier.core.states import EngineName, LoadState

TOP = TokenLogProb("é", [195, 169], -0.1 - 1e-17, [])
OUTPUTS = [
    EngineDelta(),
    EngineDelta("Hi \u2028\n"),
    EngineDelta("", (ToolCallDelta(0, "call_1", "f", ""), ToolCallDelta(0, arguments='{"a":'))),
    EngineDelta("x", (), []),
    EngineDelta("x", (), [TokenLogProb("\ufffd", [195], MIN_LOG_PROB, [TOP])], FinishReason.LENGTH),
    EngineDelta(finish_reason=FinishReason.TOOL_CALLS),
    Usage(3, 4, 2),
]


def through_json(value: object) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_come_back_equal(output: EngineDelta | Usage) -> None:
    assert host_values.read_output(through_json(host_values.output(output))) == output


@pytest.mark.parametrize(
    "raised",
    [
        errors.InvalidRequest("context_length_exceeded", "Too long.", "messages"),
        errors.NotFound("model_not_found", "None."),
        errors.RateLimited("queue_full", "Wait.", 2.5, "model"),
        errors.Unavailable("engine_gone", "Gone.", retry_after_s=5.0),
        errors.UpstreamFailed("parity_failed", "No parity."),
        errors.NoSpace("disk_full", "Full."),
        errors.Unsupported("embeddings_not_supported", "None."),
    ],
)
def test_errors_keep_kind_code_words_field_and_wait(raised: errors.LuthierError) -> None:
    read = host_values.read_error(through_json(host_values.error(raised)))
    assert type(read) is type(raised)
    assert (read.code, read.message, read.param) == (raised.code, raised.message, raised.param)
    assert getattr(read, "retry_after_s", None) == getattr(raised, "retry_after_s", None)


@pytest.mark.parametrize("raised", [HostGone(), errors.LeaseLost("lease_lost", "Lost.")])
def test_errors_of_a_special_kind_are_those_of_their_general_one(raised: errors.LuthierError) -> None:
    read = host_values.read_error(through_json(host_values.error(raised)))
    assert type(read) is errors.Unavailable
    assert read.code == raised.code


def test_error_of_an_unknown_kind_is_the_hosts_failure() -> None:
    read = host_values.read_error({"kind": "FromTheFuture", "code": "new", "message": "New."})
    assert type(read) is errors.UpstreamFailed
    assert str(read) == "New."


def test_address_tells_callers_what_they_need_and_keeps_the_engines_key() -> None:
    capacity = Capacity("native/1", 8, 16384, 2048, takes_turns=True)
    address = Address("native://127.0.0.1:5", {"adapter": "a"}, {"key": "engine-secret"}, True, True, capacity)
    sent = host_values.address(address)
    assert "secret" not in json.dumps(sent)
    read = host_values.read_address(through_json(sent), "http://h:1", {"model": "m"})
    expected = Address("http://h:1", {"model": "m"}, renders_tools=True, takes_tokens=True, capacity=capacity)
    assert read == expected


def test_vectors_states_and_reports_come_back_equal() -> None:
    vectors = [b"\x00\xff\x7f\x80", b""]
    assert host_values.read_vectors(through_json(host_values.vectors(vectors))) == vectors
    state = EngineState(EngineName.LLAMACPP, LoadState.LOADING, "It loads.")
    assert host_values.read_state(through_json(host_values.state(state))) == state
    report = ParityReport(7, 0.1 + 0.2, math.pi, 0.5, True, "Agrees.")
    assert host_values.read_report(through_json(host_values.report(report))) == report
