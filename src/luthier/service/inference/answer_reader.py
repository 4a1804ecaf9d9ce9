"""Reads the engine's output of one chat answer: parses tool calls out of its text and checks it against its grammar."""

from collections.abc import Iterator, Sequence

from luthier.core.errors import Unsupported
from luthier.core.ids import HexSource
from luthier.core.inference.generation import EngineDelta, FinishReason, TokenLogProb, ToolCallDelta
from luthier.data.tools.stream_parser import ArgumentsPiece, CallStart, Piece, TextPiece, ToolCallParser
from luthier.service.inference.answers import ChoiceDelta, tool_calls_of
from luthier.service.inference.generation_requests import ChatRequest


class AnswerReader:
    """Turns the engine's deltas of the `index`-th answer into a choice's deltas.

    Raises Unsupported at the first delta that its grammar does not accept, before that delta is given out, and for a
    complete answer that does not match its schema: llama.cpp silently continues without a grammar that it cannot
    compile, or that grows too large in the middle of an answer.
    """

    def __init__(self, request: ChatRequest, index: int, new_hex: HexSource) -> None:
        self._request = request
        self._index = index
        self._new_hex = new_hex
        self._call_reader = ToolCallParser(request.call_form) if request.tool_use.can_call else None
        self._matcher = request.constraint.new_matcher() if request.constraint is not None else None
        self._text = ""
        self._calls: list[ToolCallDelta] = []
        self._log_probs: list[TokenLogProb] = []
        """Of tokens whose text is still held back."""

    def feed(self, output: EngineDelta) -> list[ChoiceDelta]:
        """The choice's deltas for one of the engine's; the last one has the finish reason, if the answer ends.

        Raises Unsupported for text that breaks the grammar or schema.
        """
        deltas = list(self._fed(output))
        if output.finish_reason is not None:
            rest, reason = self._finish(output.finish_reason)
            deltas += [*rest, ChoiceDelta(self._index, finish_reason=reason)]
        return deltas

    def _fed(self, output: EngineDelta) -> Iterator[ChoiceDelta]:
        """The deltas of an output without its end. Keeps its log-probabilities until their text is given out."""
        top = self._request.top_log_probs
        if top is not None and output.log_probs:
            self._log_probs += output.log_probs
        for call in output.tool_calls:
            yield self._native_call(call)
        if output.text:
            if self._matcher is not None and not self._matcher.accepts(output.text):
                raise self._mismatch()
            yield from self._deltas(
                self._call_reader.feed(output.text) if self._call_reader else [TextPiece(output.text)]
            )

    def _finish(self, reason: FinishReason) -> tuple[list[ChoiceDelta], FinishReason]:
        """What was held back, and why the answer ended. Raises Unsupported if it is complete and breaks its schema."""
        rest: list[Piece] = self._call_reader.finish() if self._call_reader else []
        if self._request.tool_use.must_call and rest and isinstance(rest[0], TextPiece):
            # Cut off before the first call had a name: the beginning of its mark is no text.
            rest = [] if self._request.call_form.head.startswith(rest[0].text) else rest
        deltas = list(self._deltas(rest))
        if reason is not FinishReason.LENGTH:
            if self._breaks_constraint():
                raise self._mismatch()
            if self._calls or (self._call_reader is not None and self._call_reader.called):
                return deltas, FinishReason.TOOL_CALLS
        return deltas, reason

    def _deltas(self, pieces: Sequence[Piece]) -> Iterator[ChoiceDelta]:
        """The deltas of the parser's pieces, which are also kept for the check of the complete answer."""
        for piece in pieces:
            match piece:
                case TextPiece(text):
                    self._text += text
                    yield ChoiceDelta(self._index, text, log_probs=self._taken_log_probs())
                case CallStart(place, name):
                    yield self._call(ToolCallDelta(place, self._new_id(), name, ""))
                case ArgumentsPiece(place, text):
                    yield self._call(ToolCallDelta(place, arguments=text))

    def _native_call(self, call: ToolCallDelta) -> ChoiceDelta:
        """The delta of a call that the engine itself has parsed; one that begins gets an id if it has none."""
        id = (call.id or self._new_id()) if call.name is not None else None
        return self._call(ToolCallDelta(call.index, id, call.name, call.arguments))

    def _call(self, call: ToolCallDelta) -> ChoiceDelta:
        """Keeps a piece of a call, drops the log-probabilities that are held back, and returns its delta."""
        self._log_probs = []
        self._calls.append(call)
        return ChoiceDelta(self._index, tool_call=call)

    def _new_id(self) -> str:
        return f"call_{self._new_hex()[-24:]}"

    def _taken_log_probs(self) -> list[TokenLogProb] | None:
        """The log-probabilities held back so far, for the text that is given out now; None if none were asked for."""
        taken, self._log_probs = self._log_probs, []
        return None if self._request.top_log_probs is None else taken

    def _breaks_constraint(self) -> bool:
        """Whether a complete answer breaks its grammar or schema; False if the caller set stop strings."""
        constraint = self._request.constraint
        if constraint is None or "stop" in self._request.sampling.fields:
            return False
        if self._matcher is not None and not self._matcher.is_complete():
            return True
        if self._calls:
            calls = tool_calls_of(self._calls)
            return any(constraint.breaks_tool_schema(call.name, call.arguments) for call in calls)
        return self._request.schema is not None and constraint.breaks_schema(self._text)

    def _mismatch(self) -> Unsupported:
        """The error for an answer that breaks its constraint, whose param is the field that the schema came from."""
        must_call = self._request.schema is None or self._request.tool_use.must_call
        return Unsupported(
            "schema_not_supported",
            "No answer of this model could be held to the schema; simplify it.",
            "tools" if must_call else "response_format",
        )
