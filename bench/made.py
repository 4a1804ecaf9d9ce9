"""Made rows, the same on every machine: long ones of several turns, and short ones behind one long system prompt."""

import random
from typing import Any

_THINGS = ("bolts", "lamps", "ropes", "tiles", "hinges", "valves", "brushes", "crates", "clamps", "candles")
_PLACES = ("the mill", "the north shed", "dock four", "the old chapel", "the tower", "the yard", "the paint shop")
_STATES = ("dry", "worn", "new", "sealed", "dusty", "broken", "counted twice", "not yet counted", "painted red")
_PEOPLE = ("Ada", "Bruno", "Chiara", "Dimitri", "Elif", "Farah", "Goran", "Hana")

LONG_ROWS = 24
LONG_SENTENCES = (45, 160)
"""Facts in a long row: 1,000 to 3,500 tokens."""

SHARED_ROWS = 64
SHARED_RULES = 17
"""Rules in the shared system prompt: about 350 tokens."""


def long_rows(seed: int = 0) -> list[dict[str, Any]]:
    """Chats about a stock list that grows with each turn; every answer sums up what the turn named."""
    rows = []
    for number in range(LONG_ROWS):
        chance = random.Random(f"long {seed} {number}")
        left = chance.randint(*LONG_SENTENCES)
        messages = [_message("system", "You keep the stock book. Answer each report with a short summary.")]
        while left > 0:
            facts = [_fact(chance) for _ in range(min(left, chance.randint(8, 30)))]
            left -= len(facts)
            total = sum(count for _, count in facts)
            messages.append(_message("user", " ".join(sentence for sentence, _ in facts) + " What did I report?"))
            some = " ".join(sentence for sentence, _ in facts[: len(facts) // 3])
            messages.append(_message("assistant", f"{len(facts)} entries, {total} pieces in all. {some}"))
        rows.append({"messages": messages})
    return rows


def shared_rows(seed: int = 0) -> list[dict[str, Any]]:
    """Short questions and answers behind one system prompt that all rows share."""
    chance = random.Random(f"shared {seed}")
    rules = " ".join(f"Rule {number}: {_rule(chance)}" for number in range(1, SHARED_RULES + 1))
    rows = []
    for _ in range(SHARED_ROWS):
        sentence, count = _fact(chance)
        person = chance.choice(_PEOPLE)
        messages = [
            _message("system", f"You are the clerk of a storehouse and answer in one sentence. {rules}"),
            _message("user", f"{sentence} {person} takes {count // 2} of them. How many are left?"),
            _message("assistant", f"{count - count // 2} are left after {person} took {count // 2}."),
        ]
        rows.append({"messages": messages})
    return rows


def _fact(chance: random.Random) -> tuple[str, int]:
    count = chance.randint(3, 480)
    thing, place, state = chance.choice(_THINGS), chance.choice(_PLACES), chance.choice(_STATES)
    return f"In {place} there are {count} {thing}, {state}.", count


def _rule(chance: random.Random) -> str:
    who, thing, place = chance.choice(_PEOPLE), chance.choice(_THINGS), chance.choice(_PLACES)
    return f"{who} signs for all {thing} that leave {place} before {chance.randint(6, 20)} o'clock."


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
