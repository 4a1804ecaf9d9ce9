"""What API processes and engine hosts send each other, as JSON: addresses, outputs, states, proofs and errors.

Both ends use this module; each `read_` undoes the function of the same name.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from luthier.core.engine_ports import Address, Capacity, EngineState, ParityReport
from luthier.core.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    LuthierError,
    NoSpace,
    NotFound,
    QuotaExceeded,
    RateLimited,
    TooLarge,
    Unavailable,
    Unsupported,
    UpstreamFailed,
)
from luthier.core.inference.generation import EngineDelta, FinishReason, TokenLogProb, ToolCallDelta, Usage
from luthier.core.states import EngineName, LoadState

Json = Mapping[str, Any]

_ERRORS = {
    kind.__name__: kind
    for kind in (InvalidRequest, NotFound, Conflict, Forbidden, TooLarge, QuotaExceeded, Unsupported, NoSpace)
} | {"UpstreamFailed": UpstreamFailed}
"""Errors that have code, message and field alone."""


def error(raised: LuthierError) -> Json:
    """An error with all that its caller is told; details are of data files, which no host reads."""
    kind = next((one.__name__ for one in type(raised).__mro__ if one.__name__ in _KINDS), "UpstreamFailed")
    retry = raised.retry_after_s if isinstance(raised, RateLimited | Unavailable) else None
    return {"kind": kind, "code": raised.code, "message": raised.message, "param": raised.param, "retry": retry}


def read_error(value: Json) -> LuthierError:
    """One of an unknown kind, from a newer host, is UpstreamFailed."""
    code, message, param, retry = value["code"], value["message"], value.get("param"), value.get("retry")
    match value["kind"]:
        case "RateLimited":
            return RateLimited(code, message, retry or 1.0, param)
        case "Unavailable":
            return Unavailable(code, message, param, retry)
        case kind:
            return _ERRORS.get(kind, UpstreamFailed)(code, message, param)


def output(value: EngineDelta | Usage) -> Json:
    """A part of an answer; what is empty is left out."""
    if isinstance(value, Usage):
        return {"usage": [value.prompt_tokens, value.completion_tokens, value.cached_tokens]}
    found: dict[str, Any] = {"text": value.text} if value.text else {}
    if value.tool_calls:
        found["calls"] = [[one.index, one.id, one.name, one.arguments] for one in value.tool_calls]
    if value.log_probs is not None:
        found["log_probs"] = log_probs(value.log_probs)
    if value.finish_reason is not None:
        found["finish"] = value.finish_reason
    return found


def read_output(value: Json) -> EngineDelta | Usage:
    if "usage" in value:
        return Usage(*value["usage"])
    reason = value.get("finish")
    return EngineDelta(
        value.get("text", ""),
        tuple(ToolCallDelta(*one) for one in value.get("calls", ())),
        read_log_probs(value["log_probs"]) if "log_probs" in value else None,
        None if reason is None else FinishReason(reason),
    )


def log_probs(values: Sequence[TokenLogProb]) -> list[Any]:
    return [[one.token, list(one.bytes), one.log_prob, log_probs(one.top)] for one in values]


def read_log_probs(values: Sequence[Any]) -> list[TokenLogProb]:
    return [TokenLogProb(token, data, log_prob, read_log_probs(top)) for token, data, log_prob, top in values]


def address(value: Address) -> Json:
    """What a caller must know of an address; where the engine is, and its key, stay with the host."""
    names = ("renders_tools", "takes_tokens", "embeds")
    capacity = None if value.capacity is None else asdict(value.capacity)
    return {name: getattr(value, name) for name in names} | {"capacity": capacity}


def read_address(value: Json, url: str, fields: Mapping[str, object]) -> Address:
    """The address at a host: its URL, and the fields that name the model there."""
    capacity = None if value["capacity"] is None else Capacity(**value["capacity"])
    return Address(
        url,
        fields,
        renders_tools=value["renders_tools"],
        takes_tokens=value["takes_tokens"],
        embeds=value["embeds"],
        capacity=capacity,
    )


def vectors(values: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(one).decode() for one in values]


def read_vectors(values: object) -> list[bytes]:
    return [base64.b64decode(one) for one in cast(list[str], values)]


def report(value: ParityReport) -> Json:
    return asdict(value)


def read_report(value: Json) -> ParityReport:
    return ParityReport(**value)


def state(value: EngineState) -> Json:
    return asdict(value)


def read_state(value: Json) -> EngineState:
    return EngineState(EngineName(value["engine"]), LoadState(value["state"]), value["reason"])


_KINDS = frozenset({*_ERRORS, "RateLimited", "Unavailable"})
