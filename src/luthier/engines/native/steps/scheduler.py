"""Which rows a step computes: a token of each answer in progress, and pieces of the prompts that wait.

A short prompt never waits for a long one to be read: every step has room for a piece of a prompt, the shortest rest
goes first, and one that has waited for long goes before. Answers in progress are in every step.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from luthier.core.errors import LuthierError
from luthier.engines.native.decoder.library import PAGE, Decoder, Draw, Segment
from luthier.engines.native.steps import page_cache
from luthier.engines.native.steps.pace import Pace, PieceTime
from luthier.engines.native.steps.page_cache import PageCache
from luthier.engines.native.steps.prompt_scoring import score_rows
from luthier.engines.native.steps.sequences import Sequence, Vocabulary

logger = logging.getLogger(__name__)

MIN_COPIED = 8
"""Tokens at the beginning of a page that are worth copying from another, or waiting a step for."""
PATIENCE_STEPS = 8
"""A prompt that got no room for so many steps goes first."""


FAULT_STATUS = 70
"""EX_SOFTWARE of sysexits.h: the exit status of an engine whose decoder failed."""


def end_process() -> None:
    """Ends the process: callers get an error at once, and the parent starts it anew."""
    os._exit(FAULT_STATUS)


class Scheduler:
    """Runs the decoder on a thread of its own. `submit`, `cancel` and `run_between_steps` are for all other threads."""

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: Vocabulary,
        max_sequences: int,
        adapter_of: Callable[[str | None], int] | None = None,
        on_fault: Callable[[], None] = end_process,
        pace: Pace | None = None,
    ) -> None:
        """`adapter_of` gives the decoder's number of a model's adapter, or raises LuthierError, between two steps.

        `on_fault` is called once a step has raised what no step may raise: the process must not go on without it.
        """
        self._decoder = decoder
        self._vocabulary = vocabulary
        self._max_sequences = max_sequences
        self._adapter_of = adapter_of
        self._on_fault = on_fault
        self._pace = pace or Pace()
        self._cache = PageCache(decoder.shape.n_pages)
        self._wake = threading.Condition()
        self._waiting: deque[Sequence] = deque()
        self._orders: deque[Callable[[], None]] = deque()
        self._is_ordering = False
        self._running: list[Sequence] = []
        self._logits = np.empty((max_sequences, decoder.row), np.float32)
        self._is_closing = False
        self._piece_time = PieceTime()
        self.on_step: Callable[[], None] = lambda: None
        """Called behind each step, when all that it gives out has been emitted."""
        self.n_steps = 0
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends the thread behind the step under way; sequences in progress get no further message."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join()

    def submit(self, sequence: Sequence) -> None:
        """Queues a sequence; the decoder's thread admits it before a later step, and calls its `emit`."""
        with self._wake:
            self._waiting.append(sequence)
            self._wake.notify()

    def cancel(self, call: int) -> None:
        """Marks a call's sequence, to be dropped without a message before the next step; an unknown call is ignored."""
        with self._wake:
            for sequence in (*self._waiting, *self._running):
                if sequence.call == call:
                    sequence.is_cancelled = True
            self._wake.notify()

    def run_between_steps(self, order: Callable[[], None]) -> None:
        """Calls `order` on the decoder's thread when no step is computed."""
        with self._wake:
            self._orders.append(order)
            self._wake.notify()

    def uses(self, model: str) -> bool:
        """Whether a sequence of the model is in progress; to be called between steps."""
        return any(sequence.model == model for sequence in (*self._waiting, *self._running))

    @property
    def is_busy(self) -> bool:
        """Whether anything is computed or waits; read from any thread, without the lock."""
        return bool(self._running or self._waiting or self._orders or self._is_ordering)

    def _run(self) -> None:
        """The thread: an error of a step is logged, and `on_fault` decides."""
        try:
            self._work()
        except Exception:
            logger.exception("a step failed")
            self._on_fault()

    def _work(self) -> None:
        """Until `close`: orders, cancelled sequences, admissions, a step. Sleeps while there is nothing to do."""
        while True:
            with self._wake:
                while not (self._orders or self._waiting or self._running or self._is_closing):
                    self._wake.wait()
                if self._is_closing:
                    return
                orders, self._orders = list(self._orders), deque()
                self._is_ordering = bool(orders)
            for order in orders:
                order()
            self._is_ordering = False
            self._drop_cancelled()
            self._admit()
            self._step()
            self.on_step()
            self.n_steps += 1

    def _drop_cancelled(self) -> None:
        """Forgets cancelled sequences and releases their pages."""
        with self._wake:
            self._waiting = deque(sequence for sequence in self._waiting if not sequence.is_cancelled)
        for sequence in [sequence for sequence in self._running if sequence.is_cancelled]:
            self._end(sequence)

    def _admit(self) -> None:
        """Moves waiting sequences to the running ones, in order, while there are pages for all their tokens."""
        while len(self._running) < self._max_sequences:
            with self._wake:
                if not self._waiting:
                    return
                sequence = self._waiting[0]
                sequence.root = page_cache.root_key(sequence.scope)
                sequence.keys = list(page_cache.keys_of(sequence.root, sequence.tokens[: sequence.n_prompt]))
                shared = self._cache.share(sequence.keys[: sequence.n_shareable // PAGE])
                n_new = sequence.n_pages_needed - len(shared)
                if n_new > self._cache.available:
                    self._cache.release(shared)
                    return
                self._waiting.popleft()
                sequence.pages = np.array([*shared, *self._cache.allocate(n_new)], np.int32)
                sequence.n_published = len(shared)
                sequence.n_computed = sequence.n_cached = len(shared) * PAGE
                self._running.append(sequence)
            self._resolve(sequence)

    def _resolve(self, sequence: Sequence) -> None:
        """Sets the adapter of an admitted sequence; one whose adapter was unloaded ends at once, with an error."""
        if self._adapter_of is None:
            return
        try:
            sequence.adapter = self._adapter_of(sequence.model)
        except LuthierError as error:
            sequence.emit({"error": error.code, "message": error.message})
            self._end(sequence)

    def _step(self) -> None:
        """Runs the decoder once on the chosen tokens, which fills the KV cache and gives logits, and reads those."""
        chosen = self._choose()
        if not chosen:
            return
        segments = []
        for sequence, n in chosen:
            begin = sequence.n_computed
            sequence.n_computed += n
            tokens, n_logits = sequence.tokens[begin : begin + n], sequence.n_logits(n)
            segments.append(Segment(begin, tokens, sequence.adapter, n_logits, sequence.pages))
        n_rows = sum(segment.n_logits for segment in segments)
        if n_rows > len(self._logits):
            self._logits = np.empty((n_rows, self._decoder.row), np.float32)
        began = time.perf_counter()
        self._decoder.step(segments, self._logits)
        self._pace.note(sum(len(segment.tokens) for segment in segments), time.perf_counter() - began)
        self._read([sequence for sequence, _ in chosen], segments)

    def _choose(self) -> list[tuple[Sequence, int]]:
        """The sequences of the next step, each with its number of tokens; adopts pages, and counts `waited_steps`."""
        running = self._in_turn()
        decoding = [(sequence, 1) for sequence in running if not sequence.n_to_prefill]
        prefilling = [sequence for sequence in running if sequence.n_to_prefill]
        prefilling.sort(key=lambda sequence: (sequence.waited_steps < PATIENCE_STEPS, sequence.n_to_prefill))
        waiting = [*self._waiting]
        room = self._pace.rows_in(self._piece_time.seconds(len(decoding), prefilling, self._running, waiting))
        pieces: list[tuple[Sequence, int]] = []
        for sequence in prefilling:
            self._adopt(sequence)
            if any(other.computes_soon(n, sequence, MIN_COPIED) for other, n in pieces):
                continue  # it is taken over when it is there
            self._copy_beginning(sequence)
            n = min(sequence.n_to_prefill, room)
            room -= n
            sequence.waited_steps = 0 if n else sequence.waited_steps + 1
            if n:
                pieces.append((sequence, n))
        return decoding + pieces

    def _in_turn(self) -> list[Sequence]:
        """The running sequences that may be in the next step: those in the background rest while a caller waits for
        the first token of an answer.
        """
        foreground = [sequence for sequence in self._running if not sequence.is_background]
        return foreground if any(sequence.n_to_prefill for sequence in foreground) else self._running

    def _adopt(self, sequence: Sequence) -> None:
        """Replaces pages of its prompt by those that others computed since it was admitted; skips their tokens."""
        while sequence.n_computed % PAGE == 0:
            place, left = sequence.n_computed // PAGE, sequence.n_shareable - sequence.n_computed
            shared = self._cache.share([sequence.keys[place]]) if left >= PAGE else []
            if not shared:
                break
            self._cache.release([int(sequence.pages[place])])
            sequence.pages[place] = shared[0]
            sequence.n_published = place + 1
            sequence.n_computed += PAGE
            sequence.n_cached += PAGE

    def _copy_beginning(self, sequence: Sequence) -> None:
        """Where it is at the beginning of a page, copies what another page has of it; skips those tokens."""
        place, rest = divmod(sequence.n_computed, PAGE)
        tokens = sequence.tokens[sequence.n_computed : min(sequence.n_shareable, (place + 1) * PAGE)]
        if rest or len(tokens) < MIN_COPIED:
            return
        page, n = self._cache.find_beginning(sequence.parent_key(place), tokens)
        if n >= MIN_COPIED and page != sequence.pages[place]:
            self._decoder.copy_page(page, int(sequence.pages[place]))
            sequence.n_computed += n
            sequence.n_cached += n

    def _read(self, sequences: list[Sequence], segments: list[Segment]) -> None:
        """Draws tokens from the logits of a step, emits text or scores, and ends the sequences that are complete."""
        row = 0
        drawing: list[tuple[Sequence, Draw]] = []
        for sequence, segment in zip(sequences, segments, strict=True):
            self._publish(sequence)
            logits = self._logits[row : row + segment.n_logits]
            row += segment.n_logits
            if not segment.n_logits:
                sequence.emit({"progress": sequence.n_computed})
                continue
            if sequence.sampler is None:
                score_rows(self._decoder, sequence, segment, logits, self._vocabulary)
                if not sequence.n_to_prefill and not sequence.is_cancelled:
                    self._end(sequence)
            else:
                drawing.append((sequence, sequence.sampler.draw(logits[0])))
        draws = self._decoder.draw([draw for _, draw in drawing])
        for (sequence, _), draw in zip(drawing, draws, strict=True):
            assert sequence.sampler is not None
            if sequence.take(sequence.sampler.take(draw), self._vocabulary):
                self._end(sequence)

    def _publish(self, sequence: Sequence) -> None:
        """Lets others share what is computed of the prompt: whole pages, and the beginning of the next."""
        if sequence.is_published:
            return
        while sequence.n_published < len(sequence.keys):
            place = sequence.n_published
            tokens = sequence.tokens[place * PAGE : min(sequence.n_computed, (place + 1) * PAGE)]
            if len(tokens) < PAGE:
                break
            self._cache.note_content(int(sequence.pages[place]), sequence.parent_key(place), tokens)
            self._cache.publish(int(sequence.pages[place]), sequence.keys[place])
            sequence.n_published += 1
        place, end = sequence.n_published, min(sequence.n_computed, sequence.n_prompt)
        if (beginning := sequence.tokens[place * PAGE : end]).size:
            self._cache.note_content(int(sequence.pages[place]), sequence.parent_key(place), beginning)
        sequence.is_published = end == sequence.n_prompt

    def _end(self, sequence: Sequence) -> None:
        """Takes a sequence out of the running ones and releases its pages; emits nothing."""
        self._running.remove(sequence)
        self._cache.release(sequence.pages.tolist(), is_next_evicted=sequence.is_background)
