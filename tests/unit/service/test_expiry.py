"""Orphaned blobs are moved and nothing else is touched; expiry uses a clock that may jump."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import received
from luthier import app, data_folder
from luthier.core.errors import NotFound
from luthier.core.models import Job, Principal
from luthier.core.ports import Blob
from luthier.core.states import FilePurpose
from luthier.service.background import installation
from luthier.service.background.expiry import Housekeeper
from luthier.service.background.installation import MARKER, StoreLocation
from luthier.service.context import Context
from luthier.service.files import files, uploads
from luthier.service.steady_clock import SettledClock
from luthier.settings import Settings
from luthier.store import db
from luthier.store.queries import files as file_rows


def stored(context: Context) -> set[str]:
    folder = context.runs_folder.parent / "blobs"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MARKER}


@dataclass
class Hands:
    """The machine's clock and one that only grows, both set by hand."""

    time: datetime = datetime(2026, 11, 22, 12, tzinfo=UTC)
    seconds: float = 1000.0

    def now(self) -> datetime:
        return self.time

    def steady_s(self) -> float:
        return self.seconds

    def passes(self, seconds: float) -> None:
        self.seconds += seconds
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def kept(context: Context, hands: Hands) -> Context:
    """An installation that has claimed its store, on clocks of the test's."""
    place = StoreLocation(context.blobs, "The folder", is_shared=False)
    installation.claim(context.database, place, hands.now())
    settled = SettledClock(hands.now, hands.steady_s)
    return replace(context, now=hands.now, steady_s=hands.steady_s, settled=settled)


def receive(context: Context, data: bytes) -> str:
    """Bytes of a file whose row never came; returns their key."""
    return received.blob(context, [data]).key


def test_blobs_without_a_row_at_two_scans_an_hour_apart_are_moved_to_lost_and_found(
    kept: Context, hands: Hands, caller: Principal, create: Callable[..., Job]
) -> None:
    job = create()
    kept = replace(kept, upload_expiry_s=9000)
    request = uploads.UploadRequest("a.jsonl", FilePurpose.FINE_TUNE, 3, "text/jsonl", None)
    upload = uploads.create(kept, caller.resource.id, request)
    part = received.part(kept, caller.resource.id, upload.id, [b"abc"])
    kept.blobs.put("checkpoints/ftchkpt-1/adapter.safetensors", [b"weights"])
    kept.blobs.put("files/holiday.jpg", [b"somebody put it there"])
    known = stored(kept)
    lost = {receive(kept, b"received, and then the service was killed")}
    lost |= {kept.blobs.put(uploads.blob_key(upload.id, f"part_{99:032x}"), [b"the same of a part"]).key}
    lost |= {kept.blobs.put(uploads.blob_key(f"upload_{98:032x}", f"part_{97:032x}"), [b"of none that is known"]).key}

    housekeeper = Housekeeper(kept)
    housekeeper.work()
    hands.passes(3599)
    housekeeper.work()
    assert stored(kept) == known | lost, "they may belong to a request that is under way"
    hands.passes(1)
    housekeeper.work()
    hands.passes(60)
    housekeeper.work()
    assert stored(kept) == known | {f"lost-and-found/2026-11-22/{key}" for key in lost}
    assert {f"files/{job.training_file}", f"uploads/{upload.id}/{part.id}"} < known


def test_lost_blobs_are_restored_once_they_have_a_row_again(kept: Context, hands: Hands) -> None:
    key = receive(kept, b"abc")
    housekeeper = Housekeeper(kept)
    housekeeper.sweep()
    housekeeper.sweep()
    assert stored(kept) == {f"lost-and-found/2026-11-22/{key}"}
    file = files.make_file(kept, "default", "a.txt", FilePurpose.USER_DATA, Blob(key, 3, ""), None)
    with kept.database.writing() as tx:
        file_rows.insert_file(tx, file)
    housekeeper.sweep()
    assert b"".join(files.content(kept, file)) == b"abc"
    assert stored(kept) == {key}


def test_lost_blobs_are_deleted_after_their_days_and_with_zero_never(kept: Context, hands: Hands) -> None:
    key = receive(kept, b"abc")
    for _ in range(2):
        Housekeeper(kept).sweep()
    housekeeper, keeper = Housekeeper(kept, timedelta(days=3)), Housekeeper(kept, timedelta(0))
    for _ in range(2):
        housekeeper.sweep()
    for _ in range(3 * 24):
        hands.passes(3600)
        kept.deletion_time()
        housekeeper.sweep()
    assert stored(kept) == {f"lost-and-found/2026-11-22/{key}"}
    for sweeper, left in ((keeper, 1), (housekeeper, 0)):
        hands.passes(12 * 3600)
        sweeper.sweep()
        assert len(stored(kept)) == left


