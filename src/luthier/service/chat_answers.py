"""An engine's words become an answer: calls are read out of them, and what an engine adds for itself is left out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.core.errors import Unsupported
from luthier.core.ids import HexSource
from luthier.data.call_reader import Arguments, CallBegins, CallReader, Piece, Text
from luthier.data.tool_prompt import HEAD
from luthier.service.questions import Calls, ChatQuestion, Json

LEAST_LOGPROB = -9999.0
"""What the wire says of a token that could not come (OpenAI API reference, `logprob`)."""

Entries = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one answer as the wire has it, and the log-probabilities of its tokens where they were asked for."""

    fields: dict[str, Any]
    entries: Entries | None = None


class ChoiceReader:
    """Reads one answer of the engine, whole or in pieces, into deltas.

    Raises Unsupported for an answer that is not what its grammar allows: llama.cpp goes on without one that it cannot
    build, and says nothing.
    """

    def __init__(self, question: ChatQuestion, new_hex: HexSource) -> None:
        self._question = question
        self._new_id: Callable[[], str] = lambda: f"call_{new_hex()[-24:]}"
        self._calls = CallReader() if question.tool_use.calls is not Calls.NONE else None
        self._entries: Entries = []
        self._begun = False
        self._native_called = False

    def feed(self, said: Json, logprobs: Json | None) -> Iterator[Delta]:
        """The deltas of a message or of an engine's delta. `logprobs` are the engine's for it."""
        if self._question.top_logprobs is not None and logprobs:
            self._entries += [entry_of(entry, self._question.top_logprobs) for entry in logprobs.get("content") or ()]
        for place, call in enumerate(said.get("tool_calls") or ()):
            self._native_called = True
            yield self._native_call(place, call)
        text = said.get("content")
        if text:
            pieces: Sequence[Piece] = self._calls.feed(text) if self._calls else [Text(text)]
            yield from self._deltas(pieces)

    def finish(self, reason: str) -> tuple[list[Delta], str]:
        """What was held back, and why the answer ended."""
        rest: list[Piece] = self._calls.finish() if self._calls else []
        if self._question.tool_use.calls is Calls.REQUIRED and rest and isinstance(rest[0], Text):
            # Cut off before the first call had a name: the beginning of its mark is no text.
            rest = [] if HEAD.startswith(rest[0].text) else rest
        deltas = list(self._deltas(rest))
        called = self._native_called or (self._calls is not None and self._calls.called)
        if called and reason != "length":
            return deltas, "function_call" if self._question.tool_use.as_functions else "tool_calls"
        return deltas, reason

    def _deltas(self, pieces: Sequence[Piece]) -> Iterator[Delta]:
        for piece in pieces:
            match piece:
                case Text(text):
                    self._check(text)
                    yield Delta({"content": text}, self._taken_entries())
                case CallBegins(place, name):
                    yield self._call(place, {"name": name, "arguments": ""}, self._new_id())
                case Arguments(place, text):
                    yield self._call(place, {"arguments": text}, None)

    def _call(self, place: int, function: dict[str, Any], id: str | None) -> Delta:
        self._entries = []
        if self._question.tool_use.as_functions:
            return Delta({"function_call": function})
        head = {} if id is None else {"id": id, "type": "function"}
        return Delta({"tool_calls": [{"index": place, **head, "function": function}]})

    def _native_call(self, place: int, call: Json) -> Delta:
        function = {key: call["function"][key] for key in ("name", "arguments") if key in call["function"]}
        id = (call.get("id") or self._new_id()) if "name" in function else None
        return self._call(call.get("index", place), function, id)

    def _taken_entries(self) -> Entries | None:
        taken, self._entries = self._entries, []
        return None if self._question.top_logprobs is None else taken

    def _check(self, text: str) -> None:
        must_call = self._question.tool_use.calls is Calls.REQUIRED
        schema = self._question.schema
        wrong = schema is not None and schema.get("type") == "object" and not text.lstrip().startswith("{")
        if not self._begun and (must_call or wrong):
            param = "tools" if must_call else "response_format"
            raise Unsupported(
                "schema_not_supported", "No answer of this model could be held to the schema; simplify it.", param
            )
        self._begun = True


def message_of(deltas: Sequence[Delta]) -> tuple[dict[str, Any], Entries | None]:
    """The whole message that deltas are the pieces of, and its log-probabilities."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    entries: Entries | None = None
    calls: list[dict[str, Any]] = []
    for delta in deltas:
        if delta.entries is not None:
            entries = (entries or []) + delta.entries
        if "content" in delta.fields:
            message["content"] = (message["content"] or "") + delta.fields["content"]
        if "function_call" in delta.fields:
            _extend(message.setdefault("function_call", {"arguments": ""}), delta.fields["function_call"])
        for piece in delta.fields.get("tool_calls", ()):
            if "id" in piece:
                calls.append({"id": piece["id"], "type": "function", "function": {"arguments": ""}})
            _extend(calls[-1]["function"], piece["function"])
    if calls:
        message["tool_calls"] = calls
    elif "function_call" not in message:
        message["content"] = message["content"] or ""
    return message, entries


def _extend(function: dict[str, Any], piece: Json) -> None:
    if "name" in piece:
        function["name"] = piece["name"]
    function["arguments"] += piece["arguments"]


def entry_of(entry: Json, top: int) -> dict[str, Any]:
    """A token's log-probability as the wire has it; engines tell its id and more alternatives than were asked for."""
    return {**_token(entry), "top_logprobs": [_token(other) for other in entry["top_logprobs"][:top]]}


def _token(entry: Json) -> dict[str, Any]:
    logprob = entry["logprob"]
    return {
        "token": entry["token"],
        "bytes": entry["bytes"],
        "logprob": LEAST_LOGPROB if logprob is None else max(logprob, LEAST_LOGPROB),
    }


def usage_of(usages: Sequence[Json], prompts: int = 1) -> dict[str, Any]:
    """Usage of answers to one prompt or several: a prompt is counted once, however many answers were asked for."""
    answers = max(1, len(usages) // prompts)
    firsts = usages[::answers]
    prompt_tokens = sum(usage["prompt_tokens"] for usage in firsts)
    completion_tokens = sum(usage["completion_tokens"] for usage in usages)
    cached = sum((usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0) for usage in firsts)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
