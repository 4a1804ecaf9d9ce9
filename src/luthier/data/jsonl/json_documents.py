"""JSON documents that hold rows otherwise than one a line: arrays, rows under a key, what pandas writes.

file_types/ names the layout to the user and how to convert it, repair/ takes the rows out of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_WHOLE_BYTES = 64 * 1024 * 1024
"""A document is looked at as a whole up to this size; a longer one must be of a layout that can be streamed."""

_ROW_KEYS = frozenset(
    """
    messages prompt completion conversations conversation contents instruction input output question answer chosen
    rejected preferred_output non_preferred_output dialog turns response query row user assistant system human
    """.split()  # noqa: SIM905
)
_WRAPPERS = frozenset(
    "data rows train test validation examples items records dataset result results response samples".split()  # noqa: SIM905
)
"""Keys that a message may show."""
_TURN_KEYS = frozenset(("role", "from", "speaker", "sender", "author"))
_PANDAS = 'df.to_json(NEW, orient="records", lines=True)'
_MAX_STEPS = 3
_WRAPPER = re.compile(
    rb'\{\s*(?:"[^"\\]*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[-+\w.]+|\{[^{}\[\]]*\})\s*,\s*)*'
    rb'"(?P<key>[^"\\]+)"\s*:\s*\[\s*\{\s*"(?P<inner>[^"\\]+)"\s*:'
)

JsonObject = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Document:
    """The layout of a whole document: `name` completes "It looks like ...", `jq` is jq's program that gives its `rows`.

    Where it is not certain which rows to take, `jq` is None and `rows` empty; then `advice` says what to do.
    """

    name: str
    jq: str | None = None
    rows: tuple[object, ...] = ()
    advice: str = ""


def recognise(value: object) -> Document | None:
    """The layout of a decoded document; None for an object that is one row itself, and for an unknown layout."""
    if isinstance(value, list):
        return _array(value)
    if not isinstance(value, dict) or not value or _is_row(value):
        return None
    return _pandas(value) or _wrapped(value) or _known_other(value)


def wrapper_key(start: bytes) -> str | None:
    """The key of the array that holds the rows of an object, judged by the object's first bytes alone.

    None where these do not show it for certain; they have to reach the first key of the first row.
    """
    if not (match := _WRAPPER.match(start)):
        return None
    key, inner = match["key"].decode("utf-8", "replace"), match["inner"].decode("utf-8", "replace")
    return key if inner in _ROW_KEYS and inner != "row" and key not in _ROW_KEYS else None


def are_turns(value: object) -> bool:
    """Whether it is a non-empty array of objects with a `role`: messages without the row around them."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "role" in one for one in value)


def are_rows(value: object) -> bool:
    """Whether it is a non-empty array of objects that each look like a row, in any known format."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and _is_row(one) for one in value)


def _is_row(value: JsonObject) -> bool:
    """Whether an object looks like a row itself: its `messages` are messages, encoded in a string, or none.

    Without `messages`: some key of a known row format holds messages or no container, and no key is a message's own.
    """
    if "messages" in value:
        messages = value["messages"]
        return isinstance(messages, str) or are_turns(messages) or messages == []
    return not (value.keys() & _TURN_KEYS) and any(
        not isinstance(part, dict | list) or are_turns(part) for key, part in value.items() if key in _ROW_KEYS
    )


def _array(value: list[object]) -> Document:
    """The layout of an array, "one JSON array" where it is nothing more particular."""
    if are_turns(value):
        return Document("one array of messages", "{messages: .}", ({"messages": value},))
    if value and all(are_turns(one) for one in value):
        return Document(
            "an array of arrays of messages", ".[] | {messages: .}", tuple({"messages": one} for one in value)
        )
    if value and all(isinstance(one, list) and len(one) == 1 and are_turns(one[0]) for one in value):
        # pandas, orient="values": the column has no name, but there is only one.
        rows = tuple({"messages": one[0]} for one in value if isinstance(one, list))
        return Document("an array of arrays of messages", ".[] | {messages: .[0]}", rows)
    if value and all(isinstance(one, str) for one in value):
        return Document("one JSON array of strings, each of them JSON", ".[] | fromjson", tuple(value))
    if value and all(isinstance(one, list) for one in value):
        advice = f"Its columns have no names. Export it anew: {_PANDAS}."
        return Document("an array of arrays, as pandas writes values", advice=advice)
    return Document("one JSON array", ".[]", tuple(value))


def _pandas(value: JsonObject) -> Document | None:
    """The layout of a table as pandas' to_json writes it for any orient but records; None for all else."""
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list) and value.keys() <= {"columns", "index", "data"}:
        if all(isinstance(name, str) for name in columns) and all(
            isinstance(one, list) and len(one) == len(columns) for one in data
        ):
            rows = tuple(dict(zip(columns, one, strict=True)) for one in data)
            jq = ".columns as $c | .data[] | [$c, .] | transpose | map({(.[0]): .[1]}) | add"
            return _pandas_document("split", jq, rows)
        return None
    return _by_column(value) or _by_row(value) or _column_lists(value)


