"""One JSON object of a preference file -> Preference, with every Problem of the row at once (wire-contract.md 11.3)."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from luthier.core.states import Ability, Method
from luthier.data.dataset_formats import known_formats
from luthier.data.jsonl.line_reader import JsonRow, json_type
from luthier.data.problems.problem import Severity
from luthier.data.problems.problem_collector import ProblemCollector
from luthier.data.rows import supervised, unknown_keys
from luthier.data.rows.supervised import Example, Message, Parsed, Role

PREFERRED = ("preferred_output", "preferred_completion")
"""The key as guides and real files have it, and as OpenAI's own schema of training rows does."""
NON_PREFERRED = ("non_preferred_output", "non_preferred_completion")
_ROW_KEYS = ("input", *PREFERRED, *NON_PREFERRED)
_INPUT_KEYS = ("messages", "tools", "parallel_tool_calls")
_SHAPE = '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}'


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt, its tools, and two ways to go on.

    The prompt's turns have weight 0.0; in the outputs the assistant's have 1.0 and its tools' 0.0.
    """

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


def parse_preference(row: JsonRow, abilities: Set[Ability] | None) -> Parsed[Preference]:
    """Reads one row for a base model with these abilities, None for no model yet; never raises for its content.

    A faulty row that is in another known format has one Problem that names the format, in place of its own.
    """
    collector = ProblemCollector(row.line, row.problems)
    preference = _preference(row.value, abilities, collector)
    if not collector.failed:
        return Parsed(preference, tuple(collector.problems))
    other = supervised.recognise_other_format(row)
    if other is not None:
        collector = ProblemCollector(row.line, row.problems)
        known_formats.report_format(other, Method.DPO, collector)
    return Parsed(None, tuple(collector.problems))


def _preference(
    value: Mapping[str, object], abilities: Set[Ability] | None, collector: ProblemCollector
) -> Preference | None:
    """The pair of a row, None where a part of it cannot be read; reports all faults to `collector`.

    A pair comes back for some rows with errors too: the caller drops it.
    """
    if not value.keys() & set(_ROW_KEYS):
        _explain_other_row(value, collector)
        return None
    unknown_keys.check_row(value, _ROW_KEYS, "", collector)
    read = _input(value, abilities, collector)
    preferred_key, non_preferred_key = _output_keys(value, collector)
    tools = None if read is None else read[1]
    preferred = _output(value, preferred_key, tools, abilities, collector)
    non_preferred = _output(value, non_preferred_key, tools, abilities, collector)
    if preferred is not None and preferred == non_preferred:
        collector.error(
            non_preferred_key or "",
            "equal_outputs",
            "both outputs are the same, so the row says nothing about which is better.",
            "Give an output that is worse, or remove the row.",
        )
    if read is None or preferred is None or non_preferred is None:
        return None
    return Preference(*read, preferred, non_preferred)


def _explain_other_row(value: Mapping[str, object], collector: ProblemCollector) -> None:
    """Reports a row that has no key of a preference pair: a supervised example, a typing slip, or neither."""
    if "messages" in value:
        message = "the row is a supervised example, but the job's method is dpo."
        fix = f"Write {_SHAPE} on each line, or make the job with method supervised."
        collector.error("", "supervised_row", message, fix)
    else:
        near = any(collector.nearest_word(key, _ROW_KEYS) for key in value)
        hint = " One of its keys is close to one of them: a typing slip?" if near else ""
        message = f"the row has neither an input nor outputs.{hint}"
        collector.error("", "missing_preference", message, f"Write {_SHAPE} on each line.")


def _input(
    value: Mapping[str, object], abilities: Set[Ability] | None, collector: ProblemCollector
) -> tuple[tuple[Message, ...], tuple[Mapping[str, object], ...]] | None:
    """The prompt's turns, all of weight 0.0, and its tools; None after reporting that there are no usable turns."""
    raw = value.get("input")
    fix = 'Write "input": {"messages": [...]}.'
    if not isinstance(raw, dict):
        message = "the row has no input." if "input" not in value else f"input is a JSON {json_type(raw)}."
        collector.error("input", "missing_input" if "input" not in value else "invalid_input", message, fix)
        return None
    unknown_keys.check_row(raw, _INPUT_KEYS, "input", collector)
    tools = supervised.read_tools(raw, "input.", abilities, collector)
    if "messages" not in raw:
        collector.error("input.messages", "missing_messages", "input has no messages.", fix)
        return None
    turns = supervised.read_turns(
        _unweighted(raw["messages"], "input.messages", collector), "input.messages", abilities, collector, tools
    )
    if turns is None:
        return None
    if turns[-1].role is Role.ASSISTANT:
        collector.error(
            f"input.messages[{len(turns) - 1}].role",
            "input_ends_with_assistant",
            "the input ends with the assistant's own message, where the outputs begin.",
            "End it with what the assistant answers; move its answer to the outputs.",
        )
        return None
    return tuple(_with_weight(turn, 0.0) for turn in turns), tools


