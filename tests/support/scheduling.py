"""A scheduler with a tiny decoder, and the calls on it: what each is told, and behind how many steps."""

import itertools
import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import llguidance
import numpy as np

import tiny_decoders
from luthier.engines.native.decoder.library import NO_ADAPTER, Decoder
from luthier.engines.native.steps import sequences
from luthier.engines.native.steps.answer_text import AnswerText
from luthier.engines.native.steps.pace import Pace
from luthier.engines.native.steps.sampling import Sampler, SamplingParameters
from luthier.engines.native.steps.scheduler import Scheduler
from luthier.engines.native.steps.sequences import Vocabulary

Message = dict[str, Any]
TIMEOUT_S = 30.0
END_ID = 2
VOCABULARY = Vocabulary(
    [f"<{id}>".encode() for id in range(tiny_decoders.VOCABULARY)], frozenset({END_ID}), frozenset({1})
)
"""Of a text in it the tokens can be read."""
_NO_GRAMMAR = llguidance.LLTokenizer("byte")


@dataclass
class Call:
    """A sequence that was submitted, and the messages about it with the number of steps before each."""

    number: int
    at_step: int
    received: list[tuple[int, Message]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    heard: "queue.Queue[Message]" = field(default_factory=queue.Queue)
    on_message: Callable[[Message], None] = lambda message: None

    def wait(self) -> "Call":
        assert self.done.wait(TIMEOUT_S), "the call does not end"
        return self

    @property
    def messages(self) -> list[Message]:
        return [message for _, message in self.received]

    @property
    def text(self) -> str:
        return "".join(message.get("text", "") for message in self.messages)

    @property
    def tokens(self) -> list[int]:
        return [int(id) for id in re.findall(r"<(\d+)>", self.text)]

    @property
    def usage(self) -> list[int]:
        """Tokens of the prompt, of the answer, and of the prompt those that were not computed."""
        found: list[int] = self.messages[-1]["usage"]
        return found

    @property
    def n_steps_to_first_token(self) -> int:
        return next(step for step, message in self.received if "text" in message) - self.at_step


class EvenPace(Pace):
    """Pieces of one size, whatever they take, so that steps can be counted."""

    def rows_in(self, seconds: float) -> int:
        return 32


class Desk:
    """A scheduler that may be started after calls have come."""

    def __init__(self, decoder: Decoder, max_sequences: int = 8, pace: Pace | None = None) -> None:
        self.scheduler = Scheduler(decoder, VOCABULARY, max_sequences, pace=pace or EvenPace())
        self._numbers = itertools.count(1)
        self._is_started = False

    def start(self) -> "Desk":
        self.scheduler.start()
        self._is_started = True
        return self

    def close(self) -> None:
        if not self._is_started:
            self.start()
        self.scheduler.close()

    def ask(
        self,
        prompt: Sequence[int],
        adapter: int = NO_ADAPTER,
        scope: str = "",
        on_message: Callable[[Message], None] = lambda message: None,
        is_background: bool = False,
        **parameters: Any,
    ) -> Call:
        """Submits a prompt; greedy and to the token limit unless told otherwise."""
        asked = SamplingParameters(
            **{"max_tokens": 8, "temperature": 0.0, "logit_bias": {END_ID: -100.0}, **parameters}
        )
        call = Call(next(self._numbers), self.scheduler.n_steps, on_message=on_message)
        sequence = self._sequence(call, prompt, adapter, scope, asked.max_tokens)
        sequence.parameters, sequence.is_background = asked, is_background
        sequence.sampler = Sampler(asked, _NO_GRAMMAR, tiny_decoders.VOCABULARY, VOCABULARY.end_ids)
        sequence.text = AnswerText(asked.stops)
        self.scheduler.submit(sequence)
        return call

    def score(
        self, prompt: Sequence[int], top: int, adapter: int = NO_ADAPTER, scope: str = "", rows: int | None = None
    ) -> Call:
        """Asks for the log-probabilities of a prompt's own tokens, or of those behind its last `rows` alone."""
        call = Call(next(self._numbers), self.scheduler.n_steps)
        sequence = self._sequence(call, prompt, adapter, scope, 0)
        sequence.n_scored, sequence.n_scored_rows = top, len(prompt) if rows is None else rows
        self.scheduler.submit(sequence)
        return call

    def run(self, prompt: Sequence[int], adapter: int = NO_ADAPTER, **parameters: Any) -> Call:
        """One answer, to its end."""
        return self.ask(prompt, adapter, **parameters).wait()

    def _sequence(self, call: Call, prompt: Sequence[int], adapter: int, scope: str, n_more: int) -> sequences.Sequence:
        def emit(message: Message) -> None:
            call.received.append((self.scheduler.n_steps, message))
            call.heard.put(message)
            call.on_message(message)
            if "finish" in message or "error" in message or message.get("is_last"):
                call.done.set()

        n = len(prompt)
        tokens = np.array([*prompt, *[0] * n_more], np.int32)
        name = f"{scope} {adapter}"
        return sequences.Sequence(call.number, emit, tokens, n, adapter, name, name, None, None, n_tokens=n)