@pytest.mark.parametrize("database_kind", ["sqlite"])  # an older copy of its file
def test_database_older_than_the_blobs_sweeps_nothing_until_adopt(
    kept: Context, hands: Hands, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def upload() -> str:
        return files.create(kept, "default", "a.txt", "user_data", received.blob(kept, [b"abc"])).id

    upload()
    copy = tmp_path / "copy.db"
    with sqlite3.connect(kept.database.path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    younger = {f"files/{upload()}" for _ in range(3)}
    Housekeeper(kept).work()  # writes down how far the database is

    restored = replace(kept, database=db.open_database(copy))
    place = StoreLocation(kept.blobs, "The folder", is_shared=False)
    for _ in range(2):  # told at every start
        installation.claim(restored.database, place, hands.now())
        assert "database is older than the stored files" in caplog.text
        caplog.clear()
    for _ in range(10):  # as many rows as would make up for it
        files.create(restored, "default", "b.txt", "user_data", received.blob(restored, [b"def"]))
    housekeeper = Housekeeper(restored)
    for _ in range(5):
        hands.passes(3600)
        housekeeper.work()
    assert younger < stored(kept)

    installation.adopt(restored.database, place)
    assert installation.claim(restored.database, place, hands.now()).behind_since is None
    for _ in range(2):
        hands.passes(3600)
        housekeeper.work()
    assert {f"lost-and-found/2026-11-22/{key}" for key in younger} < stored(kept)
    restored.database.close()


def test_store_whose_marker_is_gone_or_of_another_is_not_swept(kept: Context) -> None:
    key = receive(kept, b"abc")
    housekeeper = Housekeeper(kept)
    housekeeper.sweep()
    marker = b"".join(kept.blobs.open(MARKER))
    kept.blobs.delete(MARKER)
    housekeeper.sweep()
    kept.blobs.put(MARKER, [json.dumps(json.loads(marker) | {"id": "other"}).encode()])
    housekeeper.sweep()
    kept.blobs.put(MARKER, [marker])
    housekeeper.sweep()
    assert stored(kept) == {key}, "and the looks begin anew"


def test_store_that_others_share_at_its_root_is_not_swept(kept: Context) -> None:
    key = receive(kept, b"abc")
    housekeeper = Housekeeper(replace(kept, blobs_are_own=False))
    for _ in range(3):
        housekeeper.sweep()
    assert stored(kept) == {key}


@pytest.mark.parametrize("days", [1, -1, 20])
def test_clock_that_jumps_and_returns_expires_nothing_that_was_acknowledged(
    kept: Context, hands: Hands, days: int, caller: Principal
) -> None:
    def everything() -> tuple[str, str]:
        blob = received.blob(kept, [b"abc"])
        file = files.create(kept, caller.resource.id, "a.txt", "user_data", blob, expires_after_s=7200)
        request = uploads.UploadRequest("a.jsonl", FilePurpose.FINE_TUNE, 3, "text/jsonl", None)
        upload = uploads.create(kept, caller.resource.id, request)
        received.part(kept, caller.resource.id, upload.id, [b"abc"])
        return file.id, upload.id

    housekeeper = Housekeeper(kept)
    before = everything()
    housekeeper.work()
    hands.time += timedelta(days=days)
    housekeeper.work()
    while_away = everything()
    for _ in range(50):
        hands.passes(61)
        housekeeper.work()
    hands.time -= timedelta(days=days)
    housekeeper.work()
    for file_id, upload_id in (before, while_away):
        assert b"".join(files.content(kept, files.get(kept, caller.resource.id, file_id))) == b"abc"
        received.part(kept, caller.resource.id, upload_id, [b"def"])
    hands.passes(7201)
    housekeeper.work()
    with pytest.raises(NotFound):
        files.get(kept, caller.resource.id, before[0])


def test_data_folder_opened_by_a_command_leaves_running_uploads_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    app.build(settings).lock.release()
    under_way = tmp_path / "data" / "blobs" / "files" / "file-1#1"
    under_way.parent.mkdir()
    under_way.write_bytes(b"half")
    with data_folder.open_data(settings):
        assert under_way.exists()
    app.build(settings).lock.release()
    assert not under_way.exists()


KILLED = """
import asyncio, itertools, sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from luthier import app, data_folder
from luthier.core.states import FilePurpose
from luthier.service.files import uploads
from luthier.settings import Settings

settings = Settings(data_dir=Path(sys.argv[1]))
service = app.build(settings)
with data_folder.open_data(settings) as context:
    resource_id = service.resource.id
    request = uploads.UploadRequest("a.jsonl", FilePurpose.FINE_TUNE, 40_000_000, "text/jsonl", None)
    upload = uploads.create(context, resource_id, request)
    print(upload.id, flush=True)

    async def twice(chunk):
        yield chunk
        yield chunk

    async def store():
        for number in itertools.count():
            chunks = twice(bytes([number % 256]) * 1_000_000)
            part = await uploads.add_part(context, resource_id, upload.id, chunks)
            print(part.id, number, flush=True)

    asyncio.run(store())
"""


def test_acknowledged_part_exists_after_kill_9(tmp_path: Path) -> None:
    """A process that stores parts is killed in the middle of one; those it told of make the file."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    upload_id = process.stdout.readline().strip()
    told = [process.stdout.readline().split() for _ in range(20)]
    time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()

    settings = Settings(data_dir=tmp_path / "data")
    service = app.build(settings)
    with data_folder.open_data(settings) as context:
        part_ids = [part_id for part_id, _ in told]
        _, file = uploads.complete(context, service.resource.id, upload_id, part_ids, None)
        expected = b"".join(bytes([int(number) % 256]) * 2_000_000 for _, number in told)
        assert b"".join(files.content(context, file)) == expected
