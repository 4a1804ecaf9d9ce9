"""ChatBuilder: builds messages in our form turn by turn from those of another format.

Shared by all formats, with the readers of contents, calls and arguments that they have in common. Whatever cannot be
taken over without a guess raises NotConvertible.
"""

import json
from collections.abc import Iterable, Mapping

JsonObject = dict[str, object]

CALL = "call"
"""A turn that is a tool call and nothing else; all other values are our roles."""
_ROLE_WORDS = {
    **dict.fromkeys(("system",), "system"),
    **dict.fromkeys(("developer",), "developer"),
    **dict.fromkeys(("user", "human", "prompter", "question"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "ai", "chatbot", "chatgpt", "answer"), "assistant"),
    **dict.fromkeys(
        ("tool", "observation", "ipython", "tool_response", "tool_result", "function_response", "function-response"),
        "tool",
    ),
    **dict.fromkeys(("function",), "tool"),
    **dict.fromkeys(("function_call", "tool_call", "function-call"), CALL),
}
_TEXTS = ("text", "input_text", "output_text", None)
_WEIGHT_KEYS = ("weight", "train", "trainable", "loss", "learn")


class NotConvertible(Exception):
    """A row that cannot be converted without a guess or a loss; the message, a clause, tells the user why."""


def role_of(word: object) -> str | None:
    """Our role, or CALL, for another format's name of a role in any case; None if it is not known."""
    return _ROLE_WORDS.get(word.lower()) if isinstance(word, str) and len(word) < 40 else None


class ChatBuilder:
    """The chat that a converter is building: messages and tools in our form, and the keys for which there is no place.

    `dropped` keeps its keys in order. Calls get ids where they have none, and results find the call they answer.
    """

    def __init__(self) -> None:
        self.messages: list[JsonObject] = []
        self.tools: list[JsonObject] = []
        self.dropped: dict[str, None] = {}
        self._unanswered_calls: list[tuple[str, str]] = []
        self._n_calls = 0

    def add_text(self, role: str, text: str, weight: object = None) -> None:
        """Appends a turn of text.

        `weight` may be any trainer's flag: 0, 1, True or False on an assistant's turn is kept. Any other value says
        nothing.
        """
        message: JsonObject = {"role": role, "content": text}
        if role == "assistant" and weight in (0, 1):
            message["weight"] = int(weight == 1)
        self.messages.append(message)

    def add_system(self, text: str) -> None:
        """Puts a system message first, unless it is blank. Raises NotConvertible if there is one already."""
        if not text.strip():
            return
        if self.messages and self.messages[0]["role"] in ("system", "developer"):
            raise NotConvertible("it has a system prompt beside its messages and another among them")
        self.messages.insert(0, {"role": "system", "content": text})

    def add_call(self, name: object, arguments: object, id: object = None) -> None:
        """Adds a tool call to the last message if it is the assistant's, else as a message of its own.

        Raises NotConvertible for a call without a name, or whose arguments are no JSON object.
        """
        if not isinstance(name, str) or not name:
            raise NotConvertible("a tool call does not name its function")
        self._n_calls += 1
        id = id if isinstance(id, str) and id else f"call_{self._n_calls}"
        called = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments_text(arguments)}}
        last = self.messages[-1] if self.messages else None
        if last is None or last["role"] != "assistant":
            last = {"role": "assistant", "content": None}
            self.messages.append(last)
        calls = last.setdefault("tool_calls", [])
        assert isinstance(calls, list)
        calls.append(called)
        last["content"] = last["content"] or None
        self._unanswered_calls.append((id, name))

    def add_tool_result(self, value: object, id: object = None, name: object = None) -> None:
        """Appends a tool message for the unanswered call of that id; else of that name; else for the oldest one.

        Raises NotConvertible if no unanswered call fits.
        """
        if isinstance(id, str):
            call = next((pending for pending in self._unanswered_calls if pending[0] == id), None)
        else:
            call = next((pending for pending in self._unanswered_calls if pending[1] == name), None)
            call = call or (self._unanswered_calls[0] if self._unanswered_calls and name is None else None)
        if call is None:
            raise NotConvertible("a tool's result answers no call of the row")
        self._unanswered_calls.remove(call)
        self.messages.append({"role": "tool", "tool_call_id": call[0], "content": as_text(value)})

    def note_dropped(self, value: Mapping[str, object], read: Iterable[str], where: str = "") -> None:
        """Notes the keys of an object that were not read and hold something, each as `where` and the key."""
        read_keys = frozenset(read)
        for key, part in value.items():
            if key not in read_keys and part not in (None, "", [], {}):
                self.dropped.setdefault(f"{where}{key}")

    def row(self) -> JsonObject:
        """The row in our form, with the builder's own lists in it.

        Raises NotConvertible if no message is the assistant's.
        """
        if not any(message["role"] == "assistant" for message in self.messages):
            raise NotConvertible("no message in it is the assistant's, so there is no answer to learn")
        row: JsonObject = {"messages": self.messages}
        return {**row, "tools": self.tools} if self.tools else row


