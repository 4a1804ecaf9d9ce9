"""Wire shapes of a response: its body, and the events of a streamed one (OpenAI API reference, "Streaming events").

The same in every dialect. One writer makes both, so a streamed response ends as a complete one would be.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from luthier.core.errors import InvalidRequest, LuthierError, RateLimited, Unsupported
from luthier.core.inference.generation import FinishReason, TokenLogProb, ToolCallDelta, Usage
from luthier.core.inference.stored_responses import ResponseStatus, item_place, response_id
from luthier.service.inference.answers import Answer, AnswerHeader, ChoiceDelta

Shape = dict[str, Any]


class ResponseWriter:
    """One response as it is written: `body` is what it is so far, and every method gives the events of a step.

    `hex32` is of its id; `settings` are the fields that repeat the request; `top` is how many alternatives each token's
    log-probability has, None for no log-probabilities.
    """

    def __init__(self, hex32: str, settings: Mapping[str, Any], top: int | None, now: Callable[[], datetime]) -> None:
        self._hex = hex32
        self._top = top
        self._now = now
        self._events = 0
        self._open: Shape | None = None
        """The item that is being written: the last one of the output."""
        self._reason = FinishReason.STOP
        self.body: Shape = {
            "id": response_id(hex32),
            "object": "response",
            "created_at": int(now().timestamp()),
            "status": str(ResponseStatus.IN_PROGRESS),
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "model": "",
            "output": [],
            "usage": None,
            **settings,
        }

    @staticmethod
    def announced(body: Mapping[str, Any]) -> Iterator[Shape]:
        """The events of a response that waits, with that body: those that `queue` gives of it."""
        for number, kind in enumerate(("response.created", "response.queued")):
            yield {"type": kind, "sequence_number": number, "response": body}

    @staticmethod
    def ended(body: Mapping[str, Any], number: int) -> Shape:
        """The event that a stored response ended with, for somebody who has seen `number` events before it."""
        return {"type": f"response.{body['status']}", "sequence_number": number, "response": body}

    def queue(self) -> Iterator[Shape]:
        """The events of a response that waits to be generated, before those of `begin`."""
        self.body["status"] = str(ResponseStatus.QUEUED)
        for event in self.announced(self._snapshot()):
            self._events += 1
            yield event

    def begin(self, header: AnswerHeader) -> Iterator[Shape]:
        """The events that every response begins with; the body then names the model that answers."""
        self.body |= {"model": header.model, "status": str(ResponseStatus.IN_PROGRESS)}
        if not self._events:
            yield self._event("response.created", response=self._snapshot())
        yield self._event("response.in_progress", response=self._snapshot())

    def add(self, deltas: Sequence[ChoiceDelta]) -> Iterator[Shape]:
        """The events for what the answer continues with: items as they begin, and pieces of text and of arguments."""
        for delta in deltas:
            if delta.text:
                yield from self._add_text(delta.text, delta.log_probs or ())
            if delta.tool_call is not None:
                yield from self._add_call(delta.tool_call)
            if delta.finish_reason is not None:
                self._reason = delta.finish_reason

    def end(self, usage: Usage) -> Iterator[Shape]:
        """The events that end the last item. The body then has its status; `last` gives the response's last event."""
        is_cut = self._reason is FinishReason.LENGTH
        if not self.body["output"]:
            yield from self._begin_message()
        yield from self._end_item("incomplete" if is_cut else "completed")
        status = ResponseStatus.INCOMPLETE if is_cut else ResponseStatus.COMPLETED
        self.body |= {
            "status": str(status),
            "completed_at": None if is_cut else int(self._now().timestamp()),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "usage": _usage(usage),
        }

    def fail(self, error: LuthierError) -> Iterator[Shape]:
        """The events of an answer that breaks off; the body then has the error."""
        yield from self._end_item("incomplete")
        words = {"code": error.code, "message": error.message, "param": error.param}
        yield self._event("error", **words)
        self.body |= {"status": str(ResponseStatus.FAILED), "error": failure(error)}

    def last(self) -> Shape:
        """The event that the response ends with, which holds it whole."""
        return self._event(f"response.{self.body['status']}", response=self._snapshot())

    def complete(self, header: AnswerHeader, answer: Answer) -> None:
        """Writes a complete answer into the body."""
        choice = answer.choices[0]
        calls = [
            ChoiceDelta(0, tool_call=ToolCallDelta(index, call.id, call.name, call.arguments))
            for index, call in enumerate(choice.tool_calls)
        ]
        text = [ChoiceDelta(0, choice.text, log_probs=choice.log_probs)] if choice.text else []
        deltas = [*text, *calls, ChoiceDelta(0, finish_reason=choice.finish_reason)]
        for _ in (*self.begin(header), *self.add(deltas), *self.end(answer.usage)):
            pass

    def _add_text(self, text: str, log_probs: Sequence[TokenLogProb]) -> Iterator[Shape]:
        """The events of a piece of text, which begins a message if none is open."""
        if self._open is None or self._open["type"] != "message":
            yield from self._end_item("completed")
            yield from self._begin_message()
        item = self._current()
        part = item["content"][0]
        part["text"] += text
        shaped = [] if self._top is None else [self._log_prob(token) for token in log_probs]
        if shaped:
            part["logprobs"] += shaped
        yield self._event("response.output_text.delta", **self._place(), content_index=0, delta=text, logprobs=shaped)

    def _add_call(self, call: ToolCallDelta) -> Iterator[Shape]:
        """The events of a call that begins, or of a piece of its arguments."""
        if call.id is not None:
            yield from self._end_item("completed")
            function = {"call_id": call.id, "name": call.name or "", "arguments": ""}
            yield from self._begin_item({"id": f"fc_{self._next_place()}", "type": "function_call", **function})
        if call.arguments:
            self._current()["arguments"] += call.arguments
            yield self._event("response.function_call_arguments.delta", **self._place(), delta=call.arguments)

    def _begin_message(self) -> Iterator[Shape]:
        """The events of a message that begins, with its one part."""
        id = f"msg_{self._next_place()}"
        yield from self._begin_item({"id": id, "type": "message", "role": "assistant", "content": []})
        part: Shape = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._current()["content"].append(part)
        yield self._event("response.content_part.added", **self._place(), content_index=0, part=_copy(part))

    def _begin_item(self, item: Shape) -> Iterator[Shape]:
        """Appends an item to the output; the event that says so."""
        self._open = {**item, "status": "in_progress"}
        self.body["output"].append(self._open)
        index = len(self.body["output"]) - 1
        yield self._event("response.output_item.added", output_index=index, item=_copy(self._open))

    def _end_item(self, status: str) -> Iterator[Shape]:
        """The events that end the open item, if there is one."""
        item = self._open
        if item is None:
            return
        place = self._place()
        if item["type"] == "message":
            part = item["content"][0]
            words = {"text": part["text"], "logprobs": part["logprobs"]}
            yield self._event("response.output_text.done", **place, content_index=0, **words)
            yield self._event("response.content_part.done", **place, content_index=0, part=_copy(part))
        else:
            words = {"name": item["name"], "arguments": item["arguments"]}
            yield self._event("response.function_call_arguments.done", **place, **words)
        item["status"] = status
        yield self._event("response.output_item.done", output_index=place["output_index"], item=_copy(item))
        self._open = None

    def _current(self) -> Shape:
        """The open item: deltas of an answer always begin one before they continue it."""
        assert self._open is not None
        return self._open

    def _place(self) -> Shape:
        """Where the open item stands, as events name it."""
        return {"item_id": self._current()["id"], "output_index": len(self.body["output"]) - 1}

    def _next_place(self) -> str:
        return item_place(self._hex, len(self.body["output"]))

    def _event(self, kind: str, **fields: Any) -> Shape:
        """One event with the next sequence number."""
        event = {"type": kind, "sequence_number": self._events, **fields}
        self._events += 1
        return event

    def _snapshot(self) -> Shape:
        """The body as it is now: what an event holds is not changed by a later one."""
        return {**self.body, "output": [_copy(item) for item in self.body["output"]]}

    def _log_prob(self, token: TokenLogProb) -> Shape:
        """A token with its log-probability in nats and its alternatives."""
        return {**_token(token), "top_logprobs": [_token(other) for other in token.top[: self._top]]}


def failure(error: LuthierError) -> Shape:
    """The error of a failed response: its code is one of the closed set of OpenAI's reference."""
    code = "server_error"
    if isinstance(error, RateLimited):
        code = "rate_limit_exceeded"
    elif isinstance(error, InvalidRequest | Unsupported):
        code = "invalid_prompt"
    return {"code": code, "message": error.message}


def _copy(item: Shape) -> Shape:
    """An item or part with its content copied: all that a later event changes."""
    content = item.get("content")
    return {**item} if content is None else {**item, "content": [{**part} for part in content]}


def _token(token: TokenLogProb) -> Shape:
    return {"token": token.token, "bytes": list(token.bytes), "logprob": token.log_prob}


def _usage(usage: Usage) -> Shape:
    """The usage in tokens; cached ones are those of the prompt that were not computed again."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