def _output_keys(value: Mapping[str, object], collector: ProblemCollector) -> tuple[str | None, str | None]:
    """The keys of the preferred and of the other output, None for one that is missing.

    Reports a missing one, and a row that mixes the two spellings of these keys.
    """
    keys: list[str | None] = []
    for spellings in (PREFERRED, NON_PREFERRED):
        present = [key for key in spellings if key in value]
        if not present:
            message = f"the row has no {spellings[0]}."
            collector.error(
                spellings[0], "missing_output", message, "Give both outputs: the better one and the worse one."
            )
        keys.append(present[0] if present else None)
    spelled = {key.rpartition("_")[2] for key in (*PREFERRED, *NON_PREFERRED) if key in value}
    if len(spelled) > 1:
        message = "the row mixes the two spellings ..._output and ..._completion."
        collector.error("", "mixed_spellings", message, "Write preferred_output and non_preferred_output.")
    return keys[0], keys[1]


def _output(
    value: Mapping[str, object],
    key: str | None,
    tools: tuple[Mapping[str, object], ...] | None,
    abilities: Set[Ability] | None,
    collector: ProblemCollector,
) -> tuple[Message, ...] | None:
    """The turns of one output, every assistant's to be learned; None after reporting why not."""
    if key is None:
        return None
    raw = value[key]
    before = len(collector.problems)
    turns = supervised.read_turns(_unweighted(raw, key, collector), key, abilities, collector, tools)
    if turns is None:
        return None
    for index, turn in enumerate(turns):
        if turn.role not in (Role.ASSISTANT, Role.TOOL):
            message = f"a {turn.role} message is in an output."
            fix = (
                "An output holds what the assistant writes, and answers of its tools; move the rest to input.messages."
            )
            collector.error(f"{key}[{index}].role", "misplaced_role", message, fix)
    if not any(turn.role is Role.ASSISTANT for turn in turns):
        message = "no message of the output is the assistant's, so there is nothing to prefer."
        collector.error(key, "no_assistant_message", message, "Add the answer, with role assistant.")
    failed = any(problem.severity is Severity.ERROR for problem in collector.problems[before:])
    return None if failed else tuple(_with_weight(turn, float(turn.role is Role.ASSISTANT)) for turn in turns)


def _unweighted(raw: object, path: str, collector: ProblemCollector) -> object:
    """The messages without `weight`, which says nothing in a pair: outputs are learned whole, inputs not at all.

    A copy, with a warning for each weight; what is no array comes back as it is.
    """
    if not isinstance(raw, list):
        return raw
    messages: list[object] = []
    for index, item in enumerate(raw):
        if isinstance(item, dict) and "weight" in item:
            weight_path = f"{path}[{index}].weight"
            message = "weight has no meaning in a preference pair and is ignored."
            collector.warning(
                weight_path, "ignored_weight", message, "Remove it: outputs are learned whole, inputs not at all."
            )
            item = {name: part for name, part in item.items() if name != "weight"}
        messages.append(item)
    return messages


def _with_weight(message: Message, weight: float) -> Message:
    """The message with this weight, itself where it has it already."""
    return message if message.weight == weight else replace(message, weight=weight)
