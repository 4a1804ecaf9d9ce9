"""Runs an import: files, then archives, then jobs. Each step is saved before the next begins.

Reads the source and the plan; writes to the target's API, the state file and the archive folders.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from openai import OpenAI

from luthier.account_import import destination, import_plan, import_state, job_archive, source_records
from luthier.account_import.destination import Inventory, TargetFile
from luthier.account_import.import_plan import Account, FilePlan, JobPlan, Plan
from luthier.account_import.import_state import ImportedFile, State
from luthier.account_import.source_account import Source
from luthier.account_import.source_records import SourceJob
from luthier.atomic_io import read_chunks
from luthier.core.errors import Forbidden, InvalidRequest, NotFound, UpstreamFailed
from luthier.data.jsonl import line_reader
from luthier.data.jsonl.line_reader import JsonRow

MAX_DOWNLOAD_BYTES = 8 * 1024**3
_IMAGES = frozenset({"image_url", "image", "input_image"})
_SKIPPABLE = (NotFound, Forbidden, UpstreamFailed, InvalidRequest)
"""Errors that skip one file or job; every other error ends the import, which the next run resumes."""


class Watcher(Protocol):
    """Gets the progress of an import, item by item: the command's progress bar."""

    def begin(self, what: str, n_bytes: int | None) -> None:
        """An item begins; `n_bytes` is its length, None if it is unknown."""
        ...

    def progress(self, n_bytes: int) -> None:
        """So many bytes of a file of the item have come by now; it may begin again from 0."""
        ...

    def done(self) -> None:
        """The item is over, imported or skipped."""
        ...


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, archive or job that was not imported, and why; `kind` is one of these three words."""

    kind: str
    id: str
    name: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """What one run imported: ids at the target by ids at the source. `skipped` was planned and failed."""

    files: dict[str, str] = field(default_factory=dict)
    archived: list[str] = field(default_factory=list)
    jobs: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(slots=True)
class ImportRun:
    """One run of an import, with its state and folders. Each step changes `state` and `outcome`.

    `results` is the folder of the job archives.
    """

    source: Source
    api: OpenAI
    state: State
    state_path: Path
    results: Path
    watcher: Watcher
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def parts(self) -> Path:
        """The folder of downloads, beside the state file; emptied at the beginning and removed at the end."""
        return self.state_path.with_name(f"{self.state_path.name}.parts")


def read_account(source: Source) -> Account:
    """Reads all files and jobs of the source over the network, and which files that jobs name are deleted there.

    Raises the source's errors (source_account.Source).
    """
    jobs = [source_records.parse_job(payload) for payload in source.jobs()]
    files = {file.id: file for file in map(source_records.parse_file, source.files())}
    missing = set()
    for name in sorted({name for job in jobs for name in job.files} - files.keys()):
        payload = source.file(name)
        if payload is None:
            missing.add(name)
        else:
            files[name] = source_records.parse_file(payload)
    return Account(files, frozenset(missing), jobs)


def run(import_run: ImportRun, planned: Plan, inventory: Inventory) -> Outcome:
    """Carries out the plan, returns the outcome. A file or job that fails is skipped and reported; the rest continues.

    Errors that concern everything, such as a refused key or a full disk, are raised. After a kill at any moment the
    next run resumes: a step is in the state file before the next one begins, and what was sent but not yet recorded is
    recognized at the target, a file by its bytes and a job by its metadata.
    """
    shutil.rmtree(import_run.parts, ignore_errors=True)
    import_run.parts.mkdir(parents=True)
    import_run.state.jobs |= {job.job.id: job.target_id for job in planned.jobs if job.target_id}
    try:
        for file in planned.files_to_import:
            import_run.watcher.begin(f"file {file.file.name}", max(file.file.bytes, 0))
            _import_file(import_run, file, inventory)
            import_run.watcher.done()
        for job in planned.jobs_to_archive:
            import_run.watcher.begin(f"archive {job.job.id}", None)
            _archive(import_run, job.job)
            import_run.watcher.done()
        for job in planned.jobs_to_create:
            import_run.watcher.begin(f"job {job.job.id}", None)
            _create_job(import_run, job)
            import_run.watcher.done()
        import_state.save(import_run.state_path, import_run.state)
    finally:
        shutil.rmtree(import_run.parts, ignore_errors=True)
    return import_run.outcome


def _import_file(import_run: ImportRun, planned: FilePlan, inventory: Inventory) -> None:
    """Downloads a file, uploads it unless the target has its bytes already, and saves the state; or records why not.

    The downloaded copy is deleted in any case.
    """
    file, part = planned.file, import_run.parts / planned.file.id
    max_bytes = file.bytes if file.bytes > 0 else MAX_DOWNLOAD_BYTES
    try:
        count, sha256 = import_run.source.download(file.id, part, max_bytes, import_run.watcher.progress)
        if count != file.bytes > 0:
            raise UpstreamFailed("source_file_changed", f"listed with {file.bytes} bytes, sent with {count}")
        target_id = _same_file(import_run, inventory, file.name, count, sha256)
        if target_id is None:
            with part.open("rb") as stream:
                target_id = destination.upload(import_run.api, file.name, stream)
        imported = ImportedFile(id=target_id, bytes=count, sha256=sha256, has_images=_has_images(part))
    except _SKIPPABLE as error:
        import_run.outcome.skipped.append(Skipped("file", file.id, file.name, error.message))
        return
    finally:
        part.unlink(missing_ok=True)
    import_run.state.files[file.id] = imported
    import_state.save(import_run.state_path, import_run.state)
    import_run.outcome.files[file.id] = imported.id


def _same_file(import_run: ImportRun, inventory: Inventory, name: str, n_bytes: int, sha256: str) -> str | None:
    """The id of an unclaimed target file with the same name and bytes: an earlier run may have sent it. Else None."""
    claimed = {imported.id for imported in import_run.state.files.values()}
    for file in inventory.files.values():
        if (
            (file.name, file.bytes) == (name, n_bytes)
            and file.id not in claimed
            and _has_hash(import_run, file, sha256)
        ):
            return file.id
    return None


def _has_hash(import_run: ImportRun, file: TargetFile, sha256: str) -> bool:
    """Whether a target file's bytes have this sha256; False if it is gone. Downloads it."""
    try:
        return destination.sha256(import_run.api, file.id) == sha256
    except NotFound:
        return False


