"""/luthier/exports: what is asked for, made once, downloaded by ranges, and gone when its time or its model is."""

import io
import tarfile
from datetime import timedelta
from typing import Any

import httpx2
import pytest

import sharing
from fake_exports import CONTENT, FakeExporter
from fakes import BASE, KEY
from luthier.core.errors import NoSpace, Unavailable, UpstreamFailed
from luthier.core.roles import Role
from luthier.service.background.export_worker import MAX_ATTEMPTS, ExportWorker
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.exports import exports
from luthier.service.tenants import keys
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from waiting import until

HEAD = {"api-key": KEY}


@pytest.fixture
def exporter() -> FakeExporter:
    return FakeExporter()


@pytest.fixture
def worker(context: Context, exporter: FakeExporter) -> ExportWorker:
    return ExportWorker(context, exporter, timedelta(hours=24))


@pytest.fixture
def model(url: str, supervisor: Supervisor) -> str:
    return sharing.train(url, supervisor)[1]


def create(url: str, model: str, format: str = "gguf", key: str = KEY, **more: str) -> httpx2.Response:
    body = {"model": model, "format": format} | more
    return httpx2.post(f"{url}/luthier/exports", headers={"api-key": key}, json=body)


def get(url: str, path: str = "", key: str = KEY, **headers: str) -> httpx2.Response:
    return httpx2.get(f"{url}/luthier/exports{path}", headers={"api-key": key} | headers)


def finished(url: str, model: str, worker: ExportWorker, **more: str) -> dict[str, Any]:
    export_id = create(url, model, **more).json()["id"]
    worker.tick()
    made: dict[str, Any] = get(url, f"/{export_id}").json()
    assert made["status"] == "succeeded", made
    return made


def test_export_is_queued_then_made_with_figures_sizes_and_hashes(
    url: str, model: str, worker: ExportWorker, exporter: FakeExporter
) -> None:
    created = create(url, model, dtype="q8_0")
    assert created.status_code == 200
    queued = created.json()
    assert (queued["object"], queued["status"], queued["files"], queued["parity"]) == (
        "luthier.export",
        "queued",
        [],
        None,
    )
    assert (queued["format"], queued["dtype"], queued["model"]) == ("gguf", "q8_0", model)
    worker.tick()
    made = get(url, f"/{queued['id']}").json()
    assert made["status"] == "succeeded"
    assert {file["name"]: file["bytes"] for file in made["files"]} == {
        name: len(text) for name, text in CONTENT.items()
    }
    assert made["bytes"] == sum(map(len, CONTENT.values()))
    assert made["parity"]["max_difference"] == 0.02
    assert made["seconds"] == 1.5
    assert made["expires_at"] - made["finished_at"] in range(86_399, 86_402)
    [spec] = exporter.specs
    assert spec.base_repository == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert not spec.checkpoint_folder.exists(), "what only the making needed is gone"
    assert [one["id"] for one in get(url).json()["data"]] == [queued["id"]]


def test_same_export_again_is_the_same_one_and_another_dtype_is_another(
    url: str, model: str, worker: ExportWorker, exporter: FakeExporter
) -> None:
    made = finished(url, model, worker)
    assert create(url, model).json() == made
    assert create(url, model, dtype="f16").json() == made, "f16 is the default of gguf"
    assert create(url, model, dtype="bf16").json()["id"] != made["id"]
    worker.tick()
    assert len(exporter.specs) == 2


def test_export_of_a_deployment_is_that_of_its_model(url: str, model: str, worker: ExportWorker) -> None:
    assert sharing.put(url, DEFAULT_RESOURCE, "clippy", model).status_code == 201
    assert create(url, "clippy").json()["id"] == create(url, model).json()["id"]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"format": "merged", "dtype": "q8_0"}, "dtype_not_for_format", "dtype"),
        ({"format": "gguf-adapter", "dtype": "bf16"}, "dtype_not_for_format", "dtype"),
        ({"format": "onnx"}, None, "format"),
        ({"format": "gguf", "dtype": "q4_k"}, None, "dtype"),
        ({"format": "gguf", "model": BASE}, "base_model_not_exportable", "model"),
    ],
)
def test_export_that_cannot_be_is_refused_by_name(
    url: str, model: str, body: dict[str, str], code: str | None, param: str
) -> None:
    refused = httpx2.post(f"{url}/luthier/exports", headers=HEAD, json={"model": model} | body)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["param"] == param
    assert code in (None, error["code"])


def test_export_of_an_unknown_model_is_404(url: str) -> None:
    assert create(url, "nobody").status_code == 404


def test_adapter_of_a_model_with_all_weights_tuned_is_refused(
    url: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.model_folder.ADAPTER_WEIGHTS", "no-such-file")
    refused = create(url, model, "adapter")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "model_has_no_adapter")


