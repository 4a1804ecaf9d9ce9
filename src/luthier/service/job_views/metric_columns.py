"""The metrics of a job as columns of numbers, parsed from the text of its events: 8 bytes a value, NaN for none."""

import json
import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Self

import msgspec

from luthier.store.queries.events import MetricsRow

FIGURES = (
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
    "learning_rate",
    "gradient_norm",
)
"""The series that every job has, in the order in which they are shown."""
REWARDS = tuple(
    f"{part}_reward_{name}"
    for part in ("train", "valid", "full_valid")
    for name in ("accuracy", "margin", "chosen", "rejected")
)
"""The series of jobs that learn preferences."""
SERIES = (*FIGURES, *REWARDS)
_TOKENS = "trained_tokens"
_VALUES = (*SERIES, _TOKENS)
_WITHOUT_REWARDS = (*FIGURES, _TOKENS)
_Data: Any = msgspec.defstruct("_Data", [("step", int), *((name, float, math.nan) for name in _VALUES)], gc=False)
"""The data of one event. Other keys are not read."""
_DECODER = msgspec.json.Decoder(list[_Data])
_GETTERS = {name: attrgetter(name) for name in _VALUES}


class Columns:
    """The rows of one job's steps, oldest first. Not safe to extend and read at once: see `metrics_cache`."""

    def __init__(self) -> None:
        self.step = array("q")
        self.at = array("d")
        """Unix seconds."""
        self.values: dict[str, array[float]] = {}
        """By series, only those with any value; `tokens` apart."""
        self.last_seq = 0
        """The number of the newest event that is in here."""

    def __len__(self) -> int:
        return len(self.step)

    @property
    def bytes(self) -> int:
        """What the numbers occupy, with what the arrays have allocated ahead."""
        return 9 * len(self.step) * (2 + len(self.values)) + 1024

    @property
    def tokens(self) -> Sequence[float]:
        """The tokens trained on up to each step; NaN where an older version did not tell it."""
        return self.values.get(_TOKENS) or array("d", [math.nan]) * len(self)

    def extend(self, rows: Sequence[MetricsRow]) -> None:
        """Appends the rows of events; their steps and numbers are greater than those before."""
        if not rows:
            return
        text = f"[{','.join([data for _, _, data in rows])}]"
        parsed, before = _parsed(text), len(self.step)
        self.step.extend([row.step for row in parsed])
        self.at.extend([at / 1e6 for _, at, _ in rows])
        for name in _VALUES if "_reward_" in text else _WITHOUT_REWARDS:
            if name not in self.values and f'"{name}"' in text:
                self.values[name] = array("d", [math.nan]) * before
        for name, column in self.values.items():
            column.fromlist(list(map(_GETTERS[name], parsed)))
        self.last_seq = rows[-1][0]

    def part(self, from_step: int | None, to_step: int | None) -> Self:
        """A copy of the rows from one step to another, both included; None: from the first, to the last."""
        start = 0 if from_step is None else bisect_left(self.step, from_step)
        stop = len(self) if to_step is None else bisect_right(self.step, to_step)
        copy = type(self)()
        copy.step, copy.at = self.step[start:stop], self.at[start:stop]
        copy.values = {name: column[start:stop] for name, column in self.values.items()}
        copy.last_seq = self.last_seq
        return copy

    def pick(self, indexes: Iterable[int]) -> Self:
        """A copy of the rows with these indexes, in their order."""
        chosen = list(indexes)
        copy = type(self)()
        copy.step = array("q", [self.step[index] for index in chosen])
        copy.at = array("d", [self.at[index] for index in chosen])
        copy.values = {name: array("d", [column[index] for index in chosen]) for name, column in self.values.items()}
        copy.last_seq = self.last_seq
        return copy


def _parsed(text: str) -> Sequence[Any]:
    """The data of events, of which `text` is a JSON array. One decoder call for all takes a third of one for each."""
    try:
        return _DECODER.decode(text)
    except msgspec.DecodeError:  # NaN, which a JSON column may hold, and msgspec refuses; or null
        return [_Data(**_readable(data)) for data in json.loads(text)]


def _readable(data: dict[str, Any]) -> dict[str, Any]:
    """The known values of an event's data; NaN for what is no finite number."""
    known: dict[str, Any] = {"step": int(data.get("step", 0))}
    for name in _VALUES:
        value = data.get(name)
        known[name] = value if isinstance(value, int | float) and math.isfinite(value) else math.nan
    return known
