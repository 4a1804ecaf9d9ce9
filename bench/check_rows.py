"""Made chat rows for `make bench-check`, the same on every machine, with the lengths, turns and tools of real files."""

import json
import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

_WORDS = (
    *"""
    the of and to in is that for it with as was on are be this by or from at an which you not have has can if will
    when one all more other some time about there use how each she their up out many then them these so number
    people may water called first who its now find long down day did get come made part over new sound take only
    little work know place years live me back give most very after things our just name good sentence man think say
    great where help
    Zürich café naïve don't (aside) x=3 $1,200 https://example.org/a?b=c Größe 東京 привет 🙂 `code` 50%
    """.split(),  # noqa: SIM905
)
_QUOTED = 0.1
"""Of the texts, so that quotes stand in one row of three: as in the 829 real rows that we have at hand."""
_NAMES = ("get_weather", "search_orders", "book_room", "send_message", "convert_currency", "read_calendar")
_SYSTEM = "You are the assistant of a travel office. Answer in the language of the question, briefly and kindly."


def write(path: Path, kind: str, n_bytes: int) -> None:
    """Writes rows of this kind until the file has so many bytes."""
    with path.open("wb") as stream:
        for line in KINDS[kind]():
            if stream.tell() + len(line) > n_bytes:
                return
            stream.write(line)


def _chats() -> Iterator[bytes]:
    """Six rows in ten are one question, three are talks, one calls a tool; half are written in ASCII with escapes."""
    chance = random.Random("chats")
    for number in count():
        drawn = chance.random()
        value = (
            _talk(chance, 1)
            if drawn < 0.6
            else _talk(chance, chance.randint(2, 5))
            if drawn < 0.9
            else _calling(chance)
        )
        yield json.dumps(value, ensure_ascii=number % 2 == 0).encode() + b"\n"


def _with_strays() -> Iterator[bytes]:
    """The same, and one row in a hundred has a key that is unknown: a warning, for which it is read with care."""
    for number, line in enumerate(_chats()):
        yield line[:-2] + b', "source": "web"}\n' if number % 100 == 99 else line


def _all_warned() -> Iterator[bytes]:
    """The same, and every row has such a key."""
    for line in _chats():
        yield line[:-2] + b', "source": "web"}\n'


def _all_warned_inside() -> Iterator[bytes]:
    """The same, and every message has a key of one's own, and the row one that is another in each."""
    for number, line in enumerate(_chats()):
        value = json.loads(line)
        for message in value["messages"]:
            message["timestamp"] = f"2026-11-25 10:{number % 60:02}"
        yield json.dumps({"id": number, **value}, ensure_ascii=number % 2 == 0).encode() + b"\n"


def _talk(chance: random.Random, n_answers: int) -> dict[str, Any]:
    messages = [{"role": "system", "content": _SYSTEM}] if chance.random() < 0.7 else []
    for index in range(n_answers):
        answer: dict[str, Any] = {"role": "assistant", "content": _text(chance, 20, 160)}
        if n_answers > 1 and index < n_answers - 1 and chance.random() < 0.5:
            answer["weight"] = 0
        messages += [{"role": "user", "content": _text(chance, 5, 60)}, answer]
    return {"messages": messages}


def _calling(chance: random.Random) -> dict[str, Any]:
    name = chance.choice(_NAMES)
    arguments = json.dumps({"place": chance.choice(_WORDS), "days": chance.randint(1, 9)})
    call = {
        "id": f"call_{chance.randint(0, 9999)}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return {
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": _text(chance, 5, 40)},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": json.dumps({"found": _text(chance, 3, 30)})},
            {"role": "assistant", "content": _text(chance, 10, 80)},
        ],
        "tools": [_tool(name) for name in _NAMES],
    }


def _tool(name: str) -> dict[str, Any]:
    properties = {
        "place": {"type": "string", "description": "The name of a town, as the guest wrote it"},
        "days": {"type": "integer", "minimum": 1, "description": "For how many days"},
    }
    parameters = {"type": "object", "properties": properties, "required": ["place"], "additionalProperties": False}
    return {
        "type": "function",
        "function": {"name": name, "description": f"Does {name} for a place", "parameters": parameters},
    }


def _text(chance: random.Random, least: int, most: int) -> str:
    words = chance.choices(_WORDS, k=chance.randint(least, most))
    if chance.random() < _QUOTED:
        words[0] = f'"{words[0]}"'
    return " ".join(words[: len(words) // 2]) + chance.choice((". ", ".\n\n- ")) + " ".join(words[len(words) // 2 :])


KINDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "chats": _chats,
    "chats-with-strays": _with_strays,
    "chats-all-warned": _all_warned,
    "chats-all-warned-inside": _all_warned_inside,
}
