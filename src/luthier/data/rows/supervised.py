"""One JSON object of a training file -> Example, with every Problem of the row at once (wire-contract.md 11.1)."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

from luthier.core.states import Ability, Method
from luthier.data.dataset_formats import known_formats
from luthier.data.jsonl import double_encoding
from luthier.data.jsonl.line_reader import JsonRow, json_type
from luthier.data.problems.problem import Problem
from luthier.data.problems.problem_collector import ProblemCollector
from luthier.data.rows import chat_message, images, message_tool_calls, turn_order, unknown_keys
from luthier.data.rows.chat_message import Message, Role

__all__ = ["Example", "Message", "Parsed", "Role", "parse_supervised", "read_tools", "read_turns"]

_ROW_KEYS = ("messages", "tools", "parallel_tool_calls", "functions")
_PREFERENCE_KEYS = {
    "input",
    "preferred_output",
    "non_preferred_output",
    "preferred_completion",
    "non_preferred_completion",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """One training line: its turns, and the tools that the model may call in them, as templates get them."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """What a row gave: an example, None if one of its problems is an error; the problems as they were found."""

    example: T | None
    problems: tuple[Problem, ...]


def parse_supervised(row: JsonRow, abilities: Set[Ability] | None) -> Parsed[Example]:
    """Reads one row for a base model with these abilities, or for none yet (None); never raises for what it holds.

    A faulty row that is in another known format has one Problem that names the format, in place of its own.
    """
    collector = ProblemCollector(row.line, row.problems)
    other = _recognise_format(row.value)
    if other is None:
        example = _example(row.value, abilities, collector)
        if not collector.failed:
            return Parsed(example, tuple(collector.problems))
        other = known_formats.recognise(row.value)
        if other is None:
            return Parsed(None, tuple(collector.problems))
    format_collector = ProblemCollector(row.line, row.problems)
    known_formats.report_format(other, Method.SUPERVISED, format_collector)
    return Parsed(None, tuple(format_collector.problems))


def recognise_other_format(row: JsonRow) -> known_formats.RecognisedRow | None:
    """The format of a row that is not valid here, and the row converted or why it cannot be; None for all others."""
    recognised = _recognise_format(row.value)
    if recognised is not None or "messages" not in row.value:
        return recognised
    recognised = known_formats.recognise(row.value)
    return recognised if recognised is not None and parse_supervised(row, None).example is None else None


def _recognise_format(value: dict[str, object]) -> known_formats.RecognisedRow | None:
    """The format of a row that has no messages, or keys that change the meaning of valid messages; None for others."""
    if "messages" not in value:
        return known_formats.recognise(value)
    return (
        None
        if known_formats.MEANING_KEYS.isdisjoint(value)
        else known_formats.recognise(value, known_formats.FORMATS_WITH_MESSAGES)
    )


def _example(
    value: Mapping[str, object], abilities: Set[Ability] | None, collector: ProblemCollector
) -> Example | None:
    """The row's Example; None after reporting an error in its messages. Other errors the caller sees in `collector`."""
    if "messages" not in value:
        _explain_missing_messages(value, collector)
        return None
    unknown_keys.check_row(value, _ROW_KEYS, "", collector)
    tools = read_tools(value, "", abilities, collector)
    turns = _turns(value["messages"], "messages", tools, abilities, collector)
    if not turns:
        return None
    turn_order.check_learned(turns, "messages", collector)
    messages = tuple(turn.message for turn in turns if turn.message is not None)
    return Example(messages, tools) if len(messages) == len(turns) else None


def read_turns(
    raw: object,
    path: str,
    abilities: Set[Ability] | None,
    collector: ProblemCollector,
    tools: Sequence[Mapping[str, object]] | None = None,
) -> tuple[Message, ...] | None:
    """The messages of an array at `path`; None after reporting what is wrong with one of them.

    Calls are checked against `tools` if these are given. Faults only of the order leave the messages as they are.
    """
    turns = _turns(raw, path, tools, abilities, collector)
    messages = tuple(turn.message for turn in turns if turn.message is not None)
    return messages if messages and len(messages) == len(turns) else None