def test_files_come_whole_by_range_and_as_one_tar(url: str, model: str, worker: ExportWorker) -> None:
    made = finished(url, model, worker)
    path, text = f"/{made['id']}/files/model.gguf", CONTENT["model.gguf"]
    whole = get(url, path)
    assert (whole.status_code, whole.content) == (200, text)
    etag = whole.headers["etag"]
    assert etag == f'"{next(file["sha256"] for file in made["files"] if file["name"] == "model.gguf")}"'
    part = get(url, path, Range="bytes=1000000-", **{"If-Range": etag})
    assert (part.status_code, part.content) == (206, text[1_000_000:])
    assert part.headers["content-range"] == f"bytes 1000000-{len(text) - 1}/{len(text)}"
    assert get(url, path, Range="bytes=0-9", **{"If-Range": '"another"'}).content == text
    beyond = get(url, path, Range=f"bytes={len(text)}-")
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "range_not_satisfiable")
    tar = get(url, f"/{made['id']}/content")
    assert int(tar.headers["content-length"]) == len(tar.content)
    with tarfile.open(fileobj=io.BytesIO(tar.content)) as archive:
        found = {member.name: archive.extractfile(member) for member in archive}
        assert {name: stream.read() for name, stream in found.items() if stream} == {
            f"{made['id']}/{name}": content for name, content in CONTENT.items()
        }


@pytest.mark.parametrize(
    "name", ["export.json", "nothing", "..%2Fexport.json", "..%2F..%2F..%2Fapi-key", "%2Fetc%2Fpasswd"]
)
def test_only_files_of_the_export_can_be_named(url: str, model: str, worker: ExportWorker, name: str) -> None:
    made = finished(url, model, worker)
    assert get(url, f"/{made['id']}/files/{name}").status_code == 404


def test_export_that_is_not_finished_has_no_bytes(url: str, model: str) -> None:
    export_id = create(url, model).json()["id"]
    for path in (f"/{export_id}/content", f"/{export_id}/files/README.md"):
        answer = get(url, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "export_not_finished")


def test_export_without_parity_fails_with_figures_is_not_handed_over_and_can_be_tried_again(
    url: str, model: str, worker: ExportWorker, exporter: FakeExporter
) -> None:
    exporter.fails = [UpstreamFailed("parity_failed", "they differ by up to 2.5000 nats"), NoSpace("disk_full", "full")]
    export_id = create(url, model).json()["id"]
    worker.tick()
    failed = get(url, f"/{export_id}").json()
    assert (failed["status"], failed["files"]) == ("failed", [])
    assert failed["error"] == {"code": "parity_failed", "message": "they differ by up to 2.5000 nats"}
    assert get(url, f"/{export_id}/content").status_code == 409
    assert create(url, model).json()["status"] == "queued"
    worker.tick()
    assert get(url, f"/{export_id}").json()["error"]["code"] == "disk_full"
    assert finished(url, model, worker)["id"] == export_id


def test_export_whose_process_dies_is_made_again_and_given_up_after_three(
    url: str, model: str, worker: ExportWorker, exporter: FakeExporter
) -> None:
    exporter.fails = [Unavailable("export_died", "it died")]
    assert finished_after(url, create(url, model).json()["id"], worker, 2) == "succeeded"
    exporter.fails = [Unavailable("export_died", "it died")] * 9
    export_id = create(url, model, "merged").json()["id"]
    assert finished_after(url, export_id, worker, MAX_ATTEMPTS + 1) == "failed"
    assert get(url, f"/{export_id}").json()["error"]["code"] == "export_died"


def finished_after(url: str, export_id: str, worker: ExportWorker, ticks: int) -> str:
    for _ in range(ticks):
        worker.tick()
    return str(get(url, f"/{export_id}").json()["status"])


def test_kill_of_the_service_throws_a_half_export_away_and_the_next_start_makes_it(
    url: str, model: str, context: Context, worker: ExportWorker, exporter: FakeExporter
) -> None:
    export_id = create(url, model).json()["id"]
    export = exports.get(context, DEFAULT_RESOURCE.id, export_id)
    exports.move(context, export, status="running", attempts=1)  # as a service that was killed leaves it
    half = context.exports_folder / export_id / "files"
    half.mkdir()
    (half / "model.gguf").write_bytes(b"half")
    assert get(url, f"/{export_id}/files/model.gguf").status_code == 409
    ExportWorker(context, exporter).tick()
    assert get(url, f"/{export_id}/files/model.gguf").content == CONTENT["model.gguf"]


