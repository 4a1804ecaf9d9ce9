"""What a backup has of a data folder, staged at one moment: the database's copy first, then the bytes that its rows
refer to, as hard links. The service and its trainers go on meanwhile.

Bytes are stored before their row and deleted after it, so the copy of the database knows no bytes that were not there
yet; if some are gone again, the copy is taken anew. docs/backup.md has the reasons.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.core.errors import Unavailable
from luthier.core.models import Installation, Job
from luthier.core.states import BatchStatus
from luthier.process import private_folder
from luthier.service.background import installation, orphaned_blobs
from luthier.service.backups import run_copies
from luthier.service.batches import batch_folder
from luthier.service.context import Context
from luthier.service.files import files, uploads
from luthier.service.models import models
from luthier.store import installation as installation_row
from luthier.store import snapshot
from luthier.store.db import Connection, SqliteDatabase
from luthier.store.queries import jobs
from luthier.store.queries.inference import batches
from luthier.store.snapshot import StoredRows

DATABASE = "luthier.db"
BLOBS, RUNS, BATCHES, MODELS, SETTINGS = "blobs", "runs", "batches", "models", "restored-settings"
COPIED_FILES = ("api-key", "webhook-key", "audit.jsonl*", "rates.json")
"""Files of the data folder that are copied as they are; what else is not named here is left out (docs/backup.md)."""
_ATTEMPTS = 10
_WITH_FOLDER = frozenset({BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING})
"""Batches whose folder must be there."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A folder with everything that the backup has of a data folder, but for the base models.

    `missing` are the names of what rows refer to and the data folder does not have: it has lost them.
    """

    folder: Path
    revision: str
    installation: Installation
    missing: frozenset[str]


def stage(context: Context, blobs_folder: Path | None, folder: Path) -> Staged:
    """Stages a backup in `folder`, which is made anew; `blobs_folder` is the root of a local blob store, None for one
    elsewhere, whose bytes are left out.

    Raises Unavailable if rows lose their bytes faster than they are copied, or the database is damaged; OSError.
    """
    before: frozenset[str] = frozenset()
    for _ in range(_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        private_folder.create(folder)
        staged = _stage_once(context, blobs_folder, folder)
        # What is missing twice is not on its way out: the data folder itself has lost it.
        if staged.missing <= before:
            return staged
        before = staged.missing
    text = "Files were deleted faster than they could be copied, ten times in a row. Try again in a while."
    raise Unavailable("backup_overtaken", text)


def _stage_once(context: Context, blobs_folder: Path | None, folder: Path) -> Staged:
    """Stages one copy of the database with its bytes; `missing` are those that are not there, or not any more."""
    with _database_copy(context, folder) as (tx, revision):
        own, age = installation_row.get(tx), installation_row.age(tx)
        missing = set(_stage_open_work(context, tx, folder))
        rows = snapshot.stored_rows(tx)
    if blobs_folder is not None:
        missing.update(_stage_blobs(rows, own, blobs_folder, folder / BLOBS))
        _write_marker(own, age, folder / BLOBS)
    for pattern in COPIED_FILES:
        for path in context.data_folder.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    return Staged(folder, revision, own, frozenset(missing))


@contextmanager
def _database_copy(context: Context, folder: Path) -> Iterator[tuple[Connection, str]]:
    """Stages a copy of the database; yields a transaction that reads it, and its schema's revision.

    A database on a server is not copied, and read itself: its operator has copied it before (docs/postgres.md).
    """
    if context.database.path is None:
        with context.database.reading() as tx:
            yield tx, snapshot.revision(tx)
        return
    revision = snapshot.take(context.database.path, folder / DATABASE)
    copy = SqliteDatabase(folder / DATABASE)
    try:
        with copy.reading() as tx:
            yield tx, revision
    finally:
        copy.close()


def _stage_open_work(context: Context, tx: Connection, folder: Path) -> Iterator[str]:
    """Stages the folders of runs and open batches; yields the names of those that should be there and are not."""
    open_jobs = {job.id: job for job in jobs.list_open(tx)}
    for job_id in sorted(snapshot.stored_rows(tx).job_ids):
        is_whole = run_copies.stage_run(context.runs_folder / job_id, folder / RUNS / job_id)
        if not is_whole and _has_begun(open_jobs.get(job_id)):
            yield f"{RUNS}/{job_id}"
    for batch in batches.list_open(tx):
        source, target = batch_folder.of_batch(context, batch.id), batch_folder.BatchFolder(folder / BATCHES / batch.id)
        if not run_copies.stage_batch(source, target) and batch.status in _WITH_FOLDER:
            yield f"{BATCHES}/{batch.id}"


def _has_begun(job: Job | None) -> bool:
    """Whether the database has events of the job's open run: its folder must then have them too."""
    return job is not None and job.absorbed_bytes > 0


def _stage_blobs(rows: StoredRows, own: Installation, store: Path, target: Path) -> Iterator[str]:
    """Links the blobs that rows refer to; yields the keys of those that are not there."""
    prefix = own.blob_prefix or ""
    private_folder.create(target)
    link_blob = _blob_linker(store / prefix, target / prefix)
    for key in _required_keys(rows):
        if not link_blob(key):
            yield key
    for file_id in rows.file_ids:
        link_blob(files.report_key(file_id))
        if file_id not in rows.ids_with_bytes:
            link_blob(files.blob_key(file_id))
    if own.behind_since is not None:  # which blobs are lost is not known, so none is left out
        for top in (*installation.FOLDERS, orphaned_blobs.FOLDER):
            for path in (store / prefix / top).rglob("*"):
                if path.is_file() and "#" not in path.name:
                    link_blob(path.relative_to(store / prefix).as_posix())


def _required_keys(rows: StoredRows) -> Iterator[str]:
    """The keys of all blobs that must be there."""
    yield from map(files.blob_key, sorted(rows.ids_with_bytes))
    for upload_id, part_id in rows.parts:
        yield uploads.blob_key(upload_id, part_id)
    for checkpoint_id, names in rows.checkpoints:
        for name in names:
            yield models.blob_key(checkpoint_id, name)


def _blob_linker(store: Path, target: Path) -> Callable[[str], bool]:
    """A function that stages the blob of a key, once; it returns False if there is none."""
    made: set[Path] = set()

    def link_blob(key: str) -> bool:
        path = target / key
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        with suppress(FileExistsError):
            try:
                run_copies.link(store / key, path)
            except FileNotFoundError:
                return False
        return True

    return link_blob


def _write_marker(own: Installation, age: int, blobs: Path) -> None:
    """Writes the marker of the restored store: it has a row for every blob, so it is as old as its database."""
    if own.blob_prefix is not None:
        marker = installation.Marker(installation.FORMAT, own.id, own.created_at.isoformat(), age)
        path = blobs / own.blob_prefix / installation.MARKER
        path.write_text(json.dumps(asdict(marker), indent=2) + "\n")


def listed(folder: Path, top: str = "") -> list[tuple[str, Path]]:
    """Every file below a folder with its name in an archive, below `top`; the database first."""
    found = [
        (f"{top}{Path(parent, name).relative_to(folder).as_posix()}", Path(parent, name))
        for parent, _, names in os.walk(folder)
        for name in names
    ]
    return sorted(found, key=lambda one: (one[0] != DATABASE, one[0]))