def _turns(
    raw: object,
    path: str,
    tools: Sequence[Mapping[str, object]] | None,
    abilities: Set[Ability] | None,
    collector: ProblemCollector,
) -> list[chat_message.ParsedTurn]:
    """The turns of an array, faulty ones too; [] after reporting that it is no array of messages.

    Reports the faults of each turn, of their order, of calls that do not fit `tools` (None: unchecked), and too many
    images.
    """
    if double_encoding.decode_turns(raw) is not None:
        text = raw if isinstance(raw, str) else str(raw[0]) if isinstance(raw, list) else ""
        collector.error(path, "encoded_twice", double_encoding.encoded_twice_message(path, text), double_encoding.FIX)
        return []
    if not isinstance(raw, list) or not raw:
        kind = "an empty array" if raw == [] else f"a JSON {json_type(raw)}"
        collector.error(path, "invalid_messages", f"{path} is {kind}.", "Give an array of at least one message.")
        return []
    turns = [
        chat_message.read_message(item, f"{path}[{index}]", abilities, collector) for index, item in enumerate(raw)
    ]
    turn_order.check_order(turns, collector)
    if tools is not None:
        for turn in turns:
            _check_calls(turn, tools, collector)
    _check_images(raw, path, collector)
    return turns


def _check_calls(
    turn: chat_message.ParsedTurn, tools: Sequence[Mapping[str, object]], collector: ProblemCollector
) -> None:
    """Reports the calls of a turn that do not fit the row's tools."""
    for index, call in enumerate(turn.calls):
        call_path = "function_call" if call.id is None else f"tool_calls[{index}].function"
        message_tool_calls.check_call(call, tools, f"{turn.path}.{call_path}", collector)


def _check_images(raw: list[object], path: str, collector: ProblemCollector) -> None:
    """Reports more than MAX_IMAGES image parts in these messages together; `path` leads to the array."""
    contents = [item.get("content") for item in raw if isinstance(item, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict)]
    n_images = sum(isinstance(kind := part.get("type"), str) and kind in images.IMAGE_TYPES for part in parts)
    if n_images > images.MAX_IMAGES:
        message = f"the row holds {n_images} images; at most {images.MAX_IMAGES} are allowed."
        collector.error(path, "too_many_images", message, "Split the row, or leave images out.")


def _explain_missing_messages(value: Mapping[str, object], collector: ProblemCollector) -> None:
    """Reports a row without messages: a preference pair, a typing slip, or neither."""
    if len(_PREFERENCE_KEYS & value.keys()) >= 2:
        collector.error(
            "",
            "preference_row",
            "the row is a preference pair, but the job's method is supervised.",
            "Make the job with method dpo, or give rows with messages.",
        )
    else:
        near = any(collector.nearest_word(key, ("messages",)) for key in value)
        hint = " One of its keys is close to it: a typing slip?" if near else ""
        fix = 'Write {"messages": [...]} on each line.'
        collector.error("messages", "missing_messages", f"the row has no messages.{hint}", fix)


def read_tools(
    value: Mapping[str, object], within: str, abilities: Set[Ability] | None, collector: ProblemCollector
) -> tuple[Mapping[str, object], ...]:
    """The tools of a row or of a pair's input, () for none; `within` leads to it, as in `input.`, "" for the row.

    Reports their faults, and any tools for a base model that cannot call them.
    """
    parallel = value.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        flag_path = f"{within}parallel_tool_calls"
        collector.error(flag_path, "invalid_tools", "parallel_tool_calls is no boolean.", "Write true or false.")
    tools: list[Mapping[str, object]] = []
    for key in ("tools", "functions"):
        if not value.get(key):
            continue  # an empty list is accepted, as on Azure
        if abilities is not None and Ability.TOOLS not in abilities:
            chat_message.report_tools(f"{within}{key}", collector)
        else:
            tools += message_tool_calls.read_tools(key, value[key], f"{within}{key}", collector)
    return tuple(tools)
