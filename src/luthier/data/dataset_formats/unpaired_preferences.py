"""Rows of answers labelled as good or bad (KTO): the good ones can be learned, the bad ones never become answers.

A format for `known_formats`.
"""

from luthier.data.dataset_formats import instruction_pairs, turn_lists
from luthier.data.dataset_formats.chat_builder import JsonObject, NotConvertible
from luthier.data.dataset_formats.dataset_format import Conversion, Format, RowKind

_LABELS = ("label", "kto_tag")


def _label(row: JsonObject) -> bool | None:
    """Whether the label says good (True) or bad (False); None where there is none that says either."""
    value = next((row[key] for key in _LABELS if key in row), None)
    if isinstance(value, bool):
        return value
    if "messages" in row:
        return None  # another label: a class, a name
    words = {0: False, 1: True, -1: False, "true": True, "false": False}
    key = value.lower() if isinstance(value, str) else value
    return words.get(key) if isinstance(key, str | int | float) else None


def _is_labelled(row: JsonObject) -> bool:
    """Whether the row has such a label, and messages, turns, or prompt and completion."""
    if _label(row) is None:
        return False
    in_messages = isinstance(row.get("messages"), list) or turn_lists.find_turn_keys(row) is not None
    return in_messages or instruction_pairs.has_prompt_and_completion(row)


def _convert(row: JsonObject) -> Conversion:
    """The row without its label, converted if need be. Raises NotConvertible for an answer that is labelled as bad."""
    if not _label(row):
        raise NotConvertible("its answer is labelled as a bad one, which no model is to learn")
    if instruction_pairs.has_prompt_and_completion(row):
        return instruction_pairs.convert_prompt_completion(row, _LABELS)
    if turn_lists.find_turn_keys(row) == ("messages", "role", "content"):
        return Conversion({key: value for key, value in row.items() if key not in _LABELS})
    return turn_lists.convert_turns(row, _LABELS)


FORMATS = (
    Format(
        "kto",
        "unpaired preferences (KTO of TRL, LLaMA-Factory and ms-swift)",
        '`{"prompt", "completion", "label": true or false}`, `kto_tag`',
        "label false marks answers that are not to be learned: keep only the rows whose label is true, "
        "`jq -c 'select(.label != false and .kto_tag != false)' OLD > NEW`, or write a good and a bad answer to one "
        "prompt as a pair for method dpo",
        _is_labelled,
        _convert,
        RowKind.LABELLED,
        refused="rows with label false, which stay as they are: no answer is made of them",
    ),
)
