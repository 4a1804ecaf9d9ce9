"""The questions of the matrix, and what an answer to each must hold: the same for every client.

Runs in each client's own environment, so it needs nothing but the standard library. `scripted_model.py` says how the
engine of the tests answers.
"""

import json
from typing import Any

from drive import wanted

GREETING = "hi"
WEATHER = 'What is the weather? {"city": "Paris"}'
PERSON = 'Who is it? {"name": "Ada", "age": 36, "languages": ["English", "French"]}'
REMEMBER, RECALL = "Remember the word zebra.", "Which word was it?"
TEXTS = ["the first text", "another text", "the first text"]

asked_of: list[str] = []
"""The cities that the function was called with since the last check."""


def get_weather(city: str) -> str:
    """Tells the weather of a city.

    Args:
        city: Name of the city.
    """
    asked_of.append(city)
    return f"sunny in {city}"


def check_greeting(text: str) -> None:
    """The whole answer, whole or joined from a stream: it repeats the request as the engine got it."""
    check_turns(text, [GREETING])


def check_tool_use(text: str) -> None:
    """The function was called once, with the city asked for, and the answer tells its result."""
    cities = asked_of[:]
    asked_of.clear()
    wanted(cities == ["Paris"] and "sunny in Paris" in text, (cities, text))


def check_person(person: Any) -> None:
    """All values of the question, in their types; `person` is an object or a dict."""
    values = (
        person if isinstance(person, dict) else {name: getattr(person, name) for name in ("name", "age", "languages")}
    )
    wanted(values == {"name": "Ada", "age": 36, "languages": ["English", "French"]}, person)


def check_turns(text: str, asked: list[str]) -> None:
    """The engine got these questions as the user's turns, in this order."""
    turns = [turn for turn in json.loads(text)["messages"] if turn["role"] == "user"]
    wanted([turn["content"] for turn in turns] == asked, turns)


def check_recall(text: str) -> None:
    """The second answer was given in view of the first question and its answer."""
    check_turns(text, [REMEMBER, RECALL])
    wanted(any(turn["role"] == "assistant" for turn in json.loads(text)["messages"]), text)


def check_vectors(vectors: Any) -> None:
    """One for each of TEXTS: equal for equal texts, different for different ones."""
    first, second, third = (list(vector) for vector in vectors)
    wanted(first == third != second and len(first) == len(second) > 1, [first[:4], second[:4], third[:4]])


def batch_lines(model: str, route: str = "/v1/chat/completions") -> bytes:
    """The input of a batch of two chats."""
    lines = [
        {
            "custom_id": f"ask-{number}",
            "method": "POST",
            "url": route,
            "body": {"model": model, "messages": [{"role": "user", "content": f"question {number}"}]},
        }
        for number in (1, 2)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def check_batch_output(data: bytes) -> None:
    """Both answers, each to its own question."""
    lines = {line["custom_id"]: line["response"] for line in map(json.loads, data.splitlines())}
    wanted(set(lines) == {"ask-1", "ask-2"}, lines)
    for number in (1, 2):
        response = lines[f"ask-{number}"]
        wanted(response["status_code"] == 200, response)
        check_turns(response["body"]["choices"][0]["message"]["content"], [f"question {number}"])
