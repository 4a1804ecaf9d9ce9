"""Backups: what is in one, that it is of one moment, and archives that are not what they were."""

import json
import os
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

import received
from fakes import ScriptedExecutor, save_checkpoint
from job_reads import messages, refreshed
from luthier import blobs
from luthier.core.errors import Conflict, InvalidRequest, LuthierError, NoSpace, NotFound
from luthier.core.models import Job, Principal
from luthier.core.states import JobStatus
from luthier.process import private_folder
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import CheckpointSaved, Metrics, Started, Succeeded
from luthier.service.background import installation
from luthier.service.background.installation import StoreLocation
from luthier.service.background.supervisor import Supervisor
from luthier.service.backups import backup, backup_archive, backup_contents, run_copies
from luthier.service.backups.backup import Wanted
from luthier.service.backups.backup_archive import MANIFEST, Manifest
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.models.serving import Serving
from luthier.store import db
from repository import ROOT

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def unseen(total: int) -> Callable[[int], object]:
    return lambda count: None


def upload(context: Context, caller: Principal, data: bytes) -> str:
    blob = received.blob(context, [data])
    return files.create(context, caller.resource.id, "a.txt", "user_data", blob).id


def back_up(context: Context, path: Path) -> Manifest:
    return backup.create(context, Wanted(context.data_folder / "blobs"), path, unseen)


@contextmanager
def opened(context: Context, data: Path) -> Iterator[Context]:
    """The context on a restored folder, with the same catalog and clock."""
    database = db.open_database(data / "luthier.db")
    folders = {"data_folder": data, "runs_folder": data / "runs", "served_folder": data / "served"}
    store = blobs.local(data / "blobs")
    yield replace(context, database=database, blobs=store, models_folder=data / "models", **folders)
    database.close()


@pytest.fixture
def database_kind() -> str:
    """Whose file is in the backup; test_backup_of_postgres.py has the other one."""
    return "sqlite"


@pytest.fixture
def archive(context: Context, caller: Principal, tmp_path: Path) -> Path:
    """A backup of a data folder with two files, whose blob store has its marker."""
    for text in (b"first", b"second"):
        upload(context, caller, text)
    location = StoreLocation(context.blobs, "The store", is_shared=False)
    installation.claim(context.database, location, NOW)
    path = tmp_path / "backup.tar"
    back_up(context, path)
    return path


def first_part(run: RunDirectory) -> None:
    """A trainer at work after its first checkpoint."""
    run.append(Started(at=100.0, n_steps=4, n_examples=10, n_tokens=100, supervised_tokens=40))
    for step in (1, 2):
        run.append(Metrics(at=100.0 + step, step=step, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5))
    save_checkpoint(run, 2, 103.0)
    run.lock.write_text("4711")
    run.under_way.touch()


def test_running_job_is_restored_with_its_run_and_no_process_is_taken_for_its_trainer(
    context: Context,
    supervisor: Supervisor,
    executor: ScriptedExecutor,
    serving: Serving,
    create: Callable[..., Job],
    tmp_path: Path,
) -> None:
    executor.trainer, executor.alive = first_part, {"fake:1"}
    job = create()
    for _ in range(4):
        supervisor.tick()
    before = messages(context, job)
    back_up(context, tmp_path / "backup.tar")
    assert executor.alive == {"fake:1"}, "nothing of the original is touched"
    backup.restore(tmp_path / "backup.tar", tmp_path / "restored", unseen)
    with opened(context, tmp_path / "restored") as other:
        run = RunDirectory(other.runs_folder / job.id)
        assert run.under_way.exists()
        assert not run.lock.exists()
        assert refreshed(other, job).status is JobStatus.RUNNING
        elsewhere = ScriptedExecutor(_rest)
        later = Supervisor(other, elsewhere, serving, tick_s=0.01)
        for _ in range(6):
            later.tick()
        ended = refreshed(other, job)
        assert ended.status is JobStatus.SUCCEEDED, ended.error
        assert run.path in elsewhere.started
        assert messages(other, job)[: len(before)] == before
    assert refreshed(context, job).status is JobStatus.RUNNING


def _rest(run: RunDirectory) -> None:
    """The trainer on the restored folder: its base model is where the restored service has it."""
    assert run.read_spec().base_folder.parent == run.path.parent.parent / "models"
    for step in (3, 4):
        run.append(Metrics(at=110.0 + step, step=step, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5))
    save_checkpoint(run, 4, 120.0)
    run.results.write_text("step\n")
    run.append(Succeeded(at=121.0, trained_tokens=200, seconds=5.0, peak_memory_bytes=1))