def test_stop_of_the_service_ends_an_export_and_counts_as_no_attempt(
    url: str, model: str, context: Context, worker: ExportWorker, exporter: FakeExporter
) -> None:
    exporter.holds = True
    export_id = create(url, model).json()["id"]
    worker.start()
    while not exporter.specs:
        pass
    assert get(url, f"/{export_id}").json()["status"] == "running"
    worker.stop()
    stopped = exports.get(context, DEFAULT_RESOURCE.id, export_id)
    assert (stopped.status, stopped.attempts) == ("queued", 0)


def test_deleted_export_ends_and_leaves_nothing(
    url: str, model: str, context: Context, worker: ExportWorker, exporter: FakeExporter
) -> None:
    exporter.holds = True
    export_id = create(url, model).json()["id"]
    worker.start()
    while not exporter.specs:
        pass
    deleted = httpx2.delete(f"{url}/luthier/exports/{export_id}", headers=HEAD)
    assert deleted.json() == {"id": export_id, "object": "luthier.export", "deleted": True}
    assert get(url, f"/{export_id}").status_code == 404
    worker.stop()
    worker.tick()
    assert list(context.exports_folder.iterdir()) == []


def test_export_expires_after_its_time_and_is_removed(
    url: str, model: str, context: Context, exporter: FakeExporter
) -> None:
    worker = ExportWorker(context, exporter, timedelta(seconds=60))
    made = finished(url, model, worker)
    context.now.__self__.time += timedelta(seconds=120)  # type: ignore[attr-defined]
    assert get(url, f"/{made['id']}").status_code == 404
    assert get(url, f"/{made['id']}/files/README.md").status_code == 404
    worker.tick()
    assert list(context.exports_folder.iterdir()) == []


def test_exports_of_a_deleted_model_are_removed(url: str, model: str, context: Context, worker: ExportWorker) -> None:
    finished(url, model, worker)
    assert httpx2.delete(f"{url}/v1/models/{model}", headers=HEAD).status_code == 200
    worker.tick()
    assert get(url).json()["data"] == []
    assert list(context.exports_folder.iterdir()) == []


def test_key_that_may_only_infer_sees_exports_and_takes_no_weights(
    url: str, model: str, context: Context, worker: ExportWorker
) -> None:
    made = finished(url, model, worker)
    key = keys.create(context, DEFAULT_RESOURCE.id, "caller", Role.OPENAI_USER)
    assert get(url, f"/{made['id']}", key).status_code == 200
    for path in (f"/{made['id']}/content", f"/{made['id']}/files/model.gguf"):
        assert get(url, path, key).status_code == 403
    assert create(url, model, "merged", key).status_code == 403


def test_model_that_is_only_shared_cannot_be_exported_by_the_other_resource(
    url: str, model: str, context: Context, worker: ExportWorker
) -> None:
    made = finished(url, model, worker)
    sharing.add_other(context)
    name = httpx2.get(f"{url}/v1/models/{model}", headers=HEAD).json()["id"]
    job = f"ftjob-{name.partition('.ft-')[2]}"
    last = httpx2.get(f"{url}/v1/fine_tuning/jobs/{job}/checkpoints", headers=HEAD).json()["data"][0]
    permissions = f"{url}/v1/fine_tuning/checkpoints/{last['fine_tuned_model_checkpoint']}/permissions"
    shared = httpx2.post(permissions, headers=HEAD, json={"project_ids": [sharing.OTHER.account]})
    assert shared.status_code == 200, shared.text
    refused = create(url, last["fine_tuned_model_checkpoint"], key=sharing.OTHER_KEY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_own")
    assert get(url, f"/{made['id']}", sharing.OTHER_KEY).status_code == 404
    assert get(url, key=sharing.OTHER_KEY).json()["data"] == []


def test_resource_keeps_so_many_exports_and_no_more(
    url: str, model: str, monkeypatch: pytest.MonkeyPatch, worker: ExportWorker
) -> None:
    monkeypatch.setattr("luthier.service.exports.exports.MAX_EXPORTS", 1)
    monkeypatch.setattr("luthier.core.ids.DEFAULT_RESOURCE", "another")
    made = finished(url, model, worker)
    refused = create(url, model, "merged")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "exports_quota_exceeded")
    assert create(url, model).json() == made
    httpx2.delete(f"{url}/luthier/exports/{made['id']}", headers=HEAD)
    assert create(url, model, "merged").status_code == 200


def test_downloads_are_in_the_audit_trail(url: str, model: str, context: Context, worker: ExportWorker) -> None:
    made = finished(url, model, worker)
    get(url, f"/{made['id']}/files/README.md")

    def last() -> str:
        return context.audit_file.read_text().splitlines()[-1]

    until(lambda: "/luthier/exports/{export_id}/files/{file_name}" in last(), 10)
    assert made["id"] in last()
