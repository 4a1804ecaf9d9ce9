"""The process that tries grammars (`worker`), as its parent sees it: started when needed, asked, killed when too slow.

`grammar_checker.GrammarChecker` has one.
"""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.process import child_environment

START_S = 30.0
ANSWER_S = 10.0
"""On a busy machine the half second of processor time that a grammar has may take this long."""
_FIRST = b'["%llguidance {}\\nstart: /a/\\n"]\n'
"""A grammar whose verdict shows that a process is ready."""


class NoVerdict(Exception):
    """There is no verdict: the process did not answer in time, could not be started, or was ended by `close`.

    The grammar may be good or bad.
    """


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a trial: `fault` is None, "unknown" for an invalid grammar, or "complex" for a costly one.

    `cpu_s` is the processor time in seconds that building the answer's grammar took, 0 for one that ended the process.
    """

    fault: str | None
    cpu_s: float = 0.0


class TrialProcess:
    """The child process of one parent thread, or none just now. Other threads may only `interrupt` and ask `pids`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._interrupted = False

    def pids(self) -> list[int]:
        """The id of the process, or [] while there is none."""
        process = self._process
        return [] if process is None else [process.pid]

    def start(self) -> None:
        """Starts the process if none runs, and waits until it answers, up to START_S seconds.

        Does not raise: one that does not start, or not answer, is ended, and started again when it is asked. Does
        nothing once interrupted.
        """
        if self._process is not None and self._process.poll() is not None:
            self.end()  # something else ended it: no verdict on any grammar
        if self._process is not None or self._interrupted:
            return
        try:
            self._process = _spawn()
            ready = bool(_exchange(self._process, _FIRST, START_S))
        except OSError:
            ready = False
        if not ready:
            self.end()

    def ask(self, grammars: Sequence[str]) -> Verdict:
        """The verdict on an answer's grammar and its parts, within ANSWER_S seconds.

        Raises NoVerdict; the next call starts anew. A process that ends over a grammar, and was not interrupted, found
        it too complex: its memory and its processor time are limited.
        """
        self.start()
        if self._process is None:
            raise NoVerdict
        try:
            line = _exchange(self._process, json.dumps(grammars).encode() + b"\n", ANSWER_S)
        except OSError as error:
            self.end()
            raise NoVerdict from error
        if not line:
            self.end()
            if line is None or self._interrupted:
                raise NoVerdict
            return Verdict("complex")
        return Verdict(**json.loads(line))

    def interrupt(self) -> None:
        """Kills the process from another thread, for good, without waiting; `ask` raises NoVerdict from then on."""
        self._interrupted = True
        process = self._process
        if process is not None:
            process.kill()

    def end(self) -> None:
        """Kills the process, if there is one, waits until it is gone, and closes its pipes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            # What a broken pipe still holds is of no use.
            for pipe in (self._process.stdin, self._process.stdout):
                pipe.close()
            self._process = None


def _spawn() -> "subprocess.Popen[bytes]":
    """Starts a worker process, without waiting for it. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-m", "luthier.grammars.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the library's messages quote grammars
        bufsize=0,
        start_new_session=True,
        env=child_environment.to_compute(os.environ),
    )


def _exchange(process: "subprocess.Popen[bytes]", line: bytes, timeout_s: float) -> bytes | None:
    """Writes a line to the process and reads one from it; waits up to `timeout_s` seconds for each piece.

    b"" if the process has ended, None if time is up. Raises OSError where its pipe is broken.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    view = memoryview(line)
    while view:
        view = view[process.stdin.write(view) :]
    answer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not answer.endswith(b"\n"):
            if not selector.select(timeout_s):
                return None
            piece = process.stdout.read(4096)
            if not piece:
                return b""
            answer += piece
    return answer
