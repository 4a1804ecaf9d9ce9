"""The fields of a log line: its `name=value` pairs as data, and the words before them, which say what happened."""

import logging
import re
from dataclasses import dataclass
from functools import lru_cache

from luthier.process import printable

_PLACEHOLDER = r"%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]"
_PART = re.compile(rf"(?P<name>[a-z_]\w*)=(?P<value>{_PLACEHOLDER}|[\w.:-]+)|(?P<unnamed>{_PLACEHOLDER})|%%")
_EVENT = re.compile(r"[^=%]*?(?=\s*(?:[a-z_]\w*=|%|:|$))")

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class _Template:
    """A format string in parts: its event, fields of a constant value, and the name for each argument, None without."""

    event: str
    constants: tuple[tuple[str, str], ...]
    arguments: tuple[str | None, ...]


def of_record(record: logging.LogRecord) -> dict[str, Value]:
    """The fields of one of our own records: `event`, then each `name=value` of its format string. Numbers stay
    numbers; anything else is text on one line. Arguments that have no name are in the message only.
    """
    if not isinstance(record.msg, str):
        return {}
    template = _parsed(record.msg)
    fields: dict[str, Value] = {"event": template.event} if template.event else {}
    fields |= dict(template.constants)
    arguments = record.args if isinstance(record.args, tuple) else ()
    for name, value in zip(template.arguments, arguments, strict=False):
        if name is not None:
            fields[name] = _shown(value)
    return fields


@lru_cache(maxsize=1024)
def _parsed(message: str) -> _Template:
    """The parts of a format string."""
    event = _EVENT.match(message)
    constants: list[tuple[str, str]] = []
    arguments: list[str | None] = []
    for part in _PART.finditer(message):
        if part["unnamed"] is not None:
            arguments.append(None)
        elif part["name"] is not None and part["value"].startswith("%"):
            arguments.append(part["name"])
        elif part["name"] is not None:
            constants.append((part["name"], part["value"]))
    return _Template(event[0].strip() if event else "", tuple(constants), tuple(arguments))


def _shown(value: object) -> Value:
    """An argument as JSON has it: a float with three decimals, which is a microsecond of a millisecond figure."""
    match value:
        case None | bool():
            return value
        case float():
            return round(value, 3)
        case int() if type(value) is int:
            return value
        case _:
            return printable.escape_line(str(value))
