"""Exports of a supervisor that was paused while it made one: what it still writes harms nothing of the next one's."""

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

import sharing
from fake_exports import PARITY, FakeExporter
from fakes import KEY
from luthier.core.errors import UpstreamFailed
from luthier.core.exports import ExportResult, ExportSpec
from luthier.service.background.export_worker import ExportWorker
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context


class PausedExporter(FakeExporter):
    """Is paused in the middle of an export while the next supervisor makes it, then ends it in its own way."""

    def __init__(self, next_one: ExportWorker, end: Callable[[], ExportResult | None]) -> None:
        super().__init__()
        self.next_one, self.end = next_one, end
        self.was_wanted: bool | None = None

    def run(self, spec: ExportSpec, folder: Path, is_wanted: Callable[[], bool]) -> ExportResult | None:
        assert is_wanted()
        self.next_one.tick()
        self.was_wanted = is_wanted()
        return self.end()


def raise_fault() -> ExportResult | None:
    raise UpstreamFailed("export_failed", "Its files were gone.")


@pytest.mark.parametrize("end", [lambda: None, lambda: ExportResult((), PARITY, 9.0), raise_fault])
def test_export_that_the_next_supervisor_has_made_keeps_its_state_and_its_files(
    url: str, context: Context, supervisor: Supervisor, end: Callable[[], ExportResult | None]
) -> None:
    model = sharing.train(url, supervisor)[1]
    headers = {"api-key": KEY}
    created = httpx2.post(f"{url}/luthier/exports", headers=headers, json={"model": model, "format": "gguf"}).json()
    exporter = PausedExporter(ExportWorker(context, FakeExporter()), end)
    ExportWorker(context, exporter).tick()
    assert exporter.was_wanted is False
    made = httpx2.get(f"{url}/luthier/exports/{created['id']}", headers=headers).json()
    assert (made["status"], made["seconds"]) == ("succeeded", 1.5)
    name, size = made["files"][0]["name"], made["files"][0]["bytes"]
    answer = httpx2.get(f"{url}/luthier/exports/{created['id']}/files/{name}", headers=headers)
    assert (answer.status_code, len(answer.content)) == (200, size)
