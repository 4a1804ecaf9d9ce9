"""How many tokens of prompts one step may compute, so that answers in progress do not wait long for their next."""

import time
from collections import abc

from luthier.engines.native.steps.sequences import Sequence

PIECE_S = 0.025
"""What the pieces of prompts in one step may take: so much longer do answers in progress wait for their next token."""
LONE_PIECE_S = 0.05
"""The same for one prompt alone, where nothing is being answered: a new request waits for so long."""
LONE_AFTER_S = 2.0
"""Who has been alone for so long counts as alone: where others asked just now, they will ask again."""
BACKGROUND_PIECE_S = 0.01
"""The same where only prompts in the background are read beside callers, or LIVE_AFTER_S behind the last of them: a
caller's first token waits for the end of that step."""
LIVE_AFTER_S = 10.0
PROBES_PIECE_S = 0.1
"""The same where only probes are computed: a model that is being deployed, and nobody who waits for an answer."""
MIN_PIECE, MAX_PIECE = 16, 128
"""Tokens of prompts in one step, whatever they take: below, weights are read for too few rows."""


class Pace:
    """How long a row (a token in a step) takes, by the latest steps: it grows with model and positions before it."""

    def __init__(self) -> None:
        self._row_s = 0.002

    def rows_in(self, seconds: float) -> int:
        """How many tokens of prompts a step may compute in so many seconds, from MIN_PIECE to MAX_PIECE."""
        return max(MIN_PIECE, min(MAX_PIECE, int(seconds / self._row_s)))

    def note(self, n_rows: int, seconds: float) -> None:
        """Learns from a step; one of a few rows says nothing: it takes what reading the weights takes."""
        if n_rows >= MIN_PIECE // 2:
            self._row_s += (max(seconds / n_rows, 1e-6) - self._row_s) / 2


class PieceTime:
    """How long the pieces of prompts in the next step may take: longer where fewer wait for its end."""

    def __init__(self) -> None:
        self._shared_at = self._live_at = -LIVE_AFTER_S

    def seconds(
        self,
        n_decoding: int,
        prefilling: abc.Sequence[Sequence],
        running: abc.Sequence[Sequence],
        waiting: abc.Sequence[Sequence],
    ) -> float:
        """The seconds for the pieces of `prefilling`, beside so many answers; all `running` and `waiting` are looked
        at, to know who waits, or has just waited.
        """
        if all(sequence.parameters is None for sequence in (*running, *waiting)):
            return PROBES_PIECE_S
        now = time.monotonic()
        if n_decoding or waiting or len(prefilling) > 1:
            self._shared_at = now
        if not all(sequence.is_background for sequence in running):
            self._live_at = now
        is_background = bool(prefilling) and all(sequence.is_background for sequence in prefilling)
        if is_background and now - self._live_at < LIVE_AFTER_S:
            return BACKGROUND_PIECE_S
        return LONE_PIECE_S if now - self._shared_at > LONE_AFTER_S else PIECE_S
