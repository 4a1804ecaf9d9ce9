"""Values that were encoded twice: JSON inside a JSON string, or what Python's str made of them.

The row parsers (rows/) report them, `luthier check --fix` (repair/) decodes them.
"""

import json
from collections.abc import Callable

from luthier.data.jsonl import json_reader, python_literal

JsonObject = dict[str, object]
_TURN_KEYS = ("messages", "preferred_output", "non_preferred_output", "chosen", "rejected", "conversations")
_TOOL_KEYS = ("tools", "functions")
FIX = "Decode it once, with json.loads or jq's fromjson; luthier check OLD --fix NEW does it."


def decode(text: str) -> dict[str, object] | list[object] | None:
    """The object or array that a text encodes, as JSON, JSON within JSON strings, or a Python literal.

    None for any other text: one of a number or of prose, and JSON with any fault that is no Python literal either.
    """
    start = text.lstrip()[:1]
    if start not in ("{", "[", '"'):
        return None
    reading = json_reader.read(text)
    if reading.complete and not reading.faults:
        if isinstance(reading.value, str):
            return decode(reading.value)  # three times, as two tools after one another do
        return reading.value if isinstance(reading.value, dict | list) else None
    return python_literal.read(text)


def is_json(text: str) -> bool:
    """Whether the whole text is JSON without a fault; False for Python literals, which `decode` takes too."""
    reading = json_reader.read(text)
    return reading.complete and not reading.faults


def encoded_twice_message(key: str, text: str) -> str:
    """The message of a Problem on `key`, whose value `text` was encoded twice; shows none of the text."""
    kind = "JSON" if is_json(text) else "what Python prints of a list"
    return f"{key} is a string that holds {kind}, so it was encoded twice."


def decode_turns(value: object) -> list[object] | None:
    """The messages that a string, or an array of strings with one message each, encodes.

    None for all else: a value that is no string, an empty array, objects with neither `role` nor `from`.
    """
    return _read(value, _are_turns)


def decode_tools(value: object) -> list[object] | None:
    """The tools that a string, or an array of strings with one tool each, encodes; None for all else.

    Only that each of them is an object is checked.
    """
    return _read(value, _are_objects)


def decode_fields(row: JsonObject) -> JsonObject:
    """A copy of the row with encoded messages, outputs and tools decoded, those of its `input` too.

    The same object where nothing is encoded; the row itself is never changed.
    """
    decoded_row = dict(row)
    for keys, decode_value in ((_TURN_KEYS, decode_turns), (_TOOL_KEYS, decode_tools)):
        for key in keys:
            value = decode_value(row[key]) if row.get(key) else None
            if value is not None:
                decoded_row[key] = value
    input_value = row.get("input")
    if isinstance(input_value, str):
        decoded = decode(input_value)
        if isinstance(decoded, dict) and "messages" in decoded:
            decoded_row["input"] = decode_fields(decoded)
    elif isinstance(input_value, dict):
        decoded_row["input"] = decode_fields(input_value)
    return row if decoded_row == row else decoded_row


def as_json(value: object) -> bytes:
    """One row as JSON in UTF-8, on one line and without a line end; in ASCII if it has half of a surrogate pair."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def _read(value: object, fits: Callable[[list[object]], bool]) -> list[object] | None:
    """Decodes a string, or a non-empty array of strings one by one, to a list that `fits` accepts; else None."""
    if isinstance(value, str):
        decoded = decode(value)
        return decoded if isinstance(decoded, list) and fits(decoded) else None
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        decoded_items = [decode(str(one)) for one in value]
        return list(decoded_items) if fits(list(decoded_items)) else None
    return None


def _are_turns(value: list[object]) -> bool:
    """Whether a non-empty list holds only objects with a `role`, or a `from` as ShareGPT has it."""
    return bool(value) and all(isinstance(one, dict) and ("role" in one or "from" in one) for one in value)


def _are_objects(value: list[object]) -> bool:
    """Whether all are objects; True for an empty list."""
    return all(isinstance(one, dict) for one in value)
