"""Paths of one run, the names that service and trainer share, and the event log's lines.

`docs/run-directory.md` says who writes each file.
"""

import fcntl
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from luthier.atomic_io import append_line, fsync_path, write_durably
from luthier.core.errors import Conflict
from luthier.run_directory.run_events import RUN_EVENTS, RunEvent
from luthier.run_directory.train_spec import TrainSpec

EXIT_USAGE = 64
EXIT_DAMAGED = 65
"""The event log holds a line that is no event."""
EXIT_DISK_FULL = 74
"""The disk is so full that not even the verdict could be written."""
EXIT_LOCKED = 75
"""Another trainer has the run, or the run directory was taken away."""
EXIT_RANK_LOST = 76
"""Another rank of the run is gone or does not answer; the next attempt resumes from the saved step."""

RESULTS_FILE = "results.csv"
"""The name of the file of a run's figures, in the run directory and as a result file of the job."""

RESULT_COLUMNS = (
    "step",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "validation_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)
"""The guide's seven columns, in its order (wire-contract.md section 10)."""

REWARD_COLUMNS = tuple(
    f"{part}_reward_{figure}"
    for part in ("train", "valid", "full_valid")
    for figure in ("accuracy", "margin", "chosen", "rejected")
)
"""Columns of a run that learns preferences, behind the seven."""

DEVICE_VARIABLE = "LUTHIER_TRAIN_DEVICE"
"""The environment variable by which an executor names the trainer's device: auto, cpu or cuda. No part of the spec:
it belongs to the machine, and a run may go on elsewhere."""


class RunDirectory:
    """Paths of one run, and its event log: appended by the trainer only, read by the service from an offset.

    Making one reads and creates nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    # Properties: a supervisor makes one at each look at each run, and needs a path or two of it.
    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def training(self) -> Path:
        return self.path / "train.jsonl"

    @property
    def validation(self) -> Path:
        return self.path / "valid.jsonl"

    @property
    def parent(self) -> Path:
        return self.path / "parent"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def results(self) -> Path:
        return self.path / RESULTS_FILE

    @property
    def example_losses(self) -> Path:
        return self.path / "example_losses.csv"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def resume(self) -> Path:
        return self.path / "resume"

    @property
    def tokens(self) -> Path:
        return self.path / "tokens"

    @property
    def log(self) -> Path:
        return self.path / "trainer.log"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def pause(self) -> Path:
        return self.path / "pause"

    @property
    def under_way(self) -> Path:
        return self.path / "under_way"

    def write_spec(self, spec: TrainSpec) -> None:
        """Writes the spec atomically, as the last file: a directory with a spec is ready to run."""
        write_durably(self.spec, spec.model_dump_json(indent=2).encode())

    def read_spec(self) -> TrainSpec:
        """The run's spec. Raises OSError if it is missing, pydantic's ValidationError if it is not valid."""
        return TrainSpec.model_validate_json(self.spec.read_bytes())

    def is_locked(self) -> bool:
        """Whether a trainer process holds this run's lock, which is tried for a moment; False without a lock file."""
        if not self.lock.exists():
            return False
        with self.lock.open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def append(self, event: RunEvent) -> None:
        """Appends one line and waits until it is on disk. Raises NoSpace and OSError, and then the log is as before."""
        first = not self.events.exists()
        append_line(self.events, event.model_dump_json(exclude_none=True).encode() + b"\n", durable=True)
        if first:
            fsync_path(self.path)

    def tail(self, offset: int = 0) -> Iterator[tuple[RunEvent, int]]:
        """Yields each complete event after `offset` bytes with the offset after it; a torn last line is not read.

        Nothing if there is no log yet. Raises Conflict at a complete line that is not an event: no crash leaves one.
        """
        if not self.events.exists():
            return
        with self.events.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                try:
                    event = RUN_EVENTS.validate_json(line)
                except ValidationError as error:
                    text = f"The event log of this run is damaged at byte {offset}. Make a new job; check the disk."
                    raise Conflict("event_log_damaged", text) from error
                offset += len(line)
                yield event, offset

    def repair(self) -> None:
        """Removes what a crash during a write leaves: temporary files, a torn last line of the events.

        Only for the trainer that holds the lock, before it reads anything.
        """
        for leftover in (*self.path.glob(".*.tmp"), *self.resume.glob(".*.tmp")):
            leftover.unlink()
        if not self.events.exists():
            return
        with self.events.open("r+b") as stream:
            data = stream.read()
            stream.truncate(data.rfind(b"\n") + 1)
