"""A JSON object as the text in which it was stored: whoever passes it on needs not read it."""

import json
from collections.abc import Iterator, Mapping

_DECODER = json.JSONDecoder()


class JsonText(Mapping[str, float]):
    """Reads its text only where somebody looks inside."""

    __slots__ = ("_read", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._read: dict[str, float] | None = None

    def __getitem__(self, key: str) -> float:
        return self._values()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __repr__(self) -> str:
        return self.text

    def _values(self) -> dict[str, float]:
        if self._read is None:
            self._read = _DECODER.decode(self.text)
        return self._read