def test_every_name_of_a_data_folder_is_in_a_backup_or_left_out_on_purpose() -> None:
    names = ("BLOBS", "RUNS", "BATCHES", "MODELS", "SETTINGS")
    taken = {*(getattr(backup_contents, name) for name in names), *backup_contents.COPIED_FILES}
    left_out = {"exports", "served", "engines", "moving", ".backup"}  # made again, or of no meaning elsewhere
    assert set(private_folder.PATTERNS) <= taken | left_out | {f"{backup_contents.DATABASE}*"}
    page = (ROOT / "docs" / "backup.md").read_text()
    assert [name for name in (taken | left_out) - {".backup"} if name.rstrip("*") not in page] == []


def test_restored_store_is_as_old_as_its_database_and_one_elsewhere_is_newer(
    context: Context, caller: Principal, tmp_path: Path, archive: Path
) -> None:
    backup.restore(archive, tmp_path / "restored", unseen)
    with opened(context, tmp_path / "restored") as other:
        location = StoreLocation(other.blobs, "The store", is_shared=False)
        assert installation.claim(other.database, location, NOW).behind_since is None
    # The bytes stayed in the store, and the service went on after the backup.
    manifest = backup.create(context, Wanted(None), tmp_path / "rows.tar", unseen)
    assert not manifest.has_blobs
    upload(context, caller, b"later")
    own = installation.get(context.database)
    installation.update_marker(context.database, context.blobs, own, None)
    backup.restore(tmp_path / "rows.tar", tmp_path / "rows", unseen)
    database = db.open_database(tmp_path / "rows" / "luthier.db")
    location = StoreLocation(context.blobs, "The store", is_shared=False)
    assert installation.claim(database, location, NOW).behind_since == NOW
    database.close()


def test_files_that_are_deleted_meanwhile_leave_no_row_without_bytes(
    context: Context, caller: Principal, tmp_path: Path
) -> None:
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            files.delete(context, caller.resource.id, upload(context, caller, b"x" * 100))

    for number in range(20):
        upload(context, caller, b"%d" % number)
    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(5):
            manifest = back_up(context, tmp_path / f"{number}.tar")
            assert manifest.missing == ()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    backup.restore(tmp_path / "4.tar", tmp_path / "restored", unseen)
    with opened(context, tmp_path / "restored") as other:
        listed, _ = files.list_page(other, caller.resource.id, None, None, 100, ascending=True)
        assert len(listed) >= 20
        assert all(len(b"".join(files.content(other, file))) == file.bytes for file in listed)


def test_bytes_that_the_data_folder_has_lost_are_named_and_the_rest_is_backed_up(
    context: Context, caller: Principal, tmp_path: Path
) -> None:
    lost, kept = upload(context, caller, b"lost"), upload(context, caller, b"kept")
    context.blobs.delete(files.blob_key(lost))
    manifest = back_up(context, tmp_path / "backup.tar")
    assert manifest.missing == (files.blob_key(lost),)
    assert f"blobs/{files.blob_key(kept)}" in {entry.path for entry in manifest.files}


def test_run_that_is_written_meanwhile_is_copied_as_a_crash_could_have_left_it(tmp_path: Path) -> None:
    run, ended = RunDirectory(tmp_path / "run"), threading.Event()
    run.path.mkdir()
    run.spec.write_text("{}")
    run.resume.mkdir()

    def train() -> None:
        """Checkpoints that come and go, each before its resume point, as the trainer orders them."""
        step = 0
        while not ended.is_set():
            step += 2
            run.append(Metrics(at=1.0, step=step, n_steps=9, train_loss=1.0, train_mean_token_accuracy=0.5))
            dropped = (f"step-{step - 4:06d}",) if step > 4 else ()
            save_checkpoint(run, step, 1.0, dropped)
            for name in dropped:
                shutil.rmtree(run.checkpoints / name)
            (run.resume / ".state.tmp").write_text(str(step))
            (run.resume / ".state.tmp").replace(run.resume / "state.safetensors")

    thread = threading.Thread(target=train)
    thread.start()
    whole, until = 0, time.monotonic() + 20
    try:
        while whole < 15 and time.monotonic() < until:
            copy = RunDirectory(tmp_path / "copy")
            if run_copies.stage_run(run.path, copy.path):
                whole += 1
                assert_resumable(copy)
    finally:
        ended.set()
        thread.join()
    assert whole >= 5


def assert_resumable(run: RunDirectory) -> None:
    """What the trainer asks of a run whose resume point it is to trust."""
    told = [event for event, _ in run.tail()]
    kept = {event.folder for event in told if isinstance(event, CheckpointSaved)}
    kept -= {name for event in told if isinstance(event, CheckpointSaved) for name in event.dropped}
    for name in kept:
        assert sorted(path.name for path in (run.checkpoints / name).iterdir())[-1] == "probes.json", name
    state = run.resume / "state.safetensors"
    if state.exists():
        assert int(state.read_text()) <= max(event.step for event in told if isinstance(event, Metrics))


