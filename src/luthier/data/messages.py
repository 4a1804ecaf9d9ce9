"""One JSON object of a training file -> Example, with every Problem of the row at once (contract section 11.1)."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

from luthier.catalog import Ability
from luthier.data import images, toolcalls, turn_order, turns
from luthier.data.finder import Finder
from luthier.data.jsonl import Row, json_type
from luthier.data.problem import Problem
from luthier.data.turns import Message, Role

__all__ = ["Example", "Message", "Parsed", "Role", "parse", "read_tools", "read_turns"]

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
    """One training line: its turns, and the tools that the model may call in them."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """What a row gave: an example unless one of its problems is an error."""

    example: T | None
    problems: tuple[Problem, ...]


def parse(row: Row, abilities: Set[Ability] | None) -> Parsed[Example]:
    """Reads one row for a base model with these abilities, or for none yet (None); never raises for what it holds."""
    finder = Finder(row.line, row.problems)
    example = _example(row.value, abilities, finder)
    return Parsed(None if finder.failed else example, tuple(finder.problems))


def _example(value: Mapping[str, object], abilities: Set[Ability] | None, finder: Finder) -> Example | None:
    if "messages" not in value:
        _explain_missing_messages(value, finder)
        return None
    finder.check_keys(value, _ROW_KEYS, "")
    tools = read_tools(value, "", abilities, finder)
    found = _turns(value["messages"], "messages", tools, abilities, finder)
    if not found:
        return None
    turn_order.check_learned(found, "messages", finder)
    messages = tuple(turn.message for turn in found if turn.message is not None)
    return Example(messages, tools) if len(messages) == len(found) else None


def read_turns(
    raw: object,
    path: str,
    abilities: Set[Ability] | None,
    finder: Finder,
    tools: Sequence[Mapping[str, object]] | None = None,
) -> tuple[Message, ...] | None:
    """The messages of an array; None after telling the finder what is wrong with one of them.

    Calls are held against `tools` where these are given. Faults of the order alone leave the messages as they are.
    """
    found = _turns(raw, path, tools, abilities, finder)
    messages = tuple(turn.message for turn in found if turn.message is not None)
    return messages if messages and len(messages) == len(found) else None


def _turns(
    raw: object,
    path: str,
    tools: Sequence[Mapping[str, object]] | None,
    abilities: Set[Ability] | None,
    finder: Finder,
) -> list[turns.Turn]:
    if not isinstance(raw, list) or not raw:
        found = "an empty array" if raw == [] else f"a JSON {json_type(raw)}"
        finder.error(path, "invalid_messages", f"{path} is {found}.", "Give an array of at least one message.")
        return []
    read = [turns.read(item, f"{path}[{index}]", abilities, finder) for index, item in enumerate(raw)]
    turn_order.check(read, finder)
    if tools is not None:
        for turn in read:
            _check_calls(turn, tools, finder)
    _check_images(raw, path, finder)
    return read


def _check_calls(turn: turns.Turn, tools: Sequence[Mapping[str, object]], finder: Finder) -> None:
    for index, call in enumerate(turn.calls):
        place = "function_call" if call.id is None else f"tool_calls[{index}].function"
        toolcalls.check_call(call, tools, f"{turn.path}.{place}", finder)


def _check_images(raw: list[object], path: str, finder: Finder) -> None:
    contents = [item.get("content") for item in raw if isinstance(item, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict)]
    n_images = sum(isinstance(kind := part.get("type"), str) and kind in images.KINDS for part in parts)
    if n_images > images.MAX_IMAGES:
        message = f"the row holds {n_images} images; at most {images.MAX_IMAGES} are taken."
        finder.error(path, "too_many_images", message, "Split the row, or leave images out.")


def _explain_missing_messages(value: Mapping[str, object], finder: Finder) -> None:
    if "prompt" in value and "completion" in value:
        finder.error(
            "",
            "prompt_completion_row",
            "the row is a prompt/completion pair, which chat models do not take.",
            'Write {"messages": [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": COMPLETION}]}.',
        )
    elif len(_PREFERENCE_KEYS & value.keys()) >= 2:
        finder.error(
            "",
            "preference_row",
            "the row is a preference pair, but the job's method is supervised.",
            "Make the job with method dpo, or give rows with messages.",
        )
    else:
        near = any(finder.nearest(key, ("messages",)) for key in value)
        hint = " One of its keys is close to it: a typing slip?" if near else ""
        fix = 'Write {"messages": [...]} on each line.'
        finder.error("messages", "missing_messages", f"the row has no messages.{hint}", fix)


def read_tools(
    value: Mapping[str, object], within: str, abilities: Set[Ability] | None, finder: Finder
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
        if abilities is not None and Ability.TOOLS not in abilities:
            turns.refuse_tools(f"{within}{key}", finder)
        else:
            found += toolcalls.read_tools(key, value[key], f"{within}{key}", finder)
    return tuple(found)
