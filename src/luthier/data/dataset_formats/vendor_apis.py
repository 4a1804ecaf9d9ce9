"""Rows of Vertex AI and Gemini, of Amazon Bedrock's Converse (Nova), of Anthropic's Messages.

Formats for `known_formats`. A message's content is a list of typed parts there: a `_..._part` function of each API adds
those that are no text.
"""

from collections.abc import Callable

from luthier.data.dataset_formats import tool_builder
from luthier.data.dataset_formats.chat_builder import ChatBuilder, JsonObject, NotConvertible, objects, role_of, text_of
from luthier.data.dataset_formats.dataset_format import Conversion, Format, to_conversion

_GEMINI_SYSTEM = ("systemInstruction", "system_instruction")
_BLOCKS = frozenset(("tool_use", "tool_result", "thinking", "redacted_thinking"))
_CONVERSE_PARTS = frozenset(
    ("text", "toolUse", "toolResult", "reasoningContent", "image", "document", "video", "cachePoint")
)

PartConverter = Callable[[ChatBuilder, str, JsonObject], bool]
"""Adds a part that is no text to the chat; False where it does not know it."""


def add_parts(chat: ChatBuilder, role: str, content: object, add: PartConverter) -> None:
    """Adds a message that consists of parts: its texts joined, a user's tool results first, an assistant's calls last.

    `add` takes the parts that are no text. Raises NotConvertible for parts that it does not know.
    """
    if isinstance(content, str):
        chat.add_text(role, content)
        return
    texts: list[str] = []
    others: list[JsonObject] = []
    for part in objects([content] if isinstance(content, dict) else content, "the content of a message is no text"):
        if isinstance(part.get("text"), str) and part.get("type") in (None, "text", "input_text", "output_text"):
            texts.append(str(part["text"]))
        else:
            others.append(part)
    results = [part for part in others if role != "assistant"]
    for part in results:
        _add_part(chat, role, part, add)
    if "".join(texts) or not others:
        chat.add_text(role, "".join(texts))
    for part in others if role == "assistant" else []:
        _add_part(chat, role, part, add)


def _add_part(chat: ChatBuilder, role: str, part: JsonObject, add: PartConverter) -> None:
    """Adds a part by the given function. Raises NotConvertible if it does not know the part."""
    if not add(chat, role, part):
        raise NotConvertible("a message holds parts that are no text")


def messages_of(row: JsonObject) -> list[JsonObject] | None:
    """The row's messages; None if they are no list of objects, or empty."""
    value = row.get("messages")
    return value if isinstance(value, list) and value and all(isinstance(one, dict) for one in value) else None


def parts_of(row: JsonObject) -> list[JsonObject]:
    """All parts of the contents of a row's messages that are objects."""
    contents = [message.get("content") for message in messages_of(row) or []]
    return [part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict)]


def _is_gemini(row: JsonObject) -> bool:
    """Whether the row has `contents` with parts."""
    value = row.get("contents")
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "parts" in one for one in value)


def _gemini_part(chat: ChatBuilder, role: str, part: JsonObject) -> bool:
    """Adds a functionCall or functionResponse; False for any other part."""
    call = part.get("functionCall", part.get("function_call"))
    answer = part.get("functionResponse", part.get("function_response"))
    if isinstance(call, dict):
        chat.add_call(call.get("name"), call.get("args"), call.get("id"))
    elif isinstance(answer, dict):
        chat.add_tool_result(answer.get("response"), answer.get("id"), answer.get("name"))
    else:
        return False
    return True


def _convert_gemini(row: JsonObject) -> Conversion:
    """The contents as messages, with system instruction and tools. Raises NotConvertible."""
    chat = ChatBuilder()
    for content in objects(row["contents"], "contents is no array of objects"):
        role = role_of(content.get("role", "user"))
        if role is None:
            raise NotConvertible("a message has a role that is not known")
        add_parts(chat, "user" if role == "tool" else role, content["parts"], _gemini_part)
        chat.note_dropped(content, ("role", "parts"), "contents[].")
    for key in _GEMINI_SYSTEM:
        system = row.get(key)
        chat.add_system(text_of(system.get("parts") if isinstance(system, dict) else system))
    chat.tools = tool_builder.read_tools(row.get("tools"))
    chat.note_dropped(row, ("contents", *_GEMINI_SYSTEM, "tools"))
    return to_conversion(chat)


def _is_converse(row: JsonObject) -> bool:
    """Whether the messages have Converse's parts, which name no type, or the row a schemaVersion beside parts."""
    messages = messages_of(row)
    if messages is None:
        return False
    parts = parts_of(row)
    untyped = bool(parts) and all("type" not in part and part.keys() & _CONVERSE_PARTS for part in parts)
    untyped = untyped and all(isinstance(message.get("content"), list) for message in messages)
    return untyped or (isinstance(row.get("schemaVersion"), str) and bool(parts))


