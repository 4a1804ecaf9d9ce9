"""The turns of a chat as clients send them, and the same as chat templates take them.

Faults that a pydantic type can express are found on parsing, the others by `plain` and `check_order`.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.core.errors import InvalidRequest
from luthier.data.jsonl import json_reader


class _Body(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class _TextualPart(_Body):
    """What @openai/agents copies from an answer's message into the part that it sends back; nothing reads it."""

    role: Literal["assistant"] | None = None
    annotations: list[Any] | None = None
    audio: None = None


class TextPart(_TextualPart):
    """A part of a turn's content: text."""

    type: Literal["text"]
    text: str
    refusal: None = None


class RefusalPart(_TextualPart):
    """A part of an assistant's content: the text of a refusal, which is read like any other."""

    type: Literal["refusal"]
    refusal: str
    content: None = None


class OtherPart(BaseModel):
    """A part that is known, and nothing that a model here can take in."""

    type: Literal["image_url", "input_audio", "file"]


class FunctionCalled(_Body):
    """A call of a history: its arguments are whatever some model once wrote, JSON or not."""

    name: str = Field(min_length=1, max_length=64)
    arguments: str | None = None

    def plain(self) -> dict[str, Any]:
        """The call as chat templates take it: arguments that are a JSON object are decoded, others stay text."""
        text = self.arguments or ""
        reading = json_reader.read(text)
        if not text.strip() or (reading.value is None and not reading.faults):
            return {"name": self.name, "arguments": {}}
        is_object = isinstance(reading.value, dict) and not reading.faults
        return {"name": self.name, "arguments": reading.value if is_object else text}


class CallMade(_Body):
    """A call of a tool in the history; `id` is what the answering turn names in tool_call_id."""

    id: str = Field(json_schema_extra={"minLength": 1})
    type: Literal["function"] = "function"
    function: FunctionCalled


class ChatMessage(_Body):
    """One turn. An answer that a client sends back as it got it has `audio` and `annotations` without content."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart | RefusalPart | OtherPart] | None = None
    name: str | None = None
    """Handed to the chat template, which as a rule does not show it: docs/dialects.md."""
    refusal: str | None = None
    tool_calls: list[CallMade] | None = Field(default=None, max_length=128)
    function_call: FunctionCalled | None = None
    tool_call_id: str | None = None
    audio: None = None
    annotations: list[Any] | None = None

    def characters(self) -> int:
        """The length of the turn's text and of its calls' arguments."""
        calls = self.tool_calls or []
        return len(self._text("")) + sum(len(call.function.arguments or "") for call in calls)

    def plain(self, place: str) -> dict[str, Any]:
        """The turn as the chat template takes it. `place` is its path in the body, for errors.

        Raises InvalidRequest for a turn without content, a part that no base here can see, and calls of another role.
        """
        role = "system" if self.role == "developer" else self.role
        calls = self._calls(place)
        if self.role != "assistant":
            if self.content is None:
                raise InvalidRequest("missing_content", "this turn has no content.", f"{place}.content")
        elif self.content is None and self.refusal is None and not calls:
            raise InvalidRequest("missing_content", "an answer has content or calls of functions.", f"{place}.content")
        turn: dict[str, Any] = {"role": "tool" if role == "function" else role, "content": self._text(place)}
        if calls:
            turn["tool_calls"] = calls
        if self.tool_call_id is not None:
            turn["tool_call_id"] = self.tool_call_id
        return turn

    def _text(self, place: str) -> str:
        """The content as one text, else the refusal, else an empty one.

        Raises InvalidRequest for other parts than text, unless `place` is empty.
        """
        if isinstance(self.content, str):
            return self.content
        texts = []
        for part in self.content or ():
            match part:
                case TextPart(text=text) | RefusalPart(refusal=text):
                    texts.append(text)
                case OtherPart() if place:
                    what = "image" if part.type == "image_url" else part.type
                    raise InvalidRequest(
                        f"{what}_not_supported",
                        "This model reads text alone; send parts of type 'text'.",
                        f"{place}.content",
                    )
        return "".join(texts) or self.refusal or ""

    def _calls(self, place: str) -> list[dict[str, Any]]:
        """The calls that the turn makes, in either spelling, as templates take them; empty if none.

        Raises InvalidRequest.
        """
        if not self.tool_calls and self.function_call is None:
            return []
        if self.role != "assistant":
            raise InvalidRequest("invalid_value", "only the assistant calls functions.", f"{place}.role")
        if self.function_call is not None:
            return [{"id": None, "type": "function", "function": self.function_call.plain()}]
        ids: set[str] = set()
        for index, call in enumerate(self.tool_calls or ()):
            path = f"{place}.tool_calls[{index}].id"
            if not call.id:
                raise InvalidRequest("invalid_value", "the id of a call is empty; its answer is to name it.", path)
            if call.id in ids:
                raise InvalidRequest("invalid_value", "an earlier call of this turn has the same id.", path)
            ids.add(call.id)
        return [
            {"id": call.id, "type": "function", "function": call.function.plain()} for call in self.tool_calls or ()
        ]


def check_order(messages: Sequence[ChatMessage]) -> None:
    """Raises InvalidRequest for a tool result without its call in an earlier turn, or a nameless function result."""
    made: set[str] = set()
    for place, message in enumerate(messages):
        made |= {call.id for call in message.tool_calls or ()}
        if message.role == "tool" and message.tool_call_id not in made:
            raise InvalidRequest(
                "invalid_value",
                "a turn of role 'tool' answers, by its tool_call_id, a call in an earlier assistant turn.",
                f"messages[{place}].tool_call_id",
            )
        if message.role == "function" and not message.name:
            raise InvalidRequest("missing_field", "a turn of role 'function' names it.", f"messages[{place}].name")
