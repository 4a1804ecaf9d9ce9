"""The run directory on the supervisor's machine: derived from what attempts have shipped, and rebuilt if it is lost.

The event log's length is all the state there is: the next chunk is the one that begins at this byte. So every call can
be repeated after a crash at any point. Files come before the events that name them, and are deleted a call after the
event that drops them: the service has absorbed it by then.
"""

import hashlib
import logging
import os
import shutil

from luthier import manifest
from luthier.atomic_io import append_line, fsync_path
from luthier.core.errors import Conflict
from luthier.model_folder import CheckpointFolder
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.shipped_run import EventChunk, Request, ShippedFile, ShippedRun, StartManifest

logger = logging.getLogger(__name__)

_INPUTS = ("spec.json", "train.jsonl", "valid.jsonl")


class Mirror:
    """One job's directory and its folder in the store; for one thread."""

    def __init__(self, run: RunDirectory, shipped: ShippedRun) -> None:
        self._run = run
        self._shipped = shipped
        self._attempt = 0
        """The attempt whose manifest and outputs are known; 0 for none yet."""
        self._start: StartManifest | None = None
        self._outputs: dict[str, ShippedFile] = {}
        """The output files of the mirror's last event, by path."""

    def follow(self, attempt: int) -> None:
        """Brings the directory up to what the attempt has shipped; does nothing for one that was not opened.

        Reads no other attempt's objects but files that its manifest names. Raises Unavailable, Conflict for stored
        bytes that are damaged, NoSpace.
        """
        if self._attempt != attempt or not self._run.spec.exists() or self._length() < self._start_bytes():
            self._start = self._shipped.start(attempt)
            if self._start is None:
                return
            self._rebuild(self._start)
            self._find_place(self._start)
            self._attempt = attempt
        self._delete_dropped()
        while (chunk := self._shipped.chunk(attempt, self._length())) is not None:
            self._apply(chunk)

    def open_attempt(self, start: StartManifest) -> StartManifest:
        """Fixes what an attempt starts from, and returns the manifest that holds; `start` has its terms and no files.

        An attempt that was opened before keeps its manifest. The one before it is then told to end. Raises as `follow`.
        """
        attempt = start.attempt
        previous = 0
        if (existing := self._shipped.start(attempt)) is None:
            previous = next((n for n in range(attempt - 1, 0, -1) if self._shipped.start(n) is not None), 0)
            if previous:
                self.follow(previous)
            files = self._files_of_a_start()
            existing = start.model_copy(
                update={
                    "files": files,
                    "events_bytes": self._length(),
                    "interrupted": self._run.under_way.exists(),
                }
            )
            self._shipped.put_request(attempt, Request.RUN)
            if not self._shipped.create_start(existing):
                existing = self._shipped.start(attempt) or existing
        self.follow(attempt)
        self._run.under_way.touch()
        if previous:
            self._shipped.put_request(previous, Request.END)
        return existing

    def close_attempt(self, attempt: int, *, in_order: bool) -> None:
        """Notes that an attempt is over: its log's end joins the run's log, once; `in_order`, nothing was cut off."""
        if in_order:
            self._run.under_way.unlink(missing_ok=True)
        if not self._run.path.exists() or (tail := self._shipped.log(attempt)) is None:
            return
        headline = f"== attempt {attempt}\n".encode()
        if not self._run.log.exists() or headline not in self._run.log.read_bytes():
            append_line(self._run.log, headline + tail, durable=False)

    def _start_bytes(self) -> int:
        return 0 if self._start is None else self._start.events_bytes

    def _length(self) -> int:
        """The bytes of the event log."""
        return self._run.events.stat().st_size if self._run.events.exists() else 0

    def _rebuild(self, start: StartManifest) -> None:
        """Brings the directory up to the manifest if it is not: inputs first, the event log, the spec last."""
        if self._run.spec.exists() and self._length() >= start.events_bytes:
            return
        self._run.path.mkdir(parents=True, exist_ok=True)
        last = {self._run.events.name: 1, self._run.spec.name: 2}
        for file in sorted(start.files, key=lambda file: last.get(file.path, 0)):
            self._fetch(file)
        fsync_path(self._run.path.parent)

    def _find_place(self, start: StartManifest) -> None:
        """Finds the chunk that the log ends with and its output files; a chunk that a crash tore is cut off.

        A log that is not this attempt's, as a supervisor has that was paused and replaced, begins anew at the manifest.
        """
        self._outputs = {file.path: file for file in start.files if file.is_output}
        length = self._length()
        earlier = [offset for offset in self._shipped.chunk_offsets(start.attempt) if offset < length]
        chunk = self._shipped.chunk(start.attempt, earlier[-1]) if earlier else None
        if chunk is None:
            if length != start.events_bytes or not self._begins_as(start):
                self._begin_anew(start)
            return
        with self._run.events.open("r+b") as stream:
            stream.seek(chunk.offset)
            data, events = stream.read(), chunk.events.encode()
            if data != events and events.startswith(data):
                stream.truncate(chunk.offset)
                chunk = self._shipped.chunk(start.attempt, earlier[-2]) if len(earlier) > 1 else None
                data = events
        if data != events:
            self._begin_anew(start)
        elif chunk is not None:
            self._outputs = _outputs(chunk)

    def _begins_as(self, start: StartManifest) -> bool:
        """Whether the event log begins with that of the manifest."""
        file = next((file for file in start.files if file.path == self._run.events.name), None)
        if file is None:
            return start.events_bytes == 0
        with self._run.events.open("rb") as stream:
            return hashlib.sha256(stream.read(file.bytes)).hexdigest() == file.sha256

    def _begin_anew(self, start: StartManifest) -> None:
        """Makes the event log that of the manifest; all chunks of the attempt are then applied again."""
        logger.warning("mirror rebuilt job=%s attempt=%d", start.job_id, start.attempt)
        if self._begins_as(start):
            if self._run.events.exists():
                os.truncate(self._run.events, start.events_bytes)
            return
        for file in start.files:
            if file.path == self._run.events.name:
                self._fetch(file)

    def _apply(self, chunk: EventChunk) -> None:
        """Fetches the files of a chunk, then appends its events."""
        outputs = _outputs(chunk)
        for path, file in outputs.items():
            if self._outputs.get(path) != file or not (self._run.path / path).exists():
                self._fetch(file)
        is_first = not self._run.events.exists()
        append_line(self._run.events, chunk.events.encode(), durable=True)
        if is_first:
            fsync_path(self._run.path)
        self._outputs = outputs

    def _fetch(self, file: ShippedFile) -> None:
        """Downloads a file unless the directory has these very bytes."""
        path = self._run.path / file.path
        is_here = path.is_file() and path.stat().st_size == file.bytes and manifest.sha256_of(path) == file.sha256
        if not is_here:
            try:
                self._shipped.download(file, path)
            except FileNotFoundError as error:
                text = f"The stored {file.path} of this run is gone. Make a new job; check the object store."
                raise Conflict("run_damaged", text) from error

    def _delete_dropped(self) -> None:
        """Deletes checkpoint folders that the attempt's last known state does not have."""
        if not self._run.checkpoints.exists():
            return
        present = {path.split("/")[1] for path in self._outputs if path.startswith("checkpoints/")}
        for folder in self._run.checkpoints.iterdir():
            if folder.name not in present:
                shutil.rmtree(folder, ignore_errors=True)

    def _files_of_a_start(self) -> tuple[ShippedFile, ...]:
        """All that a next attempt needs, stored: inputs, event log, and the outputs that belong to its last event."""
        run = self._run
        if not self._attempt:  # never shipped before: a new run, or one that began on this machine
            self._trim_log()
        inputs = [run.path / name for name in _INPUTS if (run.path / name).exists()]
        inputs += [path for path in sorted(run.parent.rglob("*")) if path.is_file()]
        if self._length():
            inputs.append(run.events)
        outputs = dict(self._outputs)
        if not self._attempt:
            folders = sorted(run.checkpoints.glob("step-*"))
            for folder in [folder for folder in folders if CheckpointFolder(folder).is_held]:
                inputs += sorted(folder.glob("*"))
            inputs += [path for path in run.resume.glob("*.safetensors") if not path.name.startswith(".")]
        stored = self._shipped.input_names() if inputs else set()
        files = []
        for path in inputs:
            sha256 = manifest.sha256_of(path)
            name = path.relative_to(run.path).as_posix()
            file = ShippedFile(path=name, key=f"inputs/{sha256}", bytes=path.stat().st_size, sha256=sha256)
            if sha256 not in stored:
                self._shipped.upload(path, file)
                stored.add(sha256)
            files.append(file)
        return (*files, *outputs.values())

    def _trim_log(self) -> None:
        """Cuts a torn last line off the log of a run that a trainer wrote on this machine."""
        if self._run.events.exists():
            with self._run.events.open("r+b") as stream:
                data = stream.read()
                stream.truncate(data.rfind(b"\n") + 1)


def _outputs(chunk: EventChunk) -> dict[str, ShippedFile]:
    """The files of a chunk that a trainer may write, by path: a node cannot replace a run's inputs."""
    return {file.path: file for file in chunk.files if file.is_output}
