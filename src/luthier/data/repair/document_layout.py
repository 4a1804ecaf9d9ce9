"""The layout of a whole document in memory, and what would be lost if its rows were taken out and written anew.

For `repairable_rows`, which refuses a document that would lose something.
"""

import json
import math

from luthier.data.jsonl import json_documents, python_literal
from luthier.data.jsonl.json_documents import Document


def find_layout(content: bytes) -> tuple[Document | None, str | None]:
    """The layout of a document that is more than an array of rows, or a list that Python printed, and the first loss.

    The layout is None for a plain array, one row, and text that is neither JSON nor a Python list. The loss, a clause
    for a message, is None where `rows` of the layout say all that the document says.
    """
    losses: list[str] = []
    text = _decode_text(content, losses)
    try:
        value = _decode_json(text, losses)
    except (ValueError, RecursionError):
        value = python_literal.read(text)
        layout = json_documents.recognise(value) if isinstance(value, list) else None
    else:
        layout = json_documents.recognise(value)
        if layout is not None and layout.jq == ".[]" and isinstance(value, list):
            layout = None
    return layout, next(iter(losses), None)


def not_utf8(line: int) -> str:
    """The clause on a byte that is not UTF-8, in a file whose encoding is UTF-8."""
    return f"on line {line} there is a byte that is not UTF-8, in text that was damaged"


def _decode_text(content: bytes, losses: list[str]) -> str:
    """The text of a document; appends to `losses` where it has a byte that is not UTF-8, U+FFFD in the text."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        losses.append(not_utf8(content.count(b"\n", 0, error.start) + 1))
        return content.decode("utf-8", "replace")


def _decode_json(text: str, losses: list[str]) -> object:
    """The value of a document; appends to `losses` what of it the value does not have. Raises ValueError."""

    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        """json's object_pairs_hook."""
        value = dict(pairs)
        if len(value) < len(pairs):
            losses.append("an object in it has a key twice")
        return value

    def real(digits: str) -> float:
        """json's parse_float."""
        value = float(digits)
        if math.isinf(value):
            losses.append("it has a number that is too large for a double")
        return value

    return json.loads(text, object_pairs_hook=members, parse_float=real)