def _by_column(value: JsonObject) -> Document | None:
    """pandas' orient columns, {column: {index: cell}}; None unless all columns have the same numbers as index."""
    parts = [part for part in value.values() if isinstance(part, dict)]
    if len(parts) < len(value) or not parts[0] or not all(part.keys() == parts[0].keys() for part in parts):
        return None
    if not all(str(index).isdigit() for index in parts[0]):
        return None
    rows = tuple({key: part[index] for key, part in zip(value, parts, strict=True)} for index in parts[0])
    jq = ". as $t | (first(.[]) | keys_unsorted[]) as $k | $t | map_values(.[$k])"
    return _pandas_document("columns", jq, rows)


def _by_row(value: JsonObject) -> Document | None:
    """pandas' orient table, without its index, or orient index, {index: row}; None for all else."""
    data = value.get("data")
    if isinstance(value.get("schema"), dict) and isinstance(data, list) and all(isinstance(one, dict) for one in data):
        rows = tuple({key: part for key, part in one.items() if key != "index"} for one in data)
        return _pandas_document("table", ".data[] | del(.index)", rows)
    if all(key.isdigit() for key in value) and all(isinstance(one, dict) for one in value.values()):
        return _pandas_document("index", ".[]", tuple(value.values()))
    return None


def _pandas_document(orient: str, jq: str, rows: tuple[object, ...]) -> Document:
    """The layout of a table of this orient, with the call that exports it as JSON lines for advice."""
    advice = f"In pandas: {_PANDAS}."
    return Document(f"a table that pandas wrote as {orient}, not as records in lines", jq, rows, advice)


def _column_lists(value: JsonObject) -> Document | None:
    """Columns as arrays of equal length, as `Dataset.to_dict()` gives them; None if none of them is `messages`."""
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages or not all(are_turns(one) for one in messages):
        return None
    parts = [part for part in value.values() if isinstance(part, list)]
    if len(parts) < len(value) or not all(len(part) == len(messages) for part in parts):
        return None
    rows = tuple(dict(zip(value, cells, strict=True)) for cells in zip(*parts, strict=True))
    jq = ". as $t | range(first(.[]) | length) as $i | $t | map_values(.[$i])"
    return Document("a table written column by column", jq, rows)


def _wrapped(value: JsonObject) -> Document | None:
    """Rows in an array at a key, which may be two objects deep; several such arrays get advice only.

    None where there is no such array, or other keys beside it are a row's own.
    """
    path: list[str] = []
    for _ in range(_MAX_STEPS):
        arrays = {key: part for key, part in value.items() if are_rows(part) or _are_viewer_rows(part)}
        others = value.keys() - arrays.keys()
        if len(arrays) == 1 and not others & _ROW_KEYS:
            (key, rows), *_ = arrays.items()
            return _at_key(" | ".join((*path, _jq_step(value, key))), rows)
        if arrays and not others & _ROW_KEYS:
            ways = " | ".join((*path, _jq_step(value, next(iter(arrays)))))
            advice = f"Write each into a file of its own; the first: jq -c '{ways}[]' OLD > NEW."
            return Document("several arrays of rows under keys", advice=advice)
        inner = [(key, part) for key, part in value.items() if isinstance(part, dict) and part]
        if len(inner) != 1:
            return None
        path.append(_jq_step(value, inner[0][0]))
        value = inner[0][1]
    return None


def _at_key(path: str, rows: object) -> Document:
    """The layout of `rows` at jq's path `path`; rows of Hugging Face's dataset viewer are taken out of its objects.

    Without rows where the viewer has cut cells off.
    """
    assert isinstance(rows, list)
    if not _are_viewer_rows(rows):
        return Document("one JSON object that holds the rows in an array", f"{path}[]", tuple(rows))
    name = "an answer of Hugging Face's dataset viewer"
    if any(one.get("truncated_cells") for one in rows):
        advice = "It has cells that the viewer cut off. Load the dataset itself, and export it as JSON lines."
        return Document(name, advice=advice)
    return Document(name, f"{path}[].row", tuple(one["row"] for one in rows))


def _are_viewer_rows(value: object) -> bool:
    """Whether it is a non-empty array of {"row": {...}}, as Hugging Face's dataset viewer answers."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and isinstance(one.get("row"), dict) for one in value)
    )


def _jq_step(value: JsonObject, key: str) -> str:
    """Where a key's value is, in jq's words; a user's own key is user text, and is named only by its position."""
    return f".{key}" if key in _WRAPPERS else f"to_entries[{list(value).index(key)}].value"


def _known_other(value: JsonObject) -> Document | None:
    """A document without rows that is often given by mistake: a notebook, a service's error; None for others."""
    if "cells" in value and "nbformat" in value:
        return Document("a Jupyter notebook", advice="Run it, and give the JSONL file that it writes.")
    if len(value) <= 4 and ("error" in value or "detail" in value or {"message", "documentation_url"} <= value.keys()):
        return Document("the error message of a service", advice="The download failed: get the file again.")
    return None
