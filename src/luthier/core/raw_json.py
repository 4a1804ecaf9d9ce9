"""A JSON object as the text in which it was stored: whoever passes it on needs not parse it.

An event's data is one: lists of events go out without being parsed.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_DECODER = json.JSONDecoder()


class JsonText(Mapping[str, Any]):
    """A read-only mapping over a JSON object's `text`, which is parsed once, at the first look inside.

    Raises ValueError then if it is no JSON.
    """

    __slots__ = ("_read", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._read: dict[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        return self._values()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __repr__(self) -> str:
        return self.text

    def _values(self) -> dict[str, Any]:
        """The parsed object, kept for the next look."""
        if self._read is None:
            self._read = _DECODER.decode(self.text)
        return self._read
