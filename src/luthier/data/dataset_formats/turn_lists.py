"""Rows with lists of turns under other keys or with other role words: ShareGPT, conversations, UltraChat, Cohere.

Formats for `known_formats`; other formats use `find_turn_keys` and `convert_turns` for the lists in them.
"""

from luthier.data.dataset_formats import tool_builder
from luthier.data.dataset_formats.chat_builder import (
    CALL,
    ChatBuilder,
    JsonObject,
    NotConvertible,
    add_turn,
    calls_in_text,
    role_of,
    text_of,
)
from luthier.data.dataset_formats.dataset_format import Conversion, Format, to_conversion

LISTS = ("conversations", "conversation", "dialog", "dialogue", "chat", "turns", "items", "messages")
_ROLE_KEYS = ("from", "role", "author", "speaker")
_TEXT_KEYS = ("value", "content", "text", "message")
_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
_SYSTEM = ("system", "system_prompt", "systemPrompt", "context")


def find_turn_keys(row: JsonObject) -> tuple[str, str, str] | None:
    """The key of a row's list of turns, and the keys of role and text in each turn; None where there is no such list.

    The keys are those of the first turn; all turns must have a known role.
    """
    for key in LISTS:
        value = row.get(key)
        if not isinstance(value, list) or not value or not isinstance(value[0], dict):
            continue
        role_key = next((one for one in _ROLE_KEYS if one in value[0]), None)
        text_key = next((one for one in _TEXT_KEYS if one in value[0]), None)
        if role_key is None or text_key is None:
            continue
        if all(isinstance(one, dict) and role_of(one.get(role_key)) for one in value):
            return key, role_key, text_key
    return None


def add_turns(chat: ChatBuilder, value: object, role_key: str, text_key: str, where: str) -> None:
    """Adds each turn of a list whose keys `find_turn_keys` has found. Raises NotConvertible."""
    assert isinstance(value, list)
    for item in value:
        add_turn(chat, item, role_key, text_key, where)


def convert_turns(row: JsonObject, handled_keys: tuple[str, ...] = ()) -> Conversion:
    """The row's turns, under any key, with a system prompt and tools beside them. Raises NotConvertible.

    `handled_keys` are read by the caller, and not noted as dropped.
    """
    keys = find_turn_keys(row)
    if keys is None:
        raise NotConvertible("it has no list of turns that can be read")
    list_key, role_key, text_key = keys
    chat = ChatBuilder()
    add_turns(chat, row[list_key], role_key, text_key, f"{list_key}[].")
    for key in _SYSTEM:
        if row.get(key) is not None:
            chat.add_system(text_of(row[key]))
    chat.tools = tool_builder.read_tools(row.get("tools"))
    chat.note_dropped(row, (list_key, *_SYSTEM, "tools", *handled_keys))
    if row.get("examples"):
        raise NotConvertible("it has examples beside its messages, which are a part of what the model is shown")
    return to_conversion(chat)


def _is_sharegpt(row: JsonObject) -> bool:
    """Whether the turns name their role under `from`."""
    keys = find_turn_keys(row)
    return keys is not None and keys[1] == "from"


def _is_conversation(row: JsonObject) -> bool:
    """Whether the turns name their role under `role`, in a list of another name than `messages`."""
    keys = find_turn_keys(row)
    return keys is not None and keys[1] == "role" and keys[0] != "messages"


def _is_authored(row: JsonObject) -> bool:
    """Whether turns name their role under `author` or `speaker`, or `messages` hold text under another key."""
    keys = find_turn_keys(row)
    return keys is not None and (keys[1] in ("author", "speaker") or (keys[0] == "messages" and keys[2] != "content"))


def _foreign_roles(row: JsonObject) -> list[str] | None:
    """The words for roles of another format in messages that are in our form otherwise; [] if all are ours.

    None where the messages are not in our form.
    """
    keys = find_turn_keys(row)
    if keys != ("messages", "role", "content"):
        return None
    messages = row["messages"]
    assert isinstance(messages, list)
    return [role for message in messages if isinstance(role := message["role"], str) and role not in _ROLES]


