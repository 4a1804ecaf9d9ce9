"""The items of a response's input as clients send them, each with its stored form and its turn of the chat.

The kinds are those of OpenAI's reference, "Create a model response", `input`; a kind that no model here can read is
refused by its name. `turns` makes the chat of a whole conversation.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from luthier.api.requests.chat_messages import FunctionCalled
from luthier.core.errors import InvalidRequest

Item = dict[str, Any]
"""An item as the wire has it, with its id: what is stored and what lists of input items show."""

_Id = Annotated[str, Field(min_length=1, max_length=512)]
_Status = Literal["in_progress", "completed", "incomplete"]
_NO_SUCH_PARTS = {
    "input_image": "image_not_supported: no model here sees; send parts of type 'input_text'",
    "input_file": "no model here reads files; send their text in parts of type 'input_text'",
    "input_audio": "no model here hears; send parts of type 'input_text'",
    "text": "did you mean 'input_text'? Parts of type 'text' belong to chat completions",
    "image_url": "no model here sees; send parts of type 'input_text'",
    "reasoning_text": "no model here reasons, and thoughts are no part of a prompt; leave it out",
}


class _Body(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class ItemTextPart(_Body):
    """A part of a turn's content: text that somebody wrote to the model, or that a model wrote."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None
    parsed: Any = None
    """What the SDK's `parse` adds for its caller; its `model_dump()` sends it back."""


class AnswerRefusalPart(_Body):
    """A part of an assistant's content: the text of a refusal, which is read like any other."""

    type: Literal["refusal"]
    refusal: str


def _refuse_part(kind: object) -> str:
    """Raises ValueError, which pydantic reports at the field, with what to send instead of such a part."""
    known = _NO_SUCH_PARTS.get(kind) if isinstance(kind, str) else None
    raise ValueError(known or "parts are of type 'input_text', 'output_text' or 'refusal'")


class UnknownPart(BaseModel):
    """A part that no model here can take in."""

    type: Annotated[str, BeforeValidator(_refuse_part)]


def _kind_of_part(part: object) -> str:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    if kind in ("input_text", "output_text") or kind is None:
        return "ItemTextPart"
    return "AnswerRefusalPart" if kind == "refusal" else "UnknownPart"


_Part: TypeAlias = Annotated[
    Annotated[ItemTextPart, Tag("ItemTextPart")]
    | Annotated[AnswerRefusalPart, Tag("AnswerRefusalPart")]
    | Annotated[UnknownPart, Tag("UnknownPart")],
    Discriminator(_kind_of_part),
]
_Content: TypeAlias = str | list[_Part]


def _text(content: _Content) -> str:
    """The content as one text."""
    if isinstance(content, str):
        return content
    return "".join(
        part.refusal if isinstance(part, AnswerRefusalPart) else getattr(part, "text", "") for part in content
    )