def _converse_part(chat: ChatBuilder, role: str, part: JsonObject) -> bool:
    """Adds a toolUse or toolResult, and notes reasoning and cache points as dropped; False for any other part."""
    call, answer = part.get("toolUse"), part.get("toolResult")
    if isinstance(call, dict):
        chat.add_call(call.get("name"), call.get("input"), call.get("toolUseId"))
    elif isinstance(answer, dict):
        chat.add_tool_result(_result_text(answer.get("content"), "json"), answer.get("toolUseId"))
    elif "reasoningContent" in part or "cachePoint" in part:
        chat.note_dropped(part, (), "messages[].content[].")
    else:
        return False
    return True


def _result_text(content: object, key: str) -> object:
    """What a tool's result says: the one value that it holds at `key`, or its text. Raises NotConvertible."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict) and key in content[0]:
        return content[0][key]
    return text_of(content)


def _convert_converse(row: JsonObject) -> Conversion:
    """Converse's messages in our form, tools from toolConfig. Raises NotConvertible."""
    configuration = row.get("toolConfig")
    defined = configuration.get("tools") if isinstance(configuration, dict) else row.get("tools")
    return _convert_blocks(row, _converse_part, defined, ("system", "toolConfig", "schemaVersion", "tools"))


def _is_anthropic(row: JsonObject) -> bool:
    """Whether the messages have blocks of Anthropic's types, or system or tools have its form."""
    if messages_of(row) is None:
        return False
    if any(part.get("type") in _BLOCKS for part in parts_of(row) if isinstance(part.get("type"), str)):
        return True
    defined = row.get("tools")
    return isinstance(row.get("system"), list) or (
        isinstance(defined, list) and any(isinstance(one, dict) and "input_schema" in one for one in defined)
    )


def _anthropic_part(chat: ChatBuilder, role: str, part: JsonObject) -> bool:
    """Adds a tool_use or tool_result, and notes thinking as dropped; False for any other block."""
    match part.get("type"):
        case "tool_use":
            chat.add_call(part.get("name"), part.get("input"), part.get("id"))
        case "tool_result":
            content = part.get("content")
            chat.add_tool_result(text_of(content), part.get("tool_use_id"))
            chat.note_dropped(part, ("type", "content", "tool_use_id"), "messages[].content[].")
        case "thinking" | "redacted_thinking":
            chat.note_dropped(part, ("type", "signature"), "messages[].content[].")
        case _:
            return False
    return True


def _convert_anthropic(row: JsonObject) -> Conversion:
    """Anthropic's messages in our form. Raises NotConvertible."""
    return _convert_blocks(row, _anthropic_part, row.get("tools"), ("system", "tools"))


def _convert_blocks(row: JsonObject, part: PartConverter, defined: object, read: tuple[str, ...]) -> Conversion:
    """The messages, whose parts `part` reads, with the system prompt and the tools of `defined`. Raises NotConvertible.

    `read` are the row's keys that are not noted as dropped.
    """
    chat = ChatBuilder()
    for message in messages_of(row) or []:
        role = role_of(message.get("role"))
        if role not in ("system", "developer", "user", "assistant"):
            raise NotConvertible("a message has a role that is not known")
        add_parts(chat, role, message.get("content"), part)
        chat.note_dropped(message, ("role", "content"), "messages[].")
    chat.add_system(text_of(row.get("system")))
    chat.tools = tool_builder.read_tools(defined)
    chat.note_dropped(row, ("messages", *read))
    return to_conversion(chat)


FORMATS = (
    Format(
        "gemini",
        "Vertex AI and Gemini",
        '`{"contents": [{"role", "parts": [{"text"}]}], "systemInstruction"}`',
        "contents is messages, role model is assistant, the text of parts is content; systemInstruction is a system "
        "message, functionCall a tool call, functionResponse a tool message, functionDeclarations are tools",
        _is_gemini,
        _convert_gemini,
        refused="inlineData and fileData: no base model can be trained on images yet",
    ),
    Format(
        "converse",
        "Amazon Bedrock's Converse (Nova)",
        '`{"schemaVersion", "system": [{"text"}], "messages": [{"role", "content": [{"text"}]}]}`',
        "the texts of content are content, system is a system message, toolUse a tool call, toolResult a tool message, "
        "toolConfig the tools",
        _is_converse,
        _convert_converse,
        refused="images, documents and videos",
    ),
    Format(
        "anthropic",
        "Anthropic's Messages (also on Bedrock)",
        '`{"system", "messages": [{"role", "content": [{"type": "tool_use"}]}]}`, `tool_result`, `input_schema`',
        "tool_use is an entry of the assistant's tool_calls, tool_result a message with role tool and that "
        "tool_call_id, input_schema is parameters, system a system message",
        _is_anthropic,
        _convert_anthropic,
        refused="images and documents",
    ),
)
