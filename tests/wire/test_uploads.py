"""Uploads in parts: any order, at the same time, sent again; what is acknowledged is never lost."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI

import received
import rows
from disk import full_disk
from fakes import BASE, KEY, ScriptedExecutor, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.core.errors import Conflict, TooLarge
from luthier.core.models import Principal
from luthier.core.ports import Blob
from luthier.core.quotas import Quota
from luthier.core.states import FilePurpose
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import uploads
from luthier.service.models.serving import Serving
from luthier.service.tenants import quotas

MIME = "text/jsonl"
MIB = 2**20


class Clock:
    def __init__(self, context: Context) -> None:
        self._now = context.now
        self.ahead = timedelta()

    def now(self) -> datetime:
        return self._now() + self.ahead


@pytest.fixture
def clock(context: Context) -> Clock:
    return Clock(context)


@pytest.fixture
def later(context: Context, clock: Clock, switch: tuple[Any, str], url: str, serving: Serving) -> Context:
    """The served context, with a clock that can be moved ahead."""
    made = replace(context, now=clock.now)
    switch[0].app = server.build(Services(made, serving, lambda: None, calls=engine_calls()), None)
    return made


def begin(client: OpenAI, n_bytes: int, **more: object) -> openai.types.Upload:
    fields = {"filename": "rows.jsonl", "mime_type": MIME, "purpose": "fine-tune"} | more
    return client.uploads.create(bytes=n_bytes, **fields)


def send(client: OpenAI, upload_id: str, data: bytes) -> str:
    return client.uploads.parts.create(upload_id, data=data).id


def stored(context: Context) -> list[Path]:
    return [path for path in (context.runs_folder.parent / "blobs").rglob("*") if path.is_file()]


def test_sdk_drives_it_from_file_to_job(client: OpenAI, tmp_path: Path, context: Context) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(rows.good() * 20)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    upload = client.uploads.upload_file_chunked(file=path, mime_type=MIME, purpose="fine-tune", part_size=1000, md5=md5)
    assert (upload.status, upload.bytes, upload.object) == ("completed", path.stat().st_size, "upload")
    assert upload.file is not None
    assert (upload.file.filename, upload.file.status) == ("rows.jsonl", "processed")
    assert client.files.content(upload.file.id).read() == path.read_bytes()
    assert client.fine_tuning.jobs.create(model=BASE, training_file=upload.file.id).training_file == upload.file.id
    assert [path.parent.name for path in stored(context)] == ["files"]


def test_parts_go_up_at_once_and_in_any_order(client: OpenAI) -> None:
    data = os.urandom(3_000_000)
    pieces = [data[start : start + 500_000] for start in range(0, len(data), 500_000)]
    upload = begin(client, len(data))
    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(lambda place: send(client, upload.id, pieces[place]), [3, 5, 0, 4, 1, 2]))
    in_order = [ids[[3, 5, 0, 4, 1, 2].index(place)] for place in range(6)]
    done = client.uploads.complete(upload.id, part_ids=in_order)
    assert done.file is not None
    assert client.files.content(done.file.id).read() == data


def test_part_sent_twice_is_named_once(openai_client: OpenAI) -> None:
    upload = begin(openai_client, 6)
    first = [send(openai_client, upload.id, b"abc") for _ in range(3)]
    last = send(openai_client, upload.id, b"def")
    done = openai_client.uploads.complete(upload.id, part_ids=[first[2], last])
    assert done.file is not None
    assert openai_client.files.content(done.file.id).read() == b"abcdef"


def test_answers_have_each_dialects_fields(url: str, azure: AzureOpenAI, openai_client: OpenAI) -> None:
    for client, more in ((azure, {"azure_block_id"}), (openai_client, set())):
        upload = begin(client, 3)
        assert upload.id.startswith("upload_")
        assert (upload.status, upload.expires_at - upload.created_at) == ("pending", 3600)
        part = client.uploads.parts.create(upload.id, data=b"abc")
        assert set(part.to_dict()) == {"id", "object", "created_at", "upload_id"} | more
        assert (part.object, part.upload_id) == ("upload.part", upload.id)


@pytest.mark.parametrize(
    ("chosen", "md5", "code"),
    [
        ([0], None, "bytes_mismatch"),
        ([0, 1, 2], None, "bytes_mismatch"),
        ([], None, "bytes_mismatch"),
        ([0, 0], None, "part_named_twice"),
        ([1, 0], hashlib.md5(b"abcdef").hexdigest(), "md5_mismatch"),
        ([0, 1], "zz", "invalid_md5"),
        ([0, 9], None, "part_not_found"),
    ],
)
def test_complete_that_does_not_fit_is_refused_and_can_be_put_right(
    openai_client: OpenAI, context: Context, chosen: list[int], md5: str | None, code: str
) -> None:
    upload = begin(openai_client, 6)
    ids = [send(openai_client, upload.id, data) for data in (b"abc", b"def", b"ghi")]
    named = [ids[place] if place < 3 else "part_0" for place in chosen]
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.uploads.complete(upload.id, part_ids=named, **({"md5": md5} if md5 else {}))
    assert caught.value.code == code
    assert list(openai_client.files.list()) == []
    assert {path.parent.parent.name for path in stored(context)} == {"uploads"}
    right = hashlib.md5(b"abcdef").hexdigest().upper()
    assert openai_client.uploads.complete(upload.id, part_ids=ids[:2], md5=right).status == "completed"


def test_complete_asked_again_gives_the_same_file_and_other_parts_a_conflict(client: OpenAI) -> None:
    upload = begin(client, 3)
    ids = [send(client, upload.id, b"abc") for _ in range(2)]
    first = client.uploads.complete(upload.id, part_ids=ids[:1])
    again = client.uploads.complete(upload.id, part_ids=ids[:1])
    assert first.file is not None
    assert again.file is not None
    assert first.file.id == again.file.id
    assert len(list(client.files.list())) == 1
    for call in (
        lambda: client.uploads.complete(upload.id, part_ids=ids[1:]),
        lambda: client.uploads.cancel(upload.id),
        lambda: send(client, upload.id, b"abc"),
    ):
        with pytest.raises(openai.ConflictError, match="completed") as caught:
            call()
        assert caught.value.response.headers["x-should-retry"] == "false"


def test_two_completes_at_once_make_one_file(openai_client: OpenAI, context: Context) -> None:
    upload = begin(openai_client, 10 * MIB)
    ids = [send(openai_client, upload.id, bytes([place]) * MIB) for place in range(10)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: openai_client.uploads.complete(upload.id, part_ids=ids), range(4)))
    assert len({answer.file.id for answer in done if answer.file}) == 1
    assert len(list(openai_client.files.list())) == 1
    assert len(stored(context)) == 1


def test_cancelled_upload_keeps_nothing_and_takes_nothing(client: OpenAI, context: Context) -> None:
    upload = begin(client, 3)
    part = send(client, upload.id, b"abc")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert stored(context) == []
    for call in (
        lambda: send(client, upload.id, b"abc"),
        lambda: client.uploads.complete(upload.id, part_ids=[part]),
        lambda: client.uploads.cancel(upload.id),
    ):
        with pytest.raises(openai.ConflictError, match="cancelled"):
            call()


def test_upload_expires_after_its_hour_and_its_parts_go(
    openai_client: OpenAI, later: Context, clock: Clock, executor: ScriptedExecutor, serving: Serving
) -> None:
    upload = begin(openai_client, 3)
    part = send(openai_client, upload.id, b"abc")
    clock.ahead = timedelta(seconds=3601)
    for call in (
        lambda: send(openai_client, upload.id, b"abc"),
        lambda: openai_client.uploads.complete(upload.id, part_ids=[part]),
        lambda: openai_client.uploads.cancel(upload.id),
    ):
        with pytest.raises(openai.ConflictError) as caught:
            call()
        assert caught.value.code == "upload_expired"
    assert len(stored(later)) == 1
    Supervisor(later, executor, serving, tick_s=0.01).tick_storage()
    assert stored(later) == []
    with pytest.raises(openai.ConflictError, match="expired"):
        send(openai_client, upload.id, b"abc")


@pytest.mark.parametrize(
    ("more", "n_bytes", "status"),
    [
        ({}, 512 * MIB, 200),
        ({}, 512 * MIB + 1, 413),
        ({"purpose": "user_data"}, 8192 * MIB, 200),
        ({"purpose": "user_data"}, 8192 * MIB + 1, 413),
        ({}, 0, 400),
        ({}, -1, 400),
        ({}, 10**30, 400),
        ({"purpose": "botch"}, 3, 400),
        ({"filename": ""}, 3, 400),
        ({"mime_type": "\udc00"}, 3, 400),
        ({"expires_after": {"anchor": "created_at", "seconds": 3599}}, 3, 400),
    ],
)
def test_upload_that_never_could_be_a_file_is_refused_at_its_creation(
    url: str, context: Context, caller: Principal, more: dict[str, object], n_bytes: int, status: int
) -> None:
    quotas.set_limits(context, caller.resource.id, {Quota.FILE_BYTES: 2**40})
    body = {"filename": "rows.jsonl", "mime_type": MIME, "purpose": "fine-tune", "bytes": n_bytes} | more
    headers = {"api-key": KEY, "content-type": "application/json"}
    answer = httpx2.post(f"{url}/v1/uploads", content=json.dumps(body), headers=headers)
    assert answer.status_code == status, answer.text


def test_file_of_an_upload_expires_as_it_was_asked(openai_client: OpenAI) -> None:
    upload = begin(openai_client, 3, expires_after={"anchor": "created_at", "seconds": 3600})
    done = openai_client.uploads.complete(upload.id, part_ids=[send(openai_client, upload.id, b"abc")])
    assert done.file is not None
    assert done.file.expires_at == done.file.created_at + 3600


def test_part_over_64_mib_is_refused_and_not_kept(openai_client: OpenAI, context: Context) -> None:
    upload = begin(openai_client, 100 * MIB)
    assert send(openai_client, upload.id, bytes(64 * MIB))
    for n_bytes in (64 * MIB + 1, 66 * MIB):
        with pytest.raises(openai.APIStatusError) as caught:
            send(openai_client, upload.id, bytes(n_bytes))
        assert caught.value.status_code == 413
    assert [path.stat().st_size for path in stored(context)] == [64 * MIB]


def test_empty_part_missing_data_and_unknown_upload_are_told_apart(url: str, openai_client: OpenAI) -> None:
    upload = begin(openai_client, 3)
    with pytest.raises(openai.BadRequestError, match="no bytes"):
        send(openai_client, upload.id, b"")
    other = {"files": {"file": ("a", b"abc")}, "headers": {"api-key": KEY}}
    missing = httpx2.post(f"{url}/v1/uploads/{upload.id}/parts", **other)
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "data")
    with pytest.raises(openai.NotFoundError):
        send(openai_client, "upload_0", b"abc")
    with pytest.raises(openai.NotFoundError):
        openai_client.uploads.complete("upload_0", part_ids=[])


def test_far_more_bytes_than_announced_are_refused(context: Context, caller: Principal) -> None:
    request = uploads.UploadRequest("a.jsonl", FilePurpose.FINE_TUNE, 1, MIME, None)
    upload = uploads.create(context, caller.resource.id, request)
    received.part(context, caller.resource.id, upload.id, [bytes(64 * MIB)])
    received.part(context, caller.resource.id, upload.id, [b"ab"])
    with pytest.raises(TooLarge, match="far more bytes"):
        received.part(context, caller.resource.id, upload.id, [b"a"])


def test_part_onto_a_full_disk_is_refused_and_the_upload_goes_on_when_there_is_room(
    openai_client: OpenAI, context: Context
) -> None:
    upload = begin(openai_client, 12_000_000)
    with full_disk(6_000_000), pytest.raises(openai.InternalServerError) as caught:
        send(openai_client, upload.id, bytes(12_000_000))
    assert caught.value.status_code == 507
    assert stored(context) == []
    part = send(openai_client, upload.id, bytes(12_000_000))
    assert openai_client.uploads.complete(upload.id, part_ids=[part]).status == "completed"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_upload_cancelled_while_it_is_joined_becomes_no_file(context: Context, caller: Principal, moment: str) -> None:
    resource_id = caller.resource.id
    request = uploads.UploadRequest("a.jsonl", FilePurpose.FINE_TUNE, 6, MIME, None)
    upload = uploads.create(context, resource_id, request)
    ids = [received.part(context, resource_id, upload.id, [data]).id for data in (b"abc", b"def")]
    blobs = context.blobs

    class Cancelling:
        """Has the upload cancelled when its parts are about to be read, or have just been."""

        def __getattr__(self, name: str) -> object:
            return getattr(blobs, name)

        def join(self, key: str, parts: Sequence[str], on_chunk: Callable[[bytes], object]) -> Blob:
            if moment == "before":
                uploads.cancel(context, resource_id, upload.id)
            joined = blobs.join(key, parts, on_chunk)
            if moment == "after":
                uploads.cancel(context, resource_id, upload.id)
            return joined

    with pytest.raises(Conflict, match="cancelled"):
        uploads.complete(replace(context, blobs=Cancelling()), resource_id, upload.id, ids, None)
    assert stored(context) == []