def _is_cohere(row: JsonObject) -> bool:
    """Whether one of the messages has Cohere's role Chatbot."""
    return any(role.lower() == "chatbot" for role in _foreign_roles(row) or ())


def _has_foreign_roles(row: JsonObject) -> bool:
    """Whether messages in our form have a role of another format."""
    return bool(_foreign_roles(row))


def _convert_roles(row: JsonObject) -> Conversion:
    """The row with our words for the roles of its messages, all else kept. Raises NotConvertible."""
    messages = row["messages"]
    assert isinstance(messages, list)
    chat = ChatBuilder()
    for message in messages:
        role = role_of(message["role"])
        if message["role"] in _ROLES and not message.get("tool_calls"):
            chat.messages.append(message)
        elif role == "tool":
            chat.add_tool_result(text_of(message.get("content")), message.get("tool_call_id"), message.get("name"))
        elif role == CALL:
            for name, arguments in calls_in_text(message.get("content")):
                chat.add_call(name, arguments)
        elif message.get("tool_calls"):
            add_turn(chat, message, "role", "content", "messages[].")
        else:
            chat.messages.append({**message, "role": role})
    converted = chat.row()
    return Conversion({**row, **converted}, tuple(chat.dropped))


def _is_ultrachat(row: JsonObject) -> bool:
    """Whether `data` is a list of two or more strings."""
    data = row.get("data")
    return isinstance(data, list) and len(data) > 1 and all(isinstance(text, str) for text in data)


def _convert_ultrachat(row: JsonObject) -> Conversion:
    """The strings of `data` as turns of user and assistant by turns."""
    chat = ChatBuilder()
    texts = row["data"]
    assert isinstance(texts, list)
    for index, text in enumerate(texts):
        chat.add_text("assistant" if index % 2 else "user", text)
    chat.note_dropped(row, ("data",))
    return to_conversion(chat)


FORMATS = (
    Format(
        "sharegpt",
        "ShareGPT (LLaMA-Factory, Axolotl, unsloth)",
        '`{"conversations": [{"from", "value"}]}`',
        "from is the role (human: user, gpt: assistant, function_call: an assistant message with tool_calls, "
        "observation: tool), value the content; system and tools are beside it",
        _is_sharegpt,
        convert_turns,
        refused="a call or tools that are no JSON, a result without its call",
    ),
    Format(
        "conversation",
        "conversations with role and content (SageMaker's dialog, Hugging Face data sets)",
        '`{"conversations": [{"role", "content"}]}`, `dialog`, `conversation`, `turns`, `chat`',
        "the list is messages",
        _is_conversation,
        convert_turns,
        refused="a call or tools that are no JSON, a result without its call",
    ),
    Format(
        "authors",
        "messages with other keys for role and text (Vertex PaLM and others)",
        '`{"messages": [{"author", "content"}]}`, `speaker`, `text`',
        "author is the role, its text the content; context is a system message",
        _is_authored,
        convert_turns,
        refused="`examples` beside the messages: they are a part of what the model is shown",
    ),
    Format(
        "cohere",
        "Cohere",
        '`{"messages": [{"role": "Chatbot", "content"}]}`',
        "Chatbot is assistant, User user, System system",
        _is_cohere,
        _convert_roles,
    ),
    Format(
        "roles",
        "messages with the roles of another library (Llama, GLM, Hermes)",
        '`{"messages": [{"role": "observation", "content"}]}`, `ipython`, `function_call`, `human`, `gpt`, `model`',
        "human is user; gpt, bot, model and ai are assistant; observation and ipython are tool, with the call's "
        "tool_call_id; function_call is an assistant message with tool_calls",
        _has_foreign_roles,
        _convert_roles,
        refused="a call that is no JSON with name and arguments, a result without its call",
    ),
    Format(
        "ultrachat",
        "UltraChat",
        '`{"data": ["...", "..."]}`',
        "the texts are user and assistant in turn",
        _is_ultrachat,
        _convert_ultrachat,
    ),
)