def add_turn(chat: ChatBuilder, item: JsonObject, role_key: str, text_key: str, where: str) -> None:
    """Adds one turn that names its role and holds its text under these keys; `where` is its place, for dropped keys.

    A turn may be a call, a tool's result, or text with tool_calls beside it. Raises NotConvertible for an unknown role
    and for contents that are no text.
    """
    role = role_of(item.get(role_key))
    content = item.get(text_key)
    read = [role_key, text_key]
    if role is None:
        raise NotConvertible("a message has a role that is not known")
    if role == CALL:
        for name, arguments in calls_in_text(content):
            chat.add_call(name, arguments)
    elif role == "tool":
        read += ["tool_call_id", "name"]
        chat.add_tool_result(text_of(content), item.get("tool_call_id"), item.get("name"))
    else:
        read += [*_WEIGHT_KEYS, "tool_calls"]
        chat.add_text(
            role, text_of(content), next((item[key] for key in _WEIGHT_KEYS if item.get(key) is not None), None)
        )
        for one in objects(item.get("tool_calls"), "the tool calls are no array of objects"):
            function = one.get("function")
            called = function if isinstance(function, dict) else one
            arguments = called.get("arguments", called.get("args", called.get("parameters")))
            chat.add_call(called.get("name"), arguments, one.get("id"))
    chat.note_dropped(item, read, where)


def text_of(content: object) -> str:
    """The text of a string, of parts of text joined, or "" for None. Raises NotConvertible for all else."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise NotConvertible("the content of a message is no text")
    texts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type") in _TEXTS else part
        if not isinstance(text, str):
            raise NotConvertible("a message holds parts that are no text")
        texts.append(text)
    return "".join(texts)


def as_text(value: object) -> str:
    """A tool's result as text: a string as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def arguments_text(value: object) -> str:
    """A call's arguments as a string with a JSON object, which the API wants; "{}" for none. Raises NotConvertible."""
    decoded = decode_json(value) if isinstance(value, str) and value.strip() else value or {}
    if not isinstance(decoded, dict):
        raise NotConvertible("the arguments of a tool call are no JSON object")
    return value if isinstance(value, str) and value.strip() else json.dumps(decoded, ensure_ascii=False)


def calls_in_text(content: object) -> list[tuple[object, object]]:
    """The (name, arguments) of each call that a text or a value holds as JSON: one object, or an array of them.

    Neither is checked. Raises NotConvertible for what is no JSON object or array of objects.
    """
    decoded = decode_json(content) if isinstance(content, str) else content
    calls = [
        one.get("function") if isinstance(one.get("function"), dict) else one
        for one in objects([decoded] if isinstance(decoded, dict) else decoded, "a tool call is no JSON")
    ]
    return [
        (one.get("name"), one.get("arguments", one.get("parameters", {}))) for one in calls if isinstance(one, dict)
    ]


def decode_json(text: str) -> object:
    """The JSON value that a text holds; None where it holds none, or null."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def objects(value: object, reason: str) -> list[JsonObject]:
    """The array of objects that a value is, [] for None. Raises NotConvertible with the reason for all else."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise NotConvertible(reason)
    return value
