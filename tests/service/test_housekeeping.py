"""What a kill left behind: bytes without a row go, everything else stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from luthier import app
from luthier.core.models import Job, Principal
from luthier.core.states import FilePurpose
from luthier.service import files, housekeeping, uploads
from luthier.service.context import Context
from luthier.settings import Settings


def stored(context: Context) -> set[str]:
    folder = context.runs_folder.parent / "blobs"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_bytes_without_a_row_are_swept_once_they_are_an_hour_old(
    context: Context, caller: Principal, create: Callable[..., Job]
) -> None:
    job = create()
    request = uploads.UploadRequest("a.jsonl", FilePurpose.FINE_TUNE, 3, "text/jsonl", None)
    upload = uploads.create(context, caller.resource.id, request)
    part = uploads.add_part(context, caller.resource.id, upload.id, [b"abc"])
    context.blobs.put("checkpoints/ftchkpt-1/adapter.safetensors", [b"weights"])
    kept = stored(context)
    files.receive(context, [b"received, and then the service was killed"])
    context.blobs.put(uploads.blob_key(upload.id, "part_0"), [b"the same of a part"])
    context.blobs.put(uploads.blob_key("upload_0", "part_1"), [b"and of an upload that is no more"])
    everything = stored(context)

    young = replace(context, now=lambda: datetime.now(UTC) + timedelta(minutes=59))
    housekeeping.sweep_leftovers(young)
    assert stored(context) == everything
    housekeeping.sweep_leftovers(replace(context, now=lambda: datetime.now(UTC) + timedelta(minutes=61)))
    assert stored(context) == kept
    assert {f"files/{job.training_file}", f"uploads/{upload.id}/{part.id}"} < kept


def test_data_folder_opened_beside_a_service_leaves_its_uploads_under_way(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    app.build(settings)
    under_way = tmp_path / "data" / "blobs" / "files" / "file-1#1"
    under_way.parent.mkdir()
    under_way.write_bytes(b"half")
    with app.open_data(settings):
        assert under_way.exists()
    app.build(settings)
    assert not under_way.exists()


KILLED = """
import itertools, secrets, sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from luthier import app
from luthier.core.states import FilePurpose
from luthier.service import uploads
from luthier.settings import Settings

settings = Settings(data_dir=Path(sys.argv[1]))
service = app.build(settings)
with app.open_data(settings) as context:
    resource_id = service.resource.id
    request = uploads.UploadRequest("a.jsonl", FilePurpose.FINE_TUNE, 40_000_000, "text/jsonl", None)
    upload = uploads.create(context, resource_id, request)
    print(upload.id, flush=True)
    for number in itertools.count():
        part = uploads.add_part(context, resource_id, upload.id, [bytes([number % 256]) * 1_000_000] * 2)
        print(part.id, number, flush=True)
"""


def test_part_that_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
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
    with app.open_data(settings) as context:
        part_ids = [part_id for part_id, _ in told]
        _, file = uploads.complete(context, service.resource.id, upload_id, part_ids, None)
        expected = b"".join(bytes([int(number) % 256]) * 2_000_000 for _, number in told)
        assert b"".join(files.content(context, file)) == expected