def _archive(import_run: ImportRun, job: SourceJob) -> None:
    """Writes the archive folder of a job, and records the files of it that could not be had as skipped."""
    lost = job_archive.write(
        import_run.source, job, import_run.results, import_run.parts / "results", import_run.watcher.progress
    )
    import_run.outcome.archived.append(job.id)
    import_run.outcome.skipped.extend(
        Skipped("archive", job.id, job.fine_tuned_model or job.model, reason) for reason in lost
    )


def _create_job(import_run: ImportRun, planned: JobPlan) -> None:
    """Creates a job at the target on its imported files and saves the state; or records why it was skipped."""
    job, files = planned.job, import_run.state.files
    assert planned.model is not None
    try:
        training = files.get(job.training_file or "")
        if training is None:
            raise NotFound("file_not_imported", f"its training file {job.training_file} was not imported")
        if reason := import_plan.image_refusal(job, files):
            raise InvalidRequest("images", reason)
        body = import_plan.job_body(job, planned.model, training.id, import_run.source.address.host, files)
        created = destination.create_job(import_run.api, body)
    except _SKIPPABLE as error:
        import_run.outcome.skipped.append(Skipped("job", job.id, job.fine_tuned_model or job.model, error.message))
        return
    import_run.state.jobs[job.id] = created
    import_state.save(import_run.state_path, import_run.state)
    import_run.outcome.jobs[job.id] = created


def _has_images(path: Path) -> bool:
    """Whether a row of a JSONL file holds a part with an image; lines without the word are not even parsed."""
    for line in line_reader.read_lines(read_chunks(path)):
        if b"image" not in line.content:
            continue
        row = line_reader.parse_line(line)
        if isinstance(row, JsonRow) and any(part in _IMAGES for part in _part_types(row.value)):
            return True
    return False


def _part_types(row: dict[str, object]) -> Iterator[object]:
    """The `type` of each content part of a row's messages, whatever it is; none for a row of another form."""
    messages = row.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                yield part.get("type")
