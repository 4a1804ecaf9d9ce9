"""TensorBoard: an event file for each job, in a folder of its own, which `tensorboard --logdir` shows as a run."""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from luthier.atomic_io import fsync_path
from luthier.core.errors import Unavailable
from luthier.core.states import SinkName
from luthier.core.training.tracking import Delivery, TrackedEnd, TrackedPoint, TrackedRun
from luthier.trackers import event_files

PARAMS, OUTCOME = "params", "outcome"
"""The tags of the two texts of a run."""


@dataclass(slots=True)
class _File:
    """What is in a job's file: its length in bytes, and the tags of each step; those of texts are at step 0."""

    size: int = 0
    tags: dict[int, set[str]] = field(default_factory=dict)

    def lacks(self, step: int, tag: str) -> bool:
        """Whether the tag is new at the step; notes it as there."""
        tags = self.tags.setdefault(step, set())
        is_new = tag not in tags
        tags.add(tag)
        return is_new


class TensorBoardSink:
    """Appends to `<folder>/<job id>/events.out.tfevents.<time>.luthier`, and has it on disk before it confirms."""

    def __init__(self, folder: Path) -> None:
        """Touches nothing."""
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> SinkName:
        """TensorBoard."""
        return SinkName.TENSORBOARD

    def deliver(self, run: TrackedRun, points: Sequence[TrackedPoint], end: TrackedEnd | None) -> Delivery:
        """Writes what the file lacks. Raises Unavailable if the disk does not take it."""
        path = self._path(run)
        with self._lock:
            known = self._files.pop(run.job_id, None)  # until it is certain what the file holds
        try:
            if known is None or not path.exists() or path.stat().st_size != known.size:
                known = _recovered(path)
            new = _missing(known, run, points, end)
            _append(path, new)
        except OSError as error:
            raise Unavailable("sink_disk", f"The event file cannot be written ({type(error).__name__}).") from error
        known.size += len(new)
        with self._lock:
            self._files[run.job_id] = known
        return Delivery(run.job_id, run.job_id, points[-1].seq if points else 0)

    def forget(self, job_id: str) -> None:
        """Drops what is known of the job's file; the file stays."""
        with self._lock:
            self._files.pop(job_id, None)

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, run: TrackedRun) -> Path:
        """The same at each call: a restart continues the file."""
        return self._folder / run.job_id / f"events.out.tfevents.{int(run.created_at.timestamp()):010d}.luthier"


def _recovered(path: Path) -> _File:
    """What a file holds; a record that a crash tore is cut off. An empty one for a file that is not there."""
    found = _File()
    if not path.exists():
        return found
    data = path.read_bytes()
    for payload, end in event_files.read_records(data):
        found.size = end
        step, tags = event_files.step_and_tags(payload)
        found.tags.setdefault(step, set()).update(tags)
    if found.size != len(data):
        os.truncate(path, found.size)
    return found


def _missing(file: _File, run: TrackedRun, points: Sequence[TrackedPoint], end: TrackedEnd | None) -> bytes:
    """The records that the file lacks, which are noted as there."""
    new = bytearray()
    if file.size == 0:
        new += event_files.version_record(run.created_at)
    if file.lacks(0, PARAMS):
        new += event_files.text_record(run.created_at, PARAMS, _table(run.params))
    for point in points:
        figures = {tag: value for tag, value in point.figures.items() if file.lacks(point.step, tag)}
        if figures:
            new += event_files.scalars_record(point.at, point.step, figures)
    if end is not None and file.lacks(0, OUTCOME):
        new += event_files.text_record(end.at, OUTCOME, _table({"status": str(end.status), **end.params}))
    return bytes(new)


def _append(path: Path, data: bytes) -> None:
    """Appends and waits for the disk."""
    if not data:
        return
    is_new = not path.exists()
    if is_new:
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        fsync_path(path.parent)


def _table(values: Mapping[str, str]) -> str:
    """Names and values as a table of Markdown."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in values.items())])