def test_archive_is_private_names_no_machine_and_is_never_overwritten(context: Context, archive: Path) -> None:
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    assert members[0].name == "luthier.db"
    assert members[-1].name == MANIFEST
    assert {(one.uname, one.uid, one.mtime, one.mode) for one in members} == {("", 0, 0, 0o600)}
    before = archive.read_bytes()
    with pytest.raises(Conflict, match="exists"):
        back_up(context, archive)
    assert archive.read_bytes() == before
    assert not (context.data_folder / ".backup").exists()


def test_restored_folder_is_private_and_an_earlier_one_is_left_alone(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "restored"
    target.mkdir()
    os.umask(private_folder.UMASK)  # as the command does
    backup.restore(archive, target, unseen)
    modes = {path.stat().st_mode & 0o077 for path in (target, *target.rglob("*"))}
    assert modes == {0}
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(Conflict, match="not empty"):
        backup.restore(archive, target, unseen)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte[0] ^ 1]))


def rewrite(path: Path, **fields: object) -> None:
    """The same archive with another manifest, or with a further member of a name."""
    with tarfile.open(path) as tar:
        parts = [(one.name, tar.extractfile(one).read()) for one in tar.getmembers()]
    extra = fields.pop("member", None)
    with tarfile.open(path, "w") as tar:
        for name, data in ([(str(extra), b"x")] if extra else []) + parts:
            if name == MANIFEST:
                data = json.dumps(json.loads(data) | fields).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, BytesIO(data))


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (lambda path: cut(path, 0.95), InvalidRequest, "not a whole backup"),
        (lambda path: cut(path, 0.5), InvalidRequest, "not a whole backup"),
        (lambda path: cut(path, 0.0), InvalidRequest, "not a whole backup"),
        (lambda path: flip(path, 1000), InvalidRequest, "bytes of luthier.db"),
        (lambda path: path.write_bytes(b"not a tar file" * 1000), InvalidRequest, "not a whole backup"),
        (lambda path: path.unlink(), NotFound, "There is no file"),
        (lambda path: rewrite(path, format=2, more=1), Conflict, "newer version"),
        (lambda path: rewrite(path, schema_revision="9999"), Conflict, "newer version"),
        (lambda path: rewrite(path, format="x"), InvalidRequest, "manifest"),
        (lambda path: rewrite(path, member="../outside"), InvalidRequest, "does not name"),
        (
            lambda path: rewrite(path, member="../out", files=[{"path": "../out", "bytes": 1, "sha256": "0"}]),
            InvalidRequest,
            "does not name",
        ),
        (lambda path: rewrite(path, files=[]), InvalidRequest, "does not name"),
    ],
)
def test_archive_that_is_not_what_it_was_restores_nothing(
    archive: Path, tmp_path: Path, spoil: Callable[[Path], object], kind: type[LuthierError], words: str
) -> None:
    spoil(archive)
    before = sorted(tmp_path.iterdir())
    for target in (tmp_path / "restored", None):
        with pytest.raises(kind, match=words):
            backup.restore(archive, target, unseen)
    assert sorted(tmp_path.iterdir()) == before


def test_archive_that_lacks_a_file_restores_nothing(archive: Path, tmp_path: Path) -> None:
    manifest = backup_archive.read_manifest(archive)
    more = [*(entry.model_dump() for entry in manifest.files), {"path": "blobs/files/x", "bytes": 1, "sha256": "0"}]
    rewrite(archive, files=more)
    with pytest.raises(InvalidRequest, match="1 of its files are missing"):
        backup.restore(archive, tmp_path / "restored", unseen)
    assert not (tmp_path / "restored").exists()


def test_second_backup_of_one_folder_waits_for_nobody(context: Context, tmp_path: Path) -> None:
    def again(total: int) -> Callable[[int], object]:
        with pytest.raises(Conflict, match="in use by process"):
            back_up(context, tmp_path / "two.tar")
        return lambda count: None

    backup.create(context, Wanted(context.data_folder / "blobs"), tmp_path / "one.tar", again)
    assert (tmp_path / "one.tar").exists()


def test_place_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="are free"):
        backup_archive.check_room(tmp_path, 10**18)


def test_backup_of_an_older_version_is_restored_and_migrated_by_the_next_start(archive: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.db"
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).with_name("migrations")))
    database = db.SqliteDatabase(older)
    with database.writing() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0012")
    database.close()
    about = backup_archive.read_manifest(archive).model_copy(update={"schema_revision": "0012", "files": ()})
    backup_archive.write(tmp_path / "older.tar", [("luthier.db", older)], about, lambda count: None)
    backup.restore(tmp_path / "older.tar", tmp_path / "restored", unseen)
    migrated = db.open_database(tmp_path / "restored" / "luthier.db")
    assert migrated.is_newest()
    migrated.close()
