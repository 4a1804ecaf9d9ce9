"""One message of a row -> Message, with every fault of it: role, weight, content, calls, what belongs to which role."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum

from luthier.catalog import Ability
from luthier.data import content, toolcalls
from luthier.data.finder import Finder
from luthier.data.jsonl import json_type

_KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal", "audio")


class Role(StrEnum):
    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    FUNCTION = "function"


_ONLY = {"tool_call_id": Role.TOOL, "refusal": Role.ASSISTANT, "audio": Role.ASSISTANT}
"""Keys that one role alone has, and that say nothing on another; weight and calls there are errors of their own."""


_ROLES = {role.value: role for role in Role}
_OTHERS_WORDS = {"human": Role.USER, **dict.fromkeys(("gpt", "bot", "model", "ai"), Role.ASSISTANT)}
"""What other formats call the roles."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `weight` is 1.0 where the model learns to write it, else 0.0; the calls are those of the wire."""

    role: Role
    content: str
    weight: float
    tool_calls: tuple[toolcalls.ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What is known of a message for rules over several of them; `message` is None where it has an error."""

    path: str
    role: Role | None
    weight: float
    calls: tuple[toolcalls.ToolCall, ...]
    all_calls: bool
    """Whether `calls` are all that the message makes: False where one of them is broken."""
    answers: str | None
    """The id of the call, or the name of the function, that a tool's message answers."""
    message: Message | None


def read(item: object, path: str, abilities: Set[Ability] | None, finder: Finder) -> Turn:
    """Reads one turn; the finder is told all that is wrong with it."""
    if not isinstance(item, dict):
        message = f"a JSON {json_type(item)} stands here."
        finder.error(path, "invalid_message", message, "Each message is a JSON object.")
        return Turn(path, None, 0.0, (), False, None, None)
    before = finder.n_errors
    finder.check_keys(item, _KEYS, path)
    role = _role(item, path, finder)
    if role is None:
        return Turn(path, None, 0.0, (), False, None, None)
    _check_places(item, role, path, finder)
    weight = _weight(item, role, path, finder)
    before_calls = finder.n_errors
    calls = _calls(item, role, path, abilities, finder)
    all_calls = finder.n_errors == before_calls
    text = _content(item, role, path, abilities, finder)
    name = item.get("name")
    if name is not None and not isinstance(name, str):
        finder.error(f"{path}.name", "invalid_name", "name is no string.", "Write a string, or leave name out.")
    answers = _answers(item, role, path, abilities, finder)
    message_read = Message(
        role,
        text,
        weight,
        calls,
        answers if role is Role.TOOL else None,
        name if isinstance(name, str) else None,
    )
    return Turn(path, role, weight, calls, all_calls, answers, message_read if finder.n_errors == before else None)


def _role(item: Mapping[str, object], path: str, finder: Finder) -> Role | None:
    role = item.get("role")
    if isinstance(role, str) and role in _ROLES:
        return _ROLES[role]
    wanted = ", ".join(Role)
    near = (_OTHERS_WORDS.get(role.lower()) or finder.nearest(role, tuple(Role))) if isinstance(role, str) else None
    hint = f" Did you mean {near}?" if near else ""
    problem = "the message has no role." if role is None else "the role is none of those that exist."
    finder.error(f"{path}.role", "invalid_role", f"{problem}{hint}", f"Use one of: {wanted}.")
    return None


def _check_places(item: Mapping[str, object], role: Role, path: str, finder: Finder) -> None:
    for key, owner in _ONLY.items():
        if item.get(key) is not None and role is not owner:
            message = f"{key} says nothing on a {role} message and is ignored."
            finder.warning(f"{path}.{key}", "misplaced_key", message, f"Remove it; only {owner} messages have it.")
    if item.get("audio") is not None and role is Role.ASSISTANT:
        message = "the answer is spoken, and speech cannot be learned here."
        finder.error(f"{path}.audio", "audio_not_supported", message, "Remove audio, and give the answer as content.")


def _weight(item: Mapping[str, object], role: Role, path: str, finder: Finder) -> float:
    weight = item.get("weight")
    if role is not Role.ASSISTANT:
        if weight is not None:
            message = f"weight stands on a {role} message; only assistant messages are learned."
            finder.error(f"{path}.weight", "misplaced_weight", message, "Remove weight from this message.")
        return 0.0
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or weight not in (0, 1):
        finder.error(f"{path}.weight", "invalid_weight", "weight is neither 0 nor 1.", "Write 0 to skip, 1 to learn.")
        return 1.0
    return 1.0 if weight == 1 else 0.0


def _calls(
    item: Mapping[str, object], role: Role, path: str, abilities: Set[Ability] | None, finder: Finder
) -> tuple[toolcalls.ToolCall, ...]:
    calls: list[toolcalls.ToolCall] = []
    for key in ("tool_calls", "function_call"):
        if not item.get(key):
            continue
        place = f"{path}.{key}"
        if role is not Role.ASSISTANT:
            message = f"a {role} message calls a tool."
            finder.error(place, "misplaced_tool_calls", message, "Only assistants call tools: move the call.")
        elif abilities is not None and Ability.TOOLS not in abilities:
            refuse_tools(place, finder)
        else:
            calls += toolcalls.read_calls(key, item[key], place, finder)
    if item.get("tool_calls") and item.get("function_call"):
        message = "the message calls in today's way and in the old one at once."
        finder.error(f"{path}.function_call", "invalid_tool_calls", message, "Keep tool_calls alone.")
    return tuple(calls)


def _content(item: Mapping[str, object], role: Role, path: str, abilities: Set[Ability] | None, finder: Finder) -> str:
    value = item.get("content")
    place = f"{path}.content"
    calls = bool(item.get("tool_calls") or item.get("function_call"))
    refusal = item.get("refusal") if role is Role.ASSISTANT else None
    if refusal is not None and not isinstance(refusal, str):
        finder.error(f"{path}.refusal", "invalid_content", "refusal is no string.", "Write a string, or leave it out.")
        refusal = ""
    if isinstance(value, list):
        value = content.read_parts(value, role, place, abilities, finder)
    elif value is None and (calls or refusal is not None or role is Role.FUNCTION):
        return refusal if isinstance(refusal, str) else ""
    elif not isinstance(value, str):
        message = "the message has no content." if value is None else f"content is a JSON {json_type(value)}."
        finder.error(place, "invalid_content", message, "Give a string, or an array of parts of type text.")
        return ""
    if refusal:
        message = "the answer has both content and a refusal; the refusal is ignored."
        finder.warning(f"{path}.refusal", "ignored_refusal", message, "Keep the one that the model shall say.")
    if role is Role.ASSISTANT and not calls and not value.strip():
        message = "the assistant's answer is empty."
        finder.warning(place, "empty_answer", message, "Write the answer; else the model learns to say nothing here.")
    return value


def _answers(
    item: Mapping[str, object], role: Role, path: str, abilities: Set[Ability] | None, finder: Finder
) -> str | None:
    if role not in (Role.TOOL, Role.FUNCTION):
        return None
    refused = abilities is not None and Ability.TOOLS not in abilities
    if refused:
        refuse_tools(f"{path}.role", finder)
    if role is Role.FUNCTION:
        name = item.get("name")
        if name is None:
            message = "the message does not name the function that it answers for."
            finder.error(f"{path}.name", "missing_name", message, "Give the function's name.")
        return name if isinstance(name, str) and not refused else None
    id = item.get("tool_call_id")
    if not isinstance(id, str):
        message = "a tool message has no tool_call_id in a string."
        fix = "Name the id of the tool call that this message answers."
        finder.error(f"{path}.tool_call_id", "missing_tool_call_id", message, fix)
    return id if isinstance(id, str) and not refused else None


def refuse_tools(path: str, finder: Finder) -> None:
    finder.error(
        path,
        "tools_not_supported",
        "the row uses tools, and this base model cannot call tools.",
        "Remove tools and tool calls, or choose a base model with the ability tools (`luthier models list`).",
    )
