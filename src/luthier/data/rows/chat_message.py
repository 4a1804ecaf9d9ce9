"""One message of a row -> Message, with every fault of it: role, weight, content, calls, what belongs to which role."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum

from luthier.core.states import Ability
from luthier.data.dataset_formats import chat_builder
from luthier.data.jsonl.line_reader import json_type
from luthier.data.problems.problem_collector import ProblemCollector
from luthier.data.rows import content_parts, message_tool_calls, unknown_keys

_KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal", "audio")


class Role(StrEnum):
    """Who a message is by, in the words of the wire; "function" is the older form of "tool"."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    FUNCTION = "function"


_KEY_OWNERS = {"tool_call_id": Role.TOOL, "refusal": Role.ASSISTANT}
"""Keys that only one role has, and that have no meaning on another; weight and calls there have their own errors."""


_ROLES = {role.value: role for role in Role}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `weight` is 1.0 where the model learns to write it, else 0.0; the calls are those of the wire.

    `content` is the joined text, "" for an answer of calls alone. `tool_call_id` is set for the role tool only; `name`
    is the participant's, or for the role function the function's, None if the row has none.
    """

    role: Role
    content: str
    weight: float
    tool_calls: tuple[message_tool_calls.ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedTurn:
    """What is known of a message for rules over several of them; `message` is None where it has an error.

    `path` leads to it, as `messages[2]`; `role` is None where it is missing or unknown; `weight` as in Message.
    """

    path: str
    role: Role | None
    weight: float
    calls: tuple[message_tool_calls.ToolCall, ...]
    all_calls: bool
    """Whether `calls` are all that the message makes: False where one of them is broken."""
    answers: str | None
    """The id of the call, or the name of the function, that a tool's message answers."""
    message: Message | None


def read_message(item: object, path: str, abilities: Set[Ability] | None, collector: ProblemCollector) -> ParsedTurn:
    """Reads one turn at `path`; reports all that is wrong with it to `collector`, and never raises.

    `abilities` are those of the base model; None, where there is none yet, allows everything.
    """
    if not isinstance(item, dict):
        message = f"a JSON {json_type(item)} stands here."
        collector.error(path, "invalid_message", message, "Each message is a JSON object.")
        return ParsedTurn(path, None, 0.0, (), False, None, None)
    before = collector.n_errors
    unknown_keys.check_message(item, _KEYS, path, collector)
    role = _role(item, path, collector)
    if role is None:
        return ParsedTurn(path, None, 0.0, (), False, None, None)
    _check_places(item, role, path, collector)
    weight = _weight(item, role, path, collector)
    before_calls = collector.n_errors
    calls = _calls(item, role, path, abilities, collector)
    all_calls = collector.n_errors == before_calls
    text = _content(item, role, path, abilities, collector)
    name = item.get("name")
    if name is not None and not isinstance(name, str):
        collector.error(f"{path}.name", "invalid_name", "name is no string.", "Write a string, or leave name out.")
    answers = _answered_call(item, role, path, abilities, collector)
    message_read = Message(
        role,
        text,
        weight,
        calls,
        answers if role is Role.TOOL else None,
        name if isinstance(name, str) else None,
    )
    return ParsedTurn(
        path, role, weight, calls, all_calls, answers, message_read if collector.n_errors == before else None
    )


def _role(item: Mapping[str, object], path: str, collector: ProblemCollector) -> Role | None:
    """The message's role; None after reporting that it is missing or unknown, with the word that was perhaps meant."""
    role = item.get("role")
    if isinstance(role, str) and role in _ROLES:
        return _ROLES[role]
    known_roles = ", ".join(Role)
    near = (chat_builder.role_of(role) or collector.nearest_word(role, tuple(Role))) if isinstance(role, str) else None
    hint = f" Did you mean {'assistant, with tool_calls' if near == chat_builder.CALL else near}?" if near else ""
    problem = "the message has no role." if role is None else "the role is unknown."
    collector.error(f"{path}.role", "invalid_role", f"{problem}{hint}", f"Use one of: {known_roles}.")
    return None


def _check_places(item: Mapping[str, object], role: Role, path: str, collector: ProblemCollector) -> None:
    """Warns of tool_call_id and refusal on roles that do not have them, and reports audio as an error."""
    for key, owner in _KEY_OWNERS.items():
        if item.get(key) is not None and role is not owner:
            message = f"{key} has no meaning on a {role} message and is ignored."
            collector.warning(f"{path}.{key}", "misplaced_key", message, f"Remove it; only {owner} messages have it.")
    if not unknown_keys.is_nothing(item.get("audio")):
        unknown_keys.report_audio(f"{path}.audio", collector)


