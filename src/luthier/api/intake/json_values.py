"""Values that Python reads out of JSON and cannot write again: half a surrogate pair, NaN and infinities."""

import math
import re
from typing import Any

_SPELLED = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|NaN|Infinity|\d[eE]\+?\d{3}")
"""How a body spells them; most bodies have none of these, and the others are looked at value by value."""


def errors(body: bytes, decoded: object) -> list[dict[str, Any]]:
    """An error in pydantic's form for each such value of the body, by its place; empty if the body can be stored.

    No engine, database or answer takes them: each would fail later, with the service's own fault.
    """
    if not _SPELLED.search(body):
        return []
    found: list[dict[str, Any]] = []
    waiting: list[tuple[tuple[int | str, ...], object]] = [(("body",), decoded)]
    while waiting:
        loc, value = waiting.pop()
        match value:
            case str() if not _is_text(value):
                found.append({"type": "string_unicode", "loc": loc, "msg": "", "input": value})
            case float() if not math.isfinite(value):
                found.append({"type": "finite_number", "loc": loc, "msg": "", "input": value})
            case list():
                waiting.extend(((*loc, index), item) for index, item in reversed(list(enumerate(value))))
            case dict():
                names = [name for name in value if not _is_text(name)]
                found.extend({"type": "string_unicode", "loc": loc, "msg": "", "input": name} for name in names)
                waiting.extend(((*loc, name), item) for name, item in reversed(value.items()))
            case _:
                pass
    return found


def _is_text(value: str) -> bool:
    """Whether every character is a whole one, which UTF-8 can spell."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
