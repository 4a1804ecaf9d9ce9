"""Escapes control characters in text of others before it is shown in a terminal (`cli`) or a log (`process.logs`)."""

import re

_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""Control characters except tab and newline, characters that change the text direction, and lone surrogates."""
_IN_TEXT = re.compile(f"[{_CONTROL}]")
_IN_LINE = re.compile(f"[{_CONTROL}\t\n]")


def escape_text(text: str) -> str:
    """The text with each control character written as a JSON escape such as `\\u001b`; tabs and newlines are kept."""
    return _IN_TEXT.sub(_escaped, text)


def escape_line(text: str) -> str:
    """As `escape_text`, for one line or table cell: tabs and newlines are escaped too."""
    return _IN_LINE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