def _weight(item: Mapping[str, object], role: Role, path: str, collector: ProblemCollector) -> float:
    """1.0 for a message to be learned, else 0.0; only an answer may have a weight, of 0 or 1.

    An invalid weight is reported and taken for 1; a weight on another role is reported and taken for 0.
    """
    weight = item.get("weight")
    if role is not Role.ASSISTANT:
        if weight is not None:
            message = f"weight is set on a {role} message; only assistant messages are learned."
            collector.error(f"{path}.weight", "misplaced_weight", message, "Remove weight from this message.")
        return 0.0
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or weight not in (0, 1):
        collector.error(
            f"{path}.weight", "invalid_weight", "weight is neither 0 nor 1.", "Write 0 to skip, 1 to learn."
        )
        return 1.0
    return 1.0 if weight == 1 else 0.0


def _calls(
    item: Mapping[str, object], role: Role, path: str, abilities: Set[Ability] | None, collector: ProblemCollector
) -> tuple[message_tool_calls.ToolCall, ...]:
    """The calls of an answer, those left out that have errors.

    Reports calls on other roles, for a base model that cannot call tools, and in both spellings at once.
    """
    calls: list[message_tool_calls.ToolCall] = []
    for key in ("tool_calls", "function_call"):
        if not item.get(key):
            continue
        value_path = f"{path}.{key}"
        if role is not Role.ASSISTANT:
            message = f"a {role} message calls a tool."
            collector.error(value_path, "misplaced_tool_calls", message, "Only assistants call tools: move the call.")
        elif abilities is not None and Ability.TOOLS not in abilities:
            report_tools(value_path, collector)
        else:
            calls += message_tool_calls.read_calls(key, item[key], value_path, collector)
    if item.get("tool_calls") and item.get("function_call"):
        message = "the message has both tool_calls and the older function_call."
        collector.error(f"{path}.function_call", "invalid_tool_calls", message, "Keep only tool_calls.")
    return tuple(calls)


def _content(
    item: Mapping[str, object], role: Role, path: str, abilities: Set[Ability] | None, collector: ProblemCollector
) -> str:
    """The message's text, "" after reporting that there is none; a refusal stands in for content that is missing.

    Answers of calls alone and function messages may be without content. Warns of an empty answer.
    """
    value = item.get("content")
    value_path = f"{path}.content"
    calls = bool(item.get("tool_calls") or item.get("function_call"))
    refusal = item.get("refusal") if role is Role.ASSISTANT else None
    if refusal is not None and not isinstance(refusal, str):
        collector.error(
            f"{path}.refusal", "invalid_content", "refusal is no string.", "Write a string, or leave it out."
        )
        refusal = ""
    before = collector.n_errors
    if isinstance(value, list):
        value = content_parts.read_parts(value, role, value_path, abilities, collector)
        if collector.n_errors > before:
            return value  # a part could not be read, so it is unknown whether the answer is empty
    elif value is None and (calls or refusal is not None or role is Role.FUNCTION):
        return refusal if isinstance(refusal, str) else ""
    elif not isinstance(value, str):
        message = "the message has no content." if value is None else f"content is a JSON {json_type(value)}."
        collector.error(value_path, "invalid_content", message, "Give a string, or an array of parts of type text.")
        return ""
    if refusal:
        message = "the answer has both content and a refusal; the refusal is ignored."
        collector.warning(f"{path}.refusal", "ignored_refusal", message, "Keep the one that the model is to write.")
    if role is Role.ASSISTANT and not calls and not value.strip():
        message = "the assistant's answer is empty."
        collector.warning(
            value_path, "empty_answer", message, "Write the answer; else the model learns to say nothing here."
        )
    return value


def _answered_call(
    item: Mapping[str, object], role: Role, path: str, abilities: Set[Ability] | None, collector: ProblemCollector
) -> str | None:
    """The id of the call that a tool message answers, or the name of the function for the older role function.

    None for other roles, and after reporting that it is missing or that the base model cannot call tools.
    """
    if role not in (Role.TOOL, Role.FUNCTION):
        return None
    refused = abilities is not None and Ability.TOOLS not in abilities
    if refused:
        report_tools(f"{path}.role", collector)
    if role is Role.FUNCTION:
        name = item.get("name")
        if name is None:
            message = "the message does not name the function that it answers for."
            collector.error(f"{path}.name", "missing_name", message, "Give the function's name.")
        return name if isinstance(name, str) and not refused else None
    id = item.get("tool_call_id")
    if not isinstance(id, str):
        message = "a tool message has no tool_call_id in a string."
        fix = "Name the id of the tool call that this message answers."
        collector.error(f"{path}.tool_call_id", "missing_tool_call_id", message, fix)
    return id if isinstance(id, str) and not refused else None


def report_tools(path: str, collector: ProblemCollector) -> None:
    """Reports as an error at `path` that the row uses tools and the base model cannot call any."""
    collector.error(
        path,
        "tools_not_supported",
        "the row uses tools, and this base model cannot call tools.",
        "Remove tools and tool calls, or choose a base model with the ability tools (`luthier models list`).",
    )
