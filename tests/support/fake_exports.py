"""The port that makes an export's files, for tests: writes two small files, or does what the test says instead."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from luthier.core.exports import ExportFile, ExportParity, ExportResult, ExportSpec

CONTENT = {"README.md": b"---\nlicense: apache-2.0\n---\n\n# A model\n", "model.gguf": bytes(range(256)) * 5000}
PARITY = ExportParity("llama.cpp", 64, 0.02, 0.003, 0.15, 0.015, 1.0)


class FakeExporter:
    """Implements core.exports.Exporter. `fails` are raised, one a call; while `holds`, a call waits to be unwanted."""

    def __init__(self) -> None:
        self.specs: list[ExportSpec] = []
        self.fails: list[Exception] = []
        self.holds = False

    def run(self, spec: ExportSpec, folder: Path, is_wanted: Callable[[], bool]) -> ExportResult | None:
        assert not folder.exists()
        self.specs.append(spec)
        while self.holds and is_wanted():
            time.sleep(0.005)
        if not is_wanted():
            return None
        if self.fails:
            raise self.fails.pop(0)
        folder.mkdir()
        for name, content in CONTENT.items():
            (folder / name).write_bytes(content)
        files = [ExportFile(name, len(text), hashlib.sha256(text).hexdigest()) for name, text in CONTENT.items()]
        return ExportResult(tuple(files), PARITY, 1.5)
