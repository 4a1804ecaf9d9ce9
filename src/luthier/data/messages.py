"""One JSON object of a training file -> Example, with every Problem of the row at once (contract section 11.1)."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from luthier.catalog import Ability
from luthier.data import toolcalls
from luthier.data.finder import Finder, nearest
from luthier.data.jsonl import Row, json_type
from luthier.data.problem import Problem, Severity

_ROW_KEYS = ("messages", "tools", "parallel_tool_calls", "functions")
_MESSAGE_KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal", "audio")
_PREFERENCE_KEYS = {
    "input",
    "preferred_output",
    "non_preferred_output",
    "preferred_completion",
    "non_preferred_completion",
}
_VISION_PARTS = {"image_url", "image", "input_image"}

T = TypeVar("T")


class Role(StrEnum):
    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    FUNCTION = "function"


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
class Example:
    """One training line: its turns, and the tools that the model may call in them."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """What a row gave: an example unless one of its problems is an error."""

    example: T | None
    problems: tuple[Problem, ...]


def parse(row: Row, abilities: Set[Ability]) -> Parsed[Example]:
    """Reads one row for a base model with these abilities; never raises for what stands in the row."""
    finder = Finder(row.line)
    example = _example(row.value, abilities, finder)
    failed = any(problem.severity is Severity.ERROR for problem in finder.problems)
    return Parsed(None if failed else example, tuple(finder.problems))


def _example(value: Mapping[str, object], abilities: Set[Ability], finder: Finder) -> Example | None:
    if "messages" not in value:
        _explain_missing_messages(value, finder)
        return None
    finder.check_keys(value, _ROW_KEYS, "")
    tools = read_tools(value, "", abilities, finder)
    turns = read_turns(value["messages"], "messages", abilities, finder)
    if turns is not None:
        _check_learned(turns, finder)
    return None if turns is None else Example(turns, tools)


def read_turns(raw: object, path: str, abilities: Set[Ability], finder: Finder) -> tuple[Message, ...] | None:
    """The messages of an array, in an order that a chat can have; None after telling the finder why not."""
    if not isinstance(raw, list) or not raw:
        found = "an empty array" if raw == [] else f"a JSON {json_type(raw)}"
        finder.error(path, "invalid_messages", f"{path} is {found}.", "Give an array of at least one message.")
        return None
    messages = [_message(item, f"{path}[{index}]", abilities, finder) for index, item in enumerate(raw)]
    whole = tuple(message for message in messages if message is not None)
    if len(whole) < len(messages):
        return None
    _check_order(whole, path, finder)
    return whole


def _explain_missing_messages(value: Mapping[str, object], finder: Finder) -> None:
    if "prompt" in value and "completion" in value:
        finder.error(
            "",
            "prompt_completion_row",
            "the row is a prompt/completion pair, which chat models do not take.",
            'Write {"messages": [user message with the prompt, assistant message with the completion]}.',
        )
    elif len(_PREFERENCE_KEYS & value.keys()) >= 2:
        finder.error(
            "",
            "preference_row",
            "the row is a preference pair, but the job's method is supervised.",
            "Make the job with method dpo, or give rows with messages.",
        )
    else:
        near = any(nearest(key, ("messages",)) for key in value)
        hint = " One of its keys is close to it: a typing slip?" if near else ""
        finder.error(
            "messages", "missing_messages", f"the row has no messages.{hint}", 'Write {"messages": [...]} on each line.'
        )


def read_tools(
    value: Mapping[str, object], within: str, abilities: Set[Ability], finder: Finder
) -> tuple[Mapping[str, object], ...]:
    """The tools of an object; `within` leads to it, as in `input.`."""
    parallel = value.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        place = f"{within}parallel_tool_calls"
        finder.error(place, "invalid_tools", "parallel_tool_calls is no boolean.", "Write true or false.")
    found: list[Mapping[str, object]] = []
    for key in ("tools", "functions"):
        if not value.get(key):
            continue  # an empty list is accepted, as on Azure
        if Ability.TOOLS not in abilities:
            _refuse_tools(f"{within}{key}", finder)
            continue
        try:
            found += toolcalls.read_tools(key, value[key])
        except toolcalls.Malformed as error:
            finder.error(f"{within}{error.path}", "invalid_tools", error.message, error.fix)
    return tuple(found)


def _message(item: object, path: str, abilities: Set[Ability], finder: Finder) -> Message | None:
    """One turn, or None after telling the finder why not."""
    if not isinstance(item, dict):
        finder.error(
            path, "invalid_message", f"a JSON {json_type(item)} stands here.", "Each message is a JSON object."
        )
        return None
    before = len(finder.problems)
    finder.check_keys(item, _MESSAGE_KEYS, path)
    role = _role(item, path, finder)
    if role is None:
        return None
    weight = _weight(item, role, path, finder)
    calls = _tool_calls(item, role, path, abilities, finder)
    content = _content(item, role, bool(calls), path, abilities, finder)
    call_id = item.get("tool_call_id")
    if role is Role.TOOL and not isinstance(call_id, str):
        fix = "Name the id of the tool call that this message answers."
        finder.error(f"{path}.tool_call_id", "missing_tool_call_id", "a tool message has no tool_call_id.", fix)
    name = item.get("name")
    if name is not None and not isinstance(name, str):
        finder.error(f"{path}.name", "invalid_name", "name is no string.", "Write a string, or leave name out.")
    if any(problem.severity is Severity.ERROR for problem in finder.problems[before:]):
        return None
    return Message(
        role,
        content,
        weight,
        calls,
        call_id if isinstance(call_id, str) else None,
        name if isinstance(name, str) else None,
    )


def _role(item: Mapping[str, object], path: str, finder: Finder) -> Role | None:
    role = item.get("role")
    if isinstance(role, str) and role in set(Role):
        return Role(role)
    wanted = ", ".join(Role)
    near = nearest(role, tuple(Role)) if isinstance(role, str) else None
    hint = f" Did you mean {near}?" if near else ""
    problem = "the message has no role." if role is None else "the role is none of those that exist."
    finder.error(f"{path}.role", "invalid_role", f"{problem}{hint}", f"Use one of: {wanted}.")
    return None


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
        return 0.0
    return 1.0 if weight == 1 else 0.0


def _tool_calls(
    item: Mapping[str, object], role: Role, path: str, abilities: Set[Ability], finder: Finder
) -> tuple[toolcalls.ToolCall, ...]:
    calls: list[toolcalls.ToolCall] = []
    if role in (Role.TOOL, Role.FUNCTION) and Ability.TOOLS not in abilities:
        _refuse_tools(f"{path}.role", finder)
    for key in ("tool_calls", "function_call"):
        if not item.get(key):
            continue
        place = f"{path}.{key}"
        if role is not Role.ASSISTANT:
            finder.error(
                place, "misplaced_tool_calls", f"a {role} message calls a tool.", "Only assistants call tools."
            )
        elif Ability.TOOLS not in abilities:
            _refuse_tools(place, finder)
        else:
            try:
                calls += toolcalls.read_calls(key, item[key])
            except toolcalls.Malformed as error:
                finder.error(f"{path}.{error.path}", "invalid_tool_calls", error.message, error.fix)
    return tuple(calls)


def _content(
    item: Mapping[str, object], role: Role, calls: bool, path: str, abilities: Set[Ability], finder: Finder
) -> str:
    content = item.get("content")
    place = f"{path}.content"
    if isinstance(content, list):
        content = "".join(
            _part(part, role, f"{place}[{index}]", abilities, finder) for index, part in enumerate(content)
        )
    elif content is None and (calls or item.get("tool_calls") or item.get("function_call")):
        return ""
    elif not isinstance(content, str):
        message = "the message has no content." if content is None else f"content is a JSON {json_type(content)}."
        finder.error(place, "invalid_content", message, "Give a string, or an array of parts of type text.")
        return ""
    if not content and role is Role.ASSISTANT and not calls:
        finder.warning(
            place, "empty_answer", "the assistant's answer is empty.", "The model learns to say nothing here."
        )
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        message = "the text holds half of a surrogate pair, which is no character."
        finder.error(place, "invalid_text", message, "Remove the lone \\ud800-\\udfff escape.")
        return ""
    return content


def _part(part: object, role: Role, path: str, abilities: Set[Ability], finder: Finder) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(kind, str) and kind in _VISION_PARTS:
        if Ability.VISION in abilities:
            message = "training on images is not possible yet, even where the base model can see."
        else:
            message = "the row holds an image, and this base model cannot see."
        finder.error(
            path,
            "image_not_supported",
            message,
            "Remove the image parts, or choose a base model with vision (`luthier models list` shows abilities).",
        )
    else:
        finder.error(
            path, "invalid_content_part", "the part is no text part.", 'Write {"type": "text", "text": "..."}.'
        )
    return ""


def _check_learned(messages: tuple[Message, ...], finder: Finder) -> None:
    assistants = [message for message in messages if message.role is Role.ASSISTANT]
    if not assistants:
        finder.error(
            "messages",
            "no_assistant_message",
            "no message of the row is the assistant's, so there is nothing to learn.",
            "Add the answer that the model shall give, with role assistant.",
        )
    elif not any(message.weight for message in assistants):
        finder.error(
            "messages", "nothing_to_learn", "every assistant message has weight 0.", "Give at least one weight 1."
        )


def _check_order(messages: tuple[Message, ...], path: str, finder: Finder) -> None:
    for index in range(1, len(messages)):
        if messages[index - 1].role is Role.ASSISTANT and messages[index].role is Role.ASSISTANT:
            finder.error(
                f"{path}[{index}].role",
                "consecutive_assistant_messages",
                "two assistant messages stand in a row.",
                "Join them into one, or put the user's turn between them.",
            )


def _refuse_tools(path: str, finder: Finder) -> None:
    finder.error(
        path,
        "tools_not_supported",
        "the row uses tools, and this base model cannot call tools.",
        "Remove tools and tool calls, or choose a base model with the ability tools (`luthier models list`).",
    )