class ItemMessage(_Body):
    """A turn: what was said to the model, or an answer of an assistant as it was given."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: _Content
    id: _Id | None = None
    status: _Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None

    def stored(self, place: str) -> Item:
        """The item with all that a reader expects; its id ends with `place` if it has none of its own."""
        is_answer = self.role == "assistant"
        kind = "output_text" if is_answer else "input_text"
        parts: list[Item] = [{"type": kind, "text": self.content}] if isinstance(self.content, str) else []
        for part in self.content if not isinstance(self.content, str) else ():
            is_refusal = isinstance(part, AnswerRefusalPart)
            parts.append(
                {"type": "refusal", "refusal": _text([part])} if is_refusal else {"type": kind, "text": _text([part])}
            )
        if is_answer:
            parts = [part if part["type"] == "refusal" else {**part, "annotations": []} for part in parts]
        return {
            "id": self.id or f"msg_{place}",
            "type": "message",
            "role": self.role,
            "content": parts,
            "status": "completed",
        }


class FunctionCallBody(_Body):
    """A call that a model made: its arguments are whatever it wrote, JSON or not.

    `async_` and `parsed_arguments` are not of the API: the SDK's own `model_dump()` of a call has them.
    """

    type: Literal["function_call"]
    call_id: _Id
    name: str = Field(min_length=1, max_length=64)
    arguments: str
    id: _Id | None = None
    status: _Status | None = None
    namespace: None = None
    caller: dict[str, Any] | None = None
    created_by: str | None = None
    async_: Annotated[Literal[False] | None, Field(validation_alias=AliasChoices("async", "async_"))] = None
    parsed_arguments: Any = None

    def stored(self, place: str) -> Item:
        """The item with an id, which ends with `place` if it has none of its own."""
        call = {"call_id": self.call_id, "name": self.name, "arguments": self.arguments}
        return {"id": self.id or f"fc_{place}", "type": "function_call", **call, "status": self.status or "completed"}


class FunctionOutputBody(_Body):
    """What a call gave: the answer to the call of that `call_id`."""

    type: Literal["function_call_output"]
    call_id: _Id
    output: _Content
    id: _Id | None = None
    status: _Status | None = None
    name: str | None = None
    namespace: None = None
    caller: dict[str, Any] | None = None
    created_by: str | None = None

    def stored(self, place: str) -> Item:
        """The item with its output as one text, and an id, which ends with `place` if it has none of its own."""
        output = {"call_id": self.call_id, "output": _text(self.output)}
        return {"id": self.id or f"fco_{place}", "type": "function_call_output", **output, "status": "completed"}


class ReferenceBody(_Body):
    """An item of a stored response, named by its id."""

    type: Literal["item_reference"] | None = None
    id: _Id


def _refuse_item(kind: object) -> str:
    """Raises ValueError, which pydantic reports at the field: no such item can be honoured."""
    if kind == "reasoning":
        raise ValueError("no model here reasons, and thoughts are no part of a prompt; leave this item out")
    raise ValueError(
        "items are of type 'message', 'function_call', 'function_call_output' or 'item_reference'; tools that run on a "
        "server are not served here"
    )


class OtherItemBody(BaseModel):
    """An item of a kind that is not served."""

    type: Annotated[str, BeforeValidator(_refuse_item)]


_KINDS = {
    "message": "ItemMessage",
    "function_call": "FunctionCallBody",
    "function_call_output": "FunctionOutputBody",
    "item_reference": "ReferenceBody",
}


def _kind_of_item(item: object) -> str:
    """The branch of an item: by its type, which a turn and a reference may leave out."""
    if not isinstance(item, dict):
        return type(item).__name__ if isinstance(item, BaseModel) else "ItemMessage"
    kind = item.get("type")
    if kind is None:
        return "ReferenceBody" if "id" in item and "role" not in item else "ItemMessage"
    return _KINDS.get(kind, "OtherItemBody") if isinstance(kind, str) else "OtherItemBody"


InputItem: TypeAlias = Annotated[
    Annotated[ItemMessage, Tag("ItemMessage")]
    | Annotated[FunctionCallBody, Tag("FunctionCallBody")]
    | Annotated[FunctionOutputBody, Tag("FunctionOutputBody")]
    | Annotated[ReferenceBody, Tag("ReferenceBody")]
    | Annotated[OtherItemBody, Tag("OtherItemBody")],
    Discriminator(_kind_of_item),
]
StorableItem = ItemMessage | FunctionCallBody | FunctionOutputBody


def turns(instructions: str | None, earlier: Sequence[Item], items: Sequence[Item]) -> tuple[Item, ...]:
    """The chat of a conversation, as chat templates take it: what was stored of it, then this request's own items.

    Calls that follow an answer or one another are one turn with it, as the model wrote them. Raises InvalidRequest for
    an output without its call, by its place in `input`.
    """
    chat: list[Item] = [] if instructions is None else [{"role": "system", "content": instructions}]
    called: set[str] = set()
    for index, item in enumerate([*earlier, *items]):
        match item["type"]:
            case "message":
                role = "system" if item["role"] == "developer" else item["role"]
                chat.append({"role": role, "content": _stored_text(item)})
            case "function_call":
                called.add(item["call_id"])
                _add_call(chat, item)
            case _:
                if item["call_id"] not in called:
                    raise InvalidRequest(
                        "invalid_value",
                        f"No tool call found for function call output with call_id {item['call_id'][:64]}.",
                        f"input[{index - len(earlier)}].call_id",
                    )
                chat.append({"role": "tool", "content": item["output"], "tool_call_id": item["call_id"]})
    return tuple(chat)


def _add_call(chat: list[Item], item: Item) -> None:
    """Adds a call to the assistant's turn at the end of the chat; begins one if there is none."""
    if not chat or chat[-1]["role"] != "assistant":
        chat.append({"role": "assistant", "content": ""})
    function = FunctionCalled(name=item["name"], arguments=item["arguments"]).plain()
    chat[-1].setdefault("tool_calls", []).append({"id": item["call_id"], "type": "function", "function": function})


def _stored_text(item: Item) -> str:
    """The text of a stored turn."""
    return "".join(part.get("text", part.get("refusal", "")) for part in item["content"])
