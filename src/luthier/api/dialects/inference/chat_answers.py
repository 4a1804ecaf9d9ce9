"""Wire shapes of chat answers, chat.completion and chat.completion.chunk, as plain JSON.

The same in every dialect. Dicts, not Structs: which fields a message or a delta has depends on the request.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from luthier.core.inference.generation import FinishReason, TokenLogProb, ToolCallDelta, Usage
from luthier.service.inference.answers import Answer, AnswerHeader, Choice, ChoiceDelta

Shape = dict[str, Any]


class ChatAnswers:
    """The shapes of one request's answer, complete or streamed; remembers which choices have begun to stream.

    `as_functions` is whether the request used `functions`, the predecessor of `tools`, and gets `function_call`; `top`
    is how many alternatives each token's log-probability has.
    """

    def __init__(self, as_functions: bool, top: int) -> None:
        self._as_functions = as_functions
        self._top = top
        self._begun: set[int] = set()

    def complete(self, header: AnswerHeader, answer: Answer) -> Shape:
        """A chat.completion with every choice, its finish reason and the usage."""
        choices = [
            {
                "index": index,
                "message": self._message(choice),
                "logprobs": self._log_probs(choice.log_probs),
                "finish_reason": self._finish_reason(choice.finish_reason),
            }
            for index, choice in enumerate(answer.choices)
        ]
        return {**header_shape(header, "chatcmpl", "chat.completion"), "choices": choices, "usage": usage(answer.usage)}

    def chunks(self, header: Shape, deltas: Sequence[ChoiceDelta]) -> Iterator[Shape]:
        """A chunk with the role as each choice begins, one for each text or call, and one for its finish reason."""
        for delta in deltas:
            if delta.index not in self._begun:
                self._begun.add(delta.index)
                yield self._chunk(header, delta.index, {"role": "assistant", "content": ""})
            if delta.text is not None:
                yield self._chunk(header, delta.index, {"content": delta.text}, delta.log_probs)
            if delta.tool_call is not None:
                yield self._chunk(header, delta.index, self._call_delta(delta.tool_call))
            if delta.finish_reason is not None:
                yield self._chunk(header, delta.index, {}, None, self._finish_reason(delta.finish_reason))

    def stream_header(self, header: AnswerHeader) -> Shape:
        """The fields that every chunk of the answer begins with; made once, so that all have the same id and time."""
        return header_shape(header, "chatcmpl", "chat.completion.chunk")

    def _chunk(
        self,
        header: Shape,
        index: int,
        delta: Shape,
        log_probs: Sequence[TokenLogProb] | None = None,
        reason: str | None = None,
    ) -> Shape:
        """A chunk for one choice; `reason` is its finish reason, None before its end."""
        choice = {"index": index, "delta": delta, "logprobs": self._log_probs(log_probs), "finish_reason": reason}
        return {**header, "choices": [choice]}

    def _log_probs(self, log_probs: Sequence[TokenLogProb] | None) -> Shape | None:
        """Each token's log-probability in nats with its alternatives; None if they were not asked for."""
        if log_probs is None:
            return None
        content = [
            {**_token(token), "top_logprobs": [_token(other) for other in token.top[: self._top]]}
            for token in log_probs
        ]
        return {"content": content, "refusal": None}

    def _message(self, choice: Choice) -> Shape:
        """The assistant's message of a complete choice.

        Content is null only beside tool calls; of `functions` the first call alone is sent.
        """
        message: Shape = {"role": "assistant", "content": choice.text, "refusal": None}
        calls = [(call.id, {"arguments": call.arguments, "name": call.name}) for call in choice.tool_calls]
        if not calls:
            message["content"] = choice.text or ""
        elif self._as_functions:
            message["function_call"] = calls[0][1]
        else:
            message["tool_calls"] = [{"id": id, "type": "function", "function": function} for id, function in calls]
        return message

    def _call_delta(self, call: ToolCallDelta) -> Shape:
        """The delta of a tool call: id and name at its beginning, then more of the text of its arguments."""
        function: Shape = {} if call.name is None else {"name": call.name}
        if call.arguments is not None:
            function["arguments"] = call.arguments
        if self._as_functions:
            return {"function_call": function}
        begin = {} if call.id is None else {"id": call.id, "type": "function"}
        return {"tool_calls": [{"index": call.index, **begin, "function": function}]}

    def _finish_reason(self, reason: FinishReason) -> str:
        """The reason in the words of the request's spelling: function_call instead of tool_calls for `functions`."""
        if reason is FinishReason.TOOL_CALLS and self._as_functions:
            return "function_call"
        return str(reason)


def header_shape(header: AnswerHeader, id_prefix: str, kind: str) -> Shape:
    """The fields before the choices of every answer; `kind` is the text of `object`."""
    return {
        "id": f"{id_prefix}-{header.id}",
        "object": kind,
        "created": int(header.created_at.timestamp()),
        "model": header.model,
        "system_fingerprint": header.fingerprint,
    }


def usage(usage: Usage) -> Shape:
    """The usage in tokens as every answer has it; cached ones are those of the prompt that were not computed again."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _token(token: TokenLogProb) -> Shape:
    """One token: its text, its bytes and its log-probability in nats."""
    return {"token": token.token, "bytes": token.bytes, "logprob": token.log_prob}
