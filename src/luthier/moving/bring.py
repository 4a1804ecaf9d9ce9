"""A move from its reading to its end: files, then archives, then jobs. Each step is kept before the next begins."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from openai import OpenAI

from luthier.core.errors import Forbidden, InvalidRequest, NotFound, UpstreamFailed
from luthier.data import jsonl
from luthier.data.jsonl import Row
from luthier.moving import archive, here, plan, records, state
from luthier.moving.here import FileHere, Inventory
from luthier.moving.plan import Account, FilePlan, JobPlan, Plan
from luthier.moving.records import SourceJob
from luthier.moving.source import Source
from luthier.moving.state import BroughtFile, State

MAX_FILE_BYTES = 8 * 1024**3
_IMAGES = frozenset({"image_url", "image", "input_image"})
_OF_THE_ONE_THING = (NotFound, Forbidden, UpstreamFailed, InvalidRequest)
"""Errors that leave one file or job behind; every other one ends the move, which can be gone on with."""


class Watcher(Protocol):
    """Who is told how far the move has come."""

    def begin(self, what: str, n_bytes: int | None) -> None: ...

    def moved(self, n_bytes: int) -> None: ...

    def done(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Left:
    """One thing that stays there, by name, and why."""

    kind: str
    id: str
    name: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """What one run brought: ids there to ids here. `left` is what the plan promised and could not be done."""

    files: dict[str, str] = field(default_factory=dict)
    archived: list[str] = field(default_factory=list)
    jobs: dict[str, str] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)


@dataclass(slots=True)
class Move:
    """One run of a move and where it keeps things."""

    source: Source
    api: OpenAI
    state: State
    state_path: Path
    results: Path
    watcher: Watcher
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def parts(self) -> Path:
        return self.state_path.with_name(f"{self.state_path.name}.parts")


def account(source: Source) -> Account:
    """Everything that the source has, and the files that its jobs name and that are no more."""
    jobs = [records.job_of(told) for told in source.jobs()]
    files = {file.id: file for file in map(records.file_of, source.files())}
    missing = set()
    for name in sorted({name for job in jobs for name in job.files} - files.keys()):
        told = source.file(name)
        if told is None:
            missing.add(name)
        else:
            files[name] = records.file_of(told)
    return Account(files, frozenset(missing), jobs)


def run(move: Move, planned: Plan, inventory: Inventory) -> Outcome:
    """Does what the plan says. What fails alone is left and told; the rest goes on.

    Killed at any moment, the next run goes on: a step is in the state file before the next one begins, and what was
    sent but not yet written down is found again here, a file by its bytes and a job by its metadata.
    """
    shutil.rmtree(move.parts, ignore_errors=True)
    move.parts.mkdir(parents=True)
    move.state.jobs |= {job.job.id: job.here for job in planned.jobs if job.here}
    try:
        for file in planned.files_to_bring:
            move.watcher.begin(f"file {file.file.name}", max(file.file.bytes, 0))
            _file(move, file, inventory)
            move.watcher.done()
        for job in planned.jobs_to_archive:
            move.watcher.begin(f"archive {job.job.id}", None)
            _archive(move, job.job)
            move.watcher.done()
        for job in planned.jobs_to_create:
            move.watcher.begin(f"job {job.job.id}", None)
            _job(move, job)
            move.watcher.done()
        state.save(move.state_path, move.state)
    finally:
        shutil.rmtree(move.parts, ignore_errors=True)
    return move.outcome


def _file(move: Move, planned: FilePlan, inventory: Inventory) -> None:
    file, part = planned.file, move.parts / planned.file.id
    most = file.bytes if file.bytes > 0 else MAX_FILE_BYTES
    try:
        count, sha256 = move.source.download(file.id, part, most, move.watcher.moved)
        if count != file.bytes > 0:
            raise UpstreamFailed("source_file_changed", f"told with {file.bytes} bytes, sent with {count}")
        here_id = _same_file(move, inventory, file.name, count, sha256)
        if here_id is None:
            with part.open("rb") as stream:
                here_id = here.upload(move.api, file.name, stream)
        brought = BroughtFile(id=here_id, bytes=count, sha256=sha256, has_images=_has_images(part))
    except _OF_THE_ONE_THING as error:
        move.outcome.left.append(Left("file", file.id, file.name, error.message))
        return
    finally:
        part.unlink(missing_ok=True)
    move.state.files[file.id] = brought
    state.save(move.state_path, move.state)
    move.outcome.files[file.id] = brought.id


def _same_file(move: Move, inventory: Inventory, name: str, n_bytes: int, sha256: str) -> str | None:
    """A file here of this name and these very bytes that stands for no other one: a run before may have sent it."""
    claimed = {brought.id for brought in move.state.files.values()}
    for found in inventory.files.values():
        if (found.name, found.bytes) == (name, n_bytes) and found.id not in claimed and _is(move, found, sha256):
            return found.id
    return None


def _is(move: Move, found: FileHere, sha256: str) -> bool:
    try:
        return here.sha256(move.api, found.id) == sha256
    except NotFound:
        return False


def _archive(move: Move, job: SourceJob) -> None:
    lost = archive.write(move.source, job, move.results, move.parts / "results", move.watcher.moved)
    move.outcome.archived.append(job.id)
    move.outcome.left.extend(Left("archive", job.id, job.tuned_model or job.model, reason) for reason in lost)


def _job(move: Move, planned: JobPlan) -> None:
    job, files = planned.job, move.state.files
    assert planned.model is not None
    try:
        training = files.get(job.training_file or "")
        if training is None:
            raise NotFound("file_not_brought", f"its training file {job.training_file} was not brought")
        if reason := plan.images_in(job, files):
            raise InvalidRequest("images", reason)
        asked = plan.body(job, planned.model, training.id, move.source.address.host, files)
        created = here.create_job(move.api, asked)
    except _OF_THE_ONE_THING as error:
        move.outcome.left.append(Left("job", job.id, job.tuned_model or job.model, error.message))
        return
    move.state.jobs[job.id] = created
    state.save(move.state_path, move.state)
    move.outcome.jobs[job.id] = created


def _has_images(path: Path) -> bool:
    """Whether a row holds a part with an image; lines without the word are not even parsed."""
    for line in jsonl.lines(_chunks(path)):
        if b"image" not in line.content:
            continue
        row = jsonl.parse(line)
        if isinstance(row, Row) and any(part in _IMAGES for part in _part_types(row.value)):
            return True
    return False


def _part_types(row: dict[str, object]) -> Iterator[object]:
    messages = row.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                yield part.get("type")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(1024 * 1024):
            yield chunk
