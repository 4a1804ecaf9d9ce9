"""One JSON object of a preference file -> Preference, with every Problem of the row at once (contract section 11.3)."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from luthier.catalog import Ability
from luthier.data import messages
from luthier.data.finder import Finder
from luthier.data.jsonl import Row, json_type
from luthier.data.messages import Example, Message, Parsed, Role
from luthier.data.problem import Severity

PREFERRED = ("preferred_output", "preferred_completion")
"""The key as guides and real files have it, and as OpenAI's own schema of training rows does."""
NON_PREFERRED = ("non_preferred_output", "non_preferred_completion")
_ROW_KEYS = ("input", *PREFERRED, *NON_PREFERRED)
_INPUT_KEYS = ("messages", "tools", "parallel_tool_calls")
_SHAPE = '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}'
_TRL_KEYS = {"chosen", "rejected"}


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt and two ways to go on. The prompt's turns have weight 0.0, the assistant's in the outputs 1.0."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, object], ...]
    preferred: tuple[Message, ...]
    non_preferred: tuple[Message, ...]

    def examples(self) -> tuple[Example, Example]:
        """The prompt with each output behind it, the preferred one first."""
        return (
            Example((*self.messages, *self.preferred), self.tools),
            Example((*self.messages, *self.non_preferred), self.tools),
        )


def parse(row: Row, abilities: Set[Ability] | None) -> Parsed[Preference]:
    """Reads one row for a base model with these abilities; never raises for what stands in the row."""
    finder = Finder(row.line, row.problems)
    preference = _preference(row.value, abilities, finder)
    failed = any(problem.severity is Severity.ERROR for problem in finder.problems)
    return Parsed(None if failed else preference, tuple(finder.problems))


def _preference(value: Mapping[str, object], abilities: Set[Ability] | None, finder: Finder) -> Preference | None:
    if not value.keys() & set(_ROW_KEYS):
        _explain_other_row(value, finder)
        return None
    finder.check_keys(value, _ROW_KEYS, "")
    read = _input(value, abilities, finder)
    preferred_key, non_preferred_key = _output_keys(value, finder)
    tools = None if read is None else read[1]
    preferred = _output(value, preferred_key, tools, abilities, finder)
    non_preferred = _output(value, non_preferred_key, tools, abilities, finder)
    if preferred is not None and preferred == non_preferred:
        finder.error(
            non_preferred_key or "",
            "equal_outputs",
            "both outputs are the same, so the row says nothing about which is better.",
            "Give an output that is worse, or remove the row.",
        )
    if read is None or preferred is None or non_preferred is None:
        return None
    return Preference(*read, preferred, non_preferred)


def _explain_other_row(value: Mapping[str, object], finder: Finder) -> None:
    """The row has no key of a preference pair."""
    if "messages" in value:
        message = "the row is a supervised example, but the job's method is dpo."
        fix = f"Write {_SHAPE} on each line, or make the job with method supervised."
        finder.error("", "supervised_row", message, fix)
    elif value.keys() >= _TRL_KEYS:
        message = "the row has the keys of another library for preference pairs."
        fix = "Write prompt as input.messages, chosen as preferred_output, rejected as non_preferred_output."
        finder.error("", "chosen_rejected_row", message, fix)
    else:
        near = any(finder.nearest(key, _ROW_KEYS) for key in value)
        hint = " One of its keys is close to one of them: a typing slip?" if near else ""
        message = f"the row has neither an input nor outputs.{hint}"
        finder.error("", "missing_preference", message, f"Write {_SHAPE} on each line.")


