"""Rows as libraries write messages out: LangChain, LangSmith, llama-index; calls of Mistral and Transformers.

Formats for `known_formats`; every `_convert_...` and `add_...` raises NotConvertible for what it cannot read.
"""

from luthier.data.dataset_formats import tool_builder, turn_lists
from luthier.data.dataset_formats.chat_builder import (
    ChatBuilder,
    JsonObject,
    NotConvertible,
    add_turn,
    objects,
    role_of,
)
from luthier.data.dataset_formats.dataset_format import Conversion, Format, to_conversion
from luthier.data.dataset_formats.vendor_apis import add_parts

_CLASSES = {
    "HumanMessage": "human",
    "AIMessage": "ai",
    "AIMessageChunk": "ai",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "HumanMessageChunk": "human",
}
_IGNORED_KEYS = ("additional_kwargs", "response_metadata", "usage_metadata", "id", "example", "invalid_tool_calls")
_INPUTS = ("question", "input", "query", "prompt", "text", "user", "messages")
_OUTPUTS = ("answer", "output", "response", "completion", "text", "message", "messages", "generations", "choices")


def unwrap_langchain(item: object) -> JsonObject | None:
    """A message of LangChain as {"type", "content", ...}, without the wrappers it is saved in; None for all else."""
    if not isinstance(item, dict):
        return None
    inner = item.get("data")
    if isinstance(inner, dict) and "content" in inner and role_of(item.get("type")):
        return {**inner, "type": item["type"]}
    names, arguments = item.get("id"), item.get("kwargs")
    if item.get("type") == "constructor" and isinstance(names, list) and names and isinstance(arguments, dict):
        kind = _CLASSES.get(names[-1]) if isinstance(names[-1], str) else None
        return None if kind is None else {**arguments, "type": kind}
    return item if "content" in item and "role" not in item and role_of(item.get("type")) else None


def add_langchain(chat: ChatBuilder, message: JsonObject, where: str) -> None:
    """Adds a message that `unwrap_langchain` gave, its calls included; `where` is its place, for dropped keys."""
    read_fields = {key: value for key, value in message.items() if key not in _IGNORED_KEYS}
    extra = message.get("additional_kwargs")
    if not read_fields.get("tool_calls") and isinstance(extra, dict) and extra.get("tool_calls"):
        read_fields["tool_calls"] = extra["tool_calls"]
    content = read_fields.get("content")
    if isinstance(content, list) and message.get("tool_calls"):  # Anthropic's blocks beside the same calls
        read_fields["content"] = [
            part for part in content if not isinstance(part, dict) or part.get("type") != "tool_use"
        ]
    for key in ("name", "status", "artifact"):
        read_fields.pop(key, None)
    add_turn(chat, read_fields, "type", "content", where)
    chat.note_dropped(message, set(read_fields) | set(_IGNORED_KEYS), where)


def _is_langchain(row: JsonObject) -> bool:
    """Whether all of `messages` are LangChain's."""
    value = row.get("messages")
    return isinstance(value, list) and bool(value) and all(unwrap_langchain(item) is not None for item in value)


def _convert_langchain(row: JsonObject) -> Conversion:
    """LangChain's messages in our form, tools beside them too. Raises NotConvertible."""
    chat = ChatBuilder()
    add_library_messages(chat, row["messages"], "messages[].")
    chat.tools = tool_builder.read_tools(row.get("tools"))
    chat.note_dropped(row, ("messages", "tools"))
    return to_conversion(chat)


def add_library_messages(chat: ChatBuilder, value: object, where: str) -> None:
    """Adds messages of LangChain or in our form: one, an array, or an array in an array. Raises NotConvertible."""
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    for item in objects([value] if isinstance(value, dict) else value, "its messages are no array of objects"):
        inner = item.get("message") if "role" not in item else None
        item = inner if isinstance(inner, dict) else item
        message = unwrap_langchain(item)
        if message is not None:
            add_langchain(chat, message, where)
        else:
            add_turn(chat, item, "role", "content", where)


def _is_langsmith(row: JsonObject) -> bool:
    """Whether the row has the objects `inputs` and `outputs`."""
    return isinstance(row.get("inputs"), dict) and isinstance(row.get("outputs"), dict)


def _convert_langsmith(row: JsonObject) -> Conversion:
    """The messages or texts of `inputs`, then those of `outputs`. Raises NotConvertible."""
    chat = ChatBuilder()
    _add_side(chat, row["inputs"], _INPUTS, "user")
    _add_side(chat, row["outputs"], _OUTPUTS, "assistant")
    chat.note_dropped(row, ("inputs", "outputs"))
    return to_conversion(chat)


def _add_side(chat: ChatBuilder, value: object, keys: tuple[str, ...], role: str) -> None:
    """Adds one side of a LangSmith run: a message itself, or what one of `keys` holds, a text (of `role`) or messages.

    Of several such keys the first that is filled counts. Raises NotConvertible where there is none.
    """
    assert isinstance(value, dict)
    where = "inputs" if role == "user" else "outputs"
    if "content" in value:
        add_library_messages(chat, value, f"{where}.")
        return
    filled_keys = [key for key in keys if value.get(key)]
    if not filled_keys and len(value) == 1:
        filled_keys = list(value)
    if not filled_keys:
        raise NotConvertible(f"nothing in its {where} is a text or a message")
    content = value[filled_keys[0]]
    if isinstance(content, str):
        chat.add_text(role, content)
    else:
        add_library_messages(chat, content, f"{where}.{filled_keys[0]}[].")
    if "tools" in value:
        chat.tools = tool_builder.read_tools(value["tools"])
    chat.note_dropped(value, (filled_keys[0], "tools"), f"{where}.")


