"""Ships what a trainer writes: new events, and before them everything that they name.

A pass stages files by hard links, so that what the trainer replaces or drops meanwhile stays readable, and then reads
the log. The order makes each chunk a state from which a trainer resumes: the resume point is never newer than the log.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from luthier import manifest
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import (
    RUN_EVENTS,
    CheckpointHeld,
    CheckpointSaved,
    Failed,
    Paused,
    Succeeded,
)
from luthier.run_directory.shipped_run import EventChunk, ShippedFile, ShippedRun, StartManifest

_Signature = tuple[int, int, int]
"""Inode, size and mtime in ns: the trainer replaces files by renames, so another file has another one."""


class NotOurs(Exception):
    """Another process ships under this attempt's number, or the attempt is over: this one must leave."""


class _Moved(Exception):
    """A file was replaced or dropped while it was staged: the log says more by now."""


class Shipper:
    """Ships one attempt's outputs in chunks; for one thread.

    `staging` is a folder on the run directory's file system.
    """

    def __init__(self, run: RunDirectory, shipped: ShippedRun, start: StartManifest, staging: Path) -> None:
        self._run = run
        self._shipped = shipped
        self._attempt = start.attempt
        self._staging = staging
        self._offset = start.events_bytes
        self._stored = {file.sha256: file.key for file in start.files}
        self._known: dict[str, tuple[_Signature, ShippedFile]] = {}
        self._folders = _CheckpointFolders()
        if run.events.exists():
            self._folders.note(run.events.read_bytes())

    def ship(self) -> bool:
        """Ships all complete new lines of the log as one chunk, with the files that there are then; False without any.

        Raises Unavailable if the store cannot be reached, and then the next call ships the same; NotOurs; OSError.
        """
        while True:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging.mkdir(parents=True)
            try:
                events, staged, folders = self._stage()
            except _Moved:
                continue
            break
        if not events:
            return False
        files = tuple(self._file(path, staged[path]) for path in sorted(staged))
        chunk = EventChunk(offset=self._offset, events=events.decode(), files=files)
        if not self._shipped.create_chunk(self._attempt, chunk) and not self._is_stored(chunk):
            raise NotOurs(f"attempt {self._attempt} has other events from byte {self._offset} on")
        self._offset += len(events)
        self._folders = folders
        return True

    def _is_stored(self, chunk: EventChunk) -> bool:
        """Whether the chunk at its offset is this very one: its first try got through, and only the answer was lost."""
        return self._shipped.chunk(self._attempt, chunk.offset) == chunk

    def _stage(self) -> tuple[bytes, dict[str, Path], "_CheckpointFolders"]:
        """New whole lines of the log, and links to all output files of that state, by their path in the run directory.

        Raises _Moved.
        """
        resume = self._run.resume / "state.safetensors"
        before = _signature(resume)
        events = self._new_lines()
        if not events:
            return b"", {}, self._folders
        folders = self._folders.copy()
        ends = folders.note(events)
        staged = dict(self._links(self._output_paths(folders, resume if before else None, ends)))
        later = folders.copy()
        later.note(self._new_lines()[len(events) :])
        # A folder is deleted after the event that drops it: without such an event all links were of whole folders.
        if _signature(resume) != before or not folders.present <= later.present:
            raise _Moved
        return events, staged, folders

    def _new_lines(self) -> bytes:
        """The bytes of the log after what is shipped, up to the last newline."""
        if not self._run.events.exists():
            return b""
        with self._run.events.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        return data[: data.rfind(b"\n") + 1]

    def _output_paths(self, folders: "_CheckpointFolders", resume: Path | None, ends: bool) -> Iterator[Path]:
        """The files to ship: the resume point, those of the checkpoints that are there, and at the end the figures."""
        if resume is not None:
            yield resume
        for name in sorted(folders.present):
            folder = self._run.checkpoints / name
            yield from (path for path in sorted(folder.glob("*")) if not path.name.startswith("."))
        for path in (self._run.results, self._run.example_losses) if ends else ():
            if path.exists():
                yield path

    def _links(self, paths: Iterable[Path]) -> Iterator[tuple[str, Path]]:
        """Links each file into the staging folder. Raises _Moved for one that is gone."""
        for number, path in enumerate(paths):
            link = self._staging / str(number)
            try:
                os.link(path, link)
            except FileNotFoundError as error:
                raise _Moved from error
            except OSError:  # a file system without hard links
                shutil.copy2(path, link)
            yield path.relative_to(self._run.path).as_posix(), link

    def _file(self, path: str, link: Path) -> ShippedFile:
        """The file as the chunk names it, stored under the sha256 of its bytes unless these are stored already."""
        signature = _signature(link)
        assert signature is not None
        known = self._known.get(path)
        if known is not None and known[0] == signature:
            return known[1]
        sha256 = manifest.sha256_of(link)
        key = self._stored.get(sha256, f"{self._attempt}/files/{sha256}")
        file = ShippedFile(path=path, key=key, bytes=link.stat().st_size, sha256=sha256)
        if sha256 not in self._stored:
            self._shipped.upload(link, file)
            self._stored[sha256] = key
        self._known[path] = (signature, file)
        return file


class _CheckpointFolders:
    """Which checkpoint folders a log says are there: held, saved and paused ones that were not dropped."""

    def __init__(self, present: Iterable[str] = ()) -> None:
        self.present = set(present)

    def copy(self) -> "_CheckpointFolders":
        return _CheckpointFolders(self.present)

    def note(self, lines: bytes) -> bool:
        """Adds the folders of these events, and removes those that they drop; returns whether a verdict is among them.

        A damaged line is passed over: it is shipped, and the service fails the job for it.
        """
        ends = False
        for line in lines.splitlines():
            with suppress(ValidationError):
                event = RUN_EVENTS.validate_json(line)
                if isinstance(event, CheckpointHeld | CheckpointSaved | Paused):
                    self.present.add(event.folder)
                if isinstance(event, CheckpointHeld | CheckpointSaved):
                    self.present.difference_update(event.dropped)
                ends = ends or isinstance(event, Succeeded | Failed)
        return ends


def _signature(path: Path) -> _Signature | None:
    """What tells one version of a file from another; None without a file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