def _input(
    value: Mapping[str, object], abilities: Set[Ability] | None, finder: Finder
) -> tuple[tuple[Message, ...], tuple[Mapping[str, object], ...]] | None:
    """The prompt's turns and tools."""
    raw = value.get("input")
    fix = 'Write "input": {"messages": [...]}.'
    if not isinstance(raw, dict):
        found = "the row has no input." if "input" not in value else f"input is a JSON {json_type(raw)}."
        finder.error("input", "missing_input" if "input" not in value else "invalid_input", found, fix)
        return None
    finder.check_keys(raw, _INPUT_KEYS, "input")
    tools = messages.read_tools(raw, "input.", abilities, finder)
    if "messages" not in raw:
        finder.error("input.messages", "missing_messages", "input has no messages.", fix)
        return None
    turns = messages.read_turns(
        _unweighted(raw["messages"], "input.messages", finder), "input.messages", abilities, finder, tools
    )
    if turns is None:
        return None
    if turns[-1].role is Role.ASSISTANT:
        finder.error(
            f"input.messages[{len(turns) - 1}].role",
            "input_ends_with_assistant",
            "the input ends with the assistant's own message, where the outputs begin.",
            "End it with what the assistant answers; move its answer to the outputs.",
        )
        return None
    return tuple(_with_weight(turn, 0.0) for turn in turns), tools


def _output_keys(value: Mapping[str, object], finder: Finder) -> tuple[str | None, str | None]:
    """The keys under which the outputs stand; a side that is missing, or spelled twice, is told."""
    found: list[str | None] = []
    for keys in (PREFERRED, NON_PREFERRED):
        there = [key for key in keys if key in value]
        if not there:
            message = f"the row has no {keys[0]}."
            finder.error(keys[0], "missing_output", message, "Give both outputs: the better one and the worse one.")
        found.append(there[0] if there else None)
    spelled = {key.rpartition("_")[2] for key in (*PREFERRED, *NON_PREFERRED) if key in value}
    if len(spelled) > 1:
        message = "the row mixes the two spellings ..._output and ..._completion."
        finder.error("", "mixed_spellings", message, "Write preferred_output and non_preferred_output.")
    return found[0], found[1]


def _output(
    value: Mapping[str, object],
    key: str | None,
    tools: tuple[Mapping[str, object], ...] | None,
    abilities: Set[Ability] | None,
    finder: Finder,
) -> tuple[Message, ...] | None:
    """The turns of one output, every assistant's to be learned; None after telling the finder why not."""
    if key is None:
        return None
    raw = value[key]
    before = len(finder.problems)
    turns = messages.read_turns(_unweighted(raw, key, finder), key, abilities, finder, tools)
    if turns is None:
        return None
    for index, turn in enumerate(turns):
        if turn.role not in (Role.ASSISTANT, Role.TOOL):
            message = f"a {turn.role} message stands in an output."
            fix = (
                "An output holds what the assistant writes, and answers of its tools; move the rest to input.messages."
            )
            finder.error(f"{key}[{index}].role", "misplaced_role", message, fix)
    if not any(turn.role is Role.ASSISTANT for turn in turns):
        message = "no message of the output is the assistant's, so there is nothing to prefer."
        finder.error(key, "no_assistant_message", message, "Add the answer, with role assistant.")
    failed = any(problem.severity is Severity.ERROR for problem in finder.problems[before:])
    return None if failed else tuple(_with_weight(turn, float(turn.role is Role.ASSISTANT)) for turn in turns)


def _unweighted(raw: object, path: str, finder: Finder) -> object:
    """The messages without `weight`, which says nothing in a pair: outputs are learned whole, inputs not at all."""
    if not isinstance(raw, list):
        return raw
    kept: list[object] = []
    for index, item in enumerate(raw):
        if isinstance(item, dict) and "weight" in item:
            place = f"{path}[{index}].weight"
            message = "weight has no meaning in a preference pair and is ignored."
            finder.warning(place, "ignored_weight", message, "Remove it: outputs are learned whole, inputs not at all.")
            item = {name: part for name, part in item.items() if name != "weight"}
        kept.append(item)
    return kept


def _with_weight(message: Message, weight: float) -> Message:
    return message if message.weight == weight else replace(message, weight=weight)
