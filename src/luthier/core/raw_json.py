"""A JSON object as the text in which it was stored: whoever passes it on needs not read it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_DECODER = json.JSONDecoder()


class JsonText(Mapping[str, Any]):
    """Reads its text only where somebody looks inside."""

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
        if self._read is None:
            self._read = _DECODER.decode(self.text)
        return self._read