def _is_llama_index(row: JsonObject) -> bool:
    """Whether the row has messages with known roles, at least one of them with `blocks`."""
    value = row.get("messages")
    return (
        isinstance(value, list)
        and any(isinstance(item, dict) and isinstance(item.get("blocks"), list) for item in value)
        and all(isinstance(item, dict) and role_of(item.get("role")) for item in value)
    )


def _convert_llama_index(row: JsonObject) -> Conversion:
    """The texts of blocks joined as content, with the calls of additional_kwargs.

    Raises NotConvertible for other blocks.
    """
    chat = ChatBuilder()
    for item in objects(row["messages"], "its messages are no array of objects"):
        extra = item.get("additional_kwargs")
        extra = extra if isinstance(extra, dict) else {}
        blocks = item.get("blocks", item.get("content"))
        for block in blocks if isinstance(blocks, list) else []:
            if not isinstance(block, dict) or block.get("block_type") not in ("text", None):
                raise NotConvertible("a message holds blocks that are no text")
        parts = [{"text": block.get("text")} for block in blocks] if isinstance(blocks, list) else blocks
        message = {"role": item["role"], "content": parts} | {
            key: extra[key] for key in ("tool_calls", "tool_call_id") if extra.get(key)
        }
        add_turn(chat, message, "role", "content", "messages[].")
        chat.note_dropped(extra, ("tool_calls", "tool_call_id", "name"), "messages[].additional_kwargs.")
        chat.note_dropped(item, ("role", "blocks", "content", "additional_kwargs"), "messages[].")
    chat.tools = tool_builder.read_tools(row.get("tools"))
    chat.note_dropped(row, ("messages", "tools"))
    return to_conversion(chat)


def _has_incomplete_calls(row: JsonObject) -> bool:
    """Whether messages are in our form but for calls that have no id, no type, or no `function` around them."""
    if turn_lists.find_turn_keys(row) != ("messages", "role", "content"):
        return False
    calls = _all_calls(row)
    return bool(calls) and all(_is_call(call) for call in calls) and any(_is_incomplete_call(call) for call in calls)


def _all_calls(row: JsonObject) -> list[object]:
    """All entries of the messages' `tool_calls`, of any type."""
    messages = row["messages"]
    assert isinstance(messages, list)
    call_lists = [message.get("tool_calls") for message in messages]
    return [call for calls in call_lists if isinstance(calls, list) for call in calls]


def _is_call(call: object) -> bool:
    """Whether a value names a function to call, within `function` or without."""
    if not isinstance(call, dict):
        return False
    function = call.get("function", call)
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _is_incomplete_call(call: object) -> bool:
    """Whether a call lacks its id, its type or the `function` around its name."""
    return isinstance(call, dict) and ("function" not in call or "type" not in call or "id" not in call)


def _convert_incomplete_calls(row: JsonObject) -> Conversion:
    """The row with ids and types for its calls, all else kept. Raises NotConvertible for a result without a call."""
    chat = ChatBuilder()
    for message in objects(row["messages"], "its messages are no array of objects"):
        content = message.get("content")
        if message["role"] == "tool" or message.get("tool_calls"):
            add_turn(chat, message, "role", "content", "messages[].")
        elif isinstance(content, list):
            add_parts(chat, str(message["role"]), content, lambda *_: False)
        else:
            chat.messages.append(message)
    return Conversion({**row, **chat.row()}, tuple(chat.dropped))


FORMATS = (
    Format(
        "langsmith",
        "LangSmith (runs and data sets)",
        '`{"inputs": {...}, "outputs": {...}}`',
        "the question or the messages of inputs are what is asked, the text, message or generations of outputs "
        "the answer",
        lambda row: "messages" not in row and _is_langsmith(row),
        _convert_langsmith,
        refused="inputs or outputs in which no text and no message is found",
    ),
    Format(
        "langchain",
        "LangChain (messages_to_dict, dumpd)",
        '`{"messages": [{"type": "human", "data": {"content"}}]}`, `kwargs`',
        "type human is user, ai assistant, tool a message with role tool; data.content is content, its tool_calls are "
        "tool_calls",
        _is_langchain,
        _convert_langchain,
    ),
    Format(
        "llama_index",
        "llama-index (ChatMessage)",
        '`{"messages": [{"role", "blocks": [{"block_type": "text", "text"}]}]}`',
        "the texts of blocks are content, tool_calls of additional_kwargs are tool_calls",
        _is_llama_index,
        _convert_llama_index,
        refused="blocks of images, audio and documents",
    ),
    Format(
        "loose_calls",
        "tool calls as Mistral and Transformers write them",
        '`{"messages": [{"role", "tool_calls": [{"function": {"name", "arguments"}}]}]}` without `type` or `id`',
        'each call has an id and "type": "function", its arguments are JSON in a string, each tool message has the id '
        "of its call as tool_call_id",
        _has_incomplete_calls,
        _convert_incomplete_calls,
        refused="a result without its call",
    ),
)
