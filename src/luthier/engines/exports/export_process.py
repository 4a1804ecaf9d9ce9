"""An export's process as the service sees it: started in a folder of its own, waited for, ended if nobody wants it."""

import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from luthier.core.errors import NoSpace, Unavailable, UpstreamFailed
from luthier.core.exports import (
    ExportDtype,
    ExportFile,
    ExportFormat,
    ExportParity,
    ExportResult,
    ExportSpec,
)
from luthier.core.states import Tuning
from luthier.engines import child_process

logger = logging.getLogger(__name__)

SCRATCH = "making-"
"""What the name of the process's folder begins with, a sibling of the folder that the export becomes. Each process has
one of its own: that of a service which was paused may still work when the next service begins anew.
"""
RESULT, ERROR, STAGE = "result.json", "error.json", "stage"
_MODULE = "luthier.engines.exports"
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Config:
    """What an export process is told: the spec, the folder that the export becomes, and the threads of llama.cpp."""

    spec: ExportSpec
    target: Path
    threads: int

    def to_json(self) -> str:
        return json.dumps({"spec": asdict(self.spec), "target": self.target, "threads": self.threads}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The configuration of a file that `to_json` made."""
        content: dict[str, Any] = json.loads(text)
        spec = content["spec"]
        kinds = {"format": ExportFormat, "dtype": ExportDtype, "tuning": Tuning}
        folders = {name: Path(spec[name]) for name in ("base_folder", "checkpoint_folder")}
        typed = {name: kind(spec[name]) for name, kind in kinds.items()}
        return cls(ExportSpec(**spec | typed | folders), Path(content["target"]), content["threads"])


class ExportProcess:
    """Implements core.exports.Exporter: a process for each export, of low priority."""

    def __init__(self, python: str = sys.executable, threads: int | None = None) -> None:
        """`threads` is for what computes in it; None is one per core."""
        self._python = python
        self._threads = threads or os.cpu_count() or 1
        # Threads that spin while they wait for one another collapse beside a training run or an engine.
        self._more = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(self._threads)}

    def run(self, spec: ExportSpec, folder: Path, is_wanted: Callable[[], bool]) -> ExportResult | None:
        """As the port says."""
        for former in folder.parent.glob(f"{SCRATCH}*"):
            shutil.rmtree(former, ignore_errors=True)
        scratch = folder.with_name(f"{SCRATCH}{secrets.token_hex(4)}")
        config = Config(spec, folder, self._threads).to_json()
        began = time.monotonic()
        process = child_process.spawn(self._python, _MODULE, scratch, config, self._more)
        try:
            while is_wanted():
                try:
                    process.wait(_LOOK_S)
                except subprocess.TimeoutExpired:
                    continue
                return _outcome(scratch, folder, process.returncode, time.monotonic() - began)
            return None
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

    @staticmethod
    def stage(folder: Path) -> str | None:
        """What the process of an export is doing, None if it does not say."""
        for scratch in folder.parent.glob(f"{SCRATCH}*"):
            with suppress(OSError):
                return (scratch / STAGE).read_text("utf-8")
        return None


def _outcome(scratch: Path, folder: Path, status: int, seconds: float) -> ExportResult:
    """The result that a process left, whose scratch folder is then removed. Raises what it left instead."""
    if (scratch / ERROR).exists():
        error = json.loads((scratch / ERROR).read_bytes())
        shutil.rmtree(scratch, ignore_errors=True)
        kind = NoSpace if error["is_space"] else UpstreamFailed
        raise kind(error["code"], error["message"])
    if status != 0 or not folder.exists() or not (scratch / RESULT).exists():
        # The log stays, until the next attempt.
        logger.error("export process died status=%d log=%s", status, scratch / child_process.LOG)
        hint = " The system killed it, most likely for lack of memory." if status == -9 else ""
        raise Unavailable("export_died", f"The export's process ended without a result (status {status}).{hint}")
    result = json.loads((scratch / RESULT).read_bytes())
    shutil.rmtree(scratch, ignore_errors=True)
    files = tuple(ExportFile(**file) for file in result["files"])
    return ExportResult(files, ExportParity(**result["parity"]), seconds)
