"""W&B and trackio: a process with the tracker's own library for each job that is being sent (`library_runner.py`).

The libraries keep what they are given in memory for a while, so a delivery confirms nothing before the run's end. A run
that was broken off is sent from its first event to the next process.
"""

import json
import os
import signal
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.core.errors import LuthierError, Unavailable, Unsupported, UpstreamFailed
from luthier.core.states import SinkName
from luthier.core.training.tracking import Delivery, TrackedEnd, TrackedPoint, TrackedRun
from luthier.process import child_environment

RUNNER = Path(__file__).with_name("library_runner.py")
MAX_PROCESSES = 4
FINISH_TIMES = 8
"""How much longer than another call the end of a run may take: what was logged is uploaded then."""


@dataclass(frozen=True, slots=True)
class Library:
    """Which library, by which interpreter, and where its runs go; `mode`, `key` and `url` are W&B's."""

    kind: SinkName
    python: str
    folder: Path
    project: str
    mode: str = "offline"
    key: str = field(default="", repr=False)
    url: str | None = None


@dataclass(slots=True)
class _Child:
    """A process with one run. `sent` is the number of the last event that it was given."""

    process: "subprocess.Popen[bytes]"
    place: str = ""
    sent: int = 0


class LibrarySink:
    """At most MAX_PROCESSES at once: beyond them the one that was used longest ago ends, and its job begins again."""

    def __init__(self, library: Library, timeout_s: float) -> None:
        """Starts nothing. `timeout_s` is for one call; a process that takes longer is killed."""
        self._library = library
        self._timeout_s = timeout_s
        self._children: OrderedDict[str, _Child] = OrderedDict()
        self._broken_off: set[str] = set()
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def name(self) -> SinkName:
        """The tracker of the library."""
        return self._library.kind

    def deliver(self, run: TrackedRun, points: Sequence[TrackedPoint], end: TrackedEnd | None) -> Delivery:
        """Gives the points to the job's process. Raises Unavailable where that has to begin again."""
        child = self._child(run)
        new = [point for point in points if point.seq > child.sent]
        if new:
            lines = [{"step": p.step, "at": p.at.timestamp(), "figures": dict(p.figures)} for p in new]
            self._ask(run.job_id, child, {"do": "log", "points": lines})
            child.sent = new[-1].seq
        if end is None:
            return Delivery(run.job_id, child.place, 0)
        params = dict(end.params)
        finish = {"do": "finish", "status": str(end.status), "params": params}
        answer = self._ask(run.job_id, child, finish, FINISH_TIMES)
        self._end(run.job_id)
        if answer["missing"]:
            text = f"{self.name} does not have {answer['missing']} of the figures that it was given."
            raise Unavailable("sink_incomplete", text)
        return Delivery(run.job_id, child.place, max(child.sent, 0))

    def forget(self, job_id: str) -> None:
        """Ends the job's process."""
        self._end(job_id)
        with self._lock:
            self._broken_off.discard(job_id)

    def close(self) -> None:
        """Ends all processes; no further one starts."""
        with self._lock:
            self._is_closed = True
            jobs = list(self._children)
        for job_id in jobs:
            self._end(job_id)

    def _child(self, run: TrackedRun) -> _Child:
        """The job's process, started if it has none. Raises Unavailable if the one that it had is gone."""
        with self._lock:
            child = self._children.get(run.job_id)
            is_broken_off = run.job_id in self._broken_off
            self._broken_off.discard(run.job_id)
            if child is not None:
                self._children.move_to_end(run.job_id)
        if child is not None and child.process.poll() is not None:
            self._end(run.job_id)
            is_broken_off = True
        if is_broken_off:
            raise Unavailable("sink_restarted", f"The process that writes for {self.name} begins again.")
        return child or self._start(run)

    def _start(self, run: TrackedRun) -> _Child:
        """A new process with the run open."""
        library = self._library
        environment = child_environment.to_compute(os.environ)
        command = [library.python, "-I", str(RUNNER)]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # the libraries start processes of their own, which end with it
            )
        except OSError as error:
            text = f"{library.python} cannot be started ({type(error).__name__}): LUTHIER_TRACKER_PYTHON names it."
            raise UpstreamFailed("sink_python", text) from error
        child = _Child(process)
        with self._lock:
            self._children[run.job_id] = child
            oldest = next(iter(self._children)) if len(self._children) > MAX_PROCESSES else None
            is_closed = self._is_closed
        if oldest is not None:
            self._end(oldest)
            with self._lock:
                self._broken_off.add(oldest)
        if is_closed:
            self._end(run.job_id)
        opening: dict[str, Any] = {
            "do": "open",
            "kind": str(library.kind),
            "folder": str(library.folder),
            "mode": library.mode,
        }
        opening |= {"key": library.key, "url": library.url, "run": self._described(run)}
        child.place = str(self._ask(run.job_id, child, opening, 2)["place"])
        return child

    def _described(self, run: TrackedRun) -> dict[str, Any]:
        """The run as the process gets it."""
        return {
            "job_id": run.job_id,
            "project": run.project or self._library.project,
            "name": run.name,
            "entity": run.entity,
            "tags": run.all_tags,
            "params": dict(run.params),
        }

    def _ask(self, job_id: str, child: _Child, message: Mapping[str, Any], times: int = 1) -> dict[str, Any]:
        """The process's answer. It is killed where it takes too long, and after an error of the library."""
        late = threading.Timer(self._timeout_s * times, _kill, [child.process])
        late.start()
        try:
            assert child.process.stdin is not None
            assert child.process.stdout is not None
            child.process.stdin.write(json.dumps(message).encode() + b"\n")
            child.process.stdin.flush()
            line = child.process.stdout.readline()
        except (OSError, ValueError):  # ValueError: closed meanwhile
            line = b""
        finally:
            late.cancel()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            self._end(job_id)
            text = f"The process that writes for {self.name} died, or took more than {self._timeout_s * times:g} s."
            raise Unavailable("sink_timeout", text) from None
        if "error" in answer:
            self._end(job_id)
            raise self._error(answer)
        return answer

    def _error(self, answer: Mapping[str, Any]) -> LuthierError:
        """The error for an answer that names one."""
        if answer["error"] == "library_missing":
            text = f"{self.name} is not installed for {Path(self._library.python).name}: LUTHIER_TRACKER_PYTHON."
            return Unsupported("sink_library_missing", text)
        text = f"{self.name}'s library raised {answer['error']}."
        return UpstreamFailed("sink_refused", text) if answer["is_final"] else Unavailable("sink_failed", text)

    def _end(self, job_id: str) -> None:
        """Kills the job's process, if it has one."""
        with self._lock:
            child = self._children.pop(job_id, None)
        if child is not None:
            _kill(child.process)
            child.process.wait()
            for pipe in (child.process.stdin, child.process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kills a process and those that it started; one that has ended is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
