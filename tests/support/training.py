"""Runs in the tests' process: to the end, or to a crash at an event; and rows that a run learns by heart."""

import json
import random
from typing import Any

from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import RunEvent, Succeeded
from luthier.trainer import loop
from luthier.trainer.run.event_log import EventLog

WORDS = (
    "letter",
    "ocean",
    "pond",
    "sarcastic",
    "question",
    "answer",
    "apples",
    "boxes",
    "story",
    "one",
    "two",
    "three",
)


def apples(numbers: range) -> bytes:
    """Rows that are alike: whoever has learned some of them knows the others."""
    turns = [(f"How many are {n}?", f"There are {n} apples.") for n in numbers]
    rows = [[{"role": "user", "content": asked}, {"role": "assistant", "content": told}] for asked, told in turns]
    return "\n".join(json.dumps({"messages": messages}) for messages in rows).encode()


def noise(n_rows: int, seed: int) -> bytes:
    """Rows whose answers follow from nothing."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n_rows):
        asked, told = (" ".join(draw.choices(WORDS, k=4)) for _ in range(2))
        turns = ({"role": "user", "content": asked}, {"role": "assistant", "content": told})
        rows.append(json.dumps({"messages": turns}))
    return ("\n".join(rows) + "\n").encode()


OVERFIT = {"rows": apples(range(20)), "valid": noise(12, 2), "n_epochs": 8, "batch_size": 4}
"""Validation rows that are nothing like the training rows: learning these makes those less likely."""


def train(run: RunDirectory) -> Succeeded:
    """The run to its end, with its verdict written as main does."""
    event_log = EventLog(run)
    verdict = loop.train(run, run.read_spec(), event_log, lambda: False)
    assert verdict is not None
    event_log.write(verdict)
    return verdict


class Crash(Exception):
    """Stands for the end of the process."""


class CrashingEventLog(EventLog):
    """Ends the process just before or just after an event of this kind and step is on disk."""

    def __init__(self, run: RunDirectory, kind: str, step: int | None, written: bool) -> None:
        super().__init__(run)
        self.place = (kind, step)
        self.written = written

    def write(self, event: RunEvent) -> None:
        here = self.place == (event.kind, event.model_dump().get("step"))
        if here and not self.written:
            raise Crash
        super().write(event)
        if here:
            raise Crash


def shown(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what differs between any two runs: the clock and the memory."""
    return {key: value for key, value in event.items() if key not in ("at", "seconds", "peak_memory_bytes")}
