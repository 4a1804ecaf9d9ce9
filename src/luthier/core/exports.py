"""Exports of tuned models: formats, number types, the export as its owner sees it, and the port that makes the files.

`service/exports` keeps them, `engines/exports` makes them in a process of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from luthier.core.states import Tuning


class ExportFormat(StrEnum):
    """What an export's files are for: plain peft, transformers, llama.cpp (two ways), or Ollama."""

    ADAPTER = "adapter"
    MERGED = "merged"
    GGUF = "gguf"
    GGUF_ADAPTER = "gguf-adapter"
    OLLAMA = "ollama"


class ExportDtype(StrEnum):
    """The numbers in which an export stores its matrices; vectors (norms, biases) stay in float32 in a GGUF."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"


DTYPES: dict[ExportFormat, tuple[ExportDtype, ...]] = {
    ExportFormat.ADAPTER: (ExportDtype.F32,),
    ExportFormat.MERGED: (ExportDtype.BF16, ExportDtype.F16),
    ExportFormat.GGUF: (ExportDtype.F16, ExportDtype.BF16, ExportDtype.Q8_0),
    ExportFormat.GGUF_ADAPTER: (ExportDtype.F32, ExportDtype.F16),
    ExportFormat.OLLAMA: (ExportDtype.F16, ExportDtype.BF16, ExportDtype.Q8_0),
}
"""What each format can hold, its default first."""
OF_ADAPTERS = frozenset({ExportFormat.ADAPTER, ExportFormat.GGUF_ADAPTER})
"""The formats that only a model with an adapter has."""


class ExportStatus(StrEnum):
    """States of an export. Only a succeeded one has files, and they have passed the parity check."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file of a finished export; `name` is a plain file name that Luthier chose."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ExportParity:
    """How far the exported files, in their own `tool`, are from what the trainer wrote; differences are in nats.

    `top_agreement` is the share of positions whose likeliest token is the trainer's.
    """

    tool: str
    positions: int
    max_difference: float
    mean_difference: float
    tolerance: float
    mean_tolerance: float
    top_agreement: float


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What a finished export holds."""

    files: tuple[ExportFile, ...]
    parity: ExportParity
    seconds: float


@dataclass(frozen=True, slots=True)
class ExportError:
    """Why an export failed, as its owner reads it."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Export:
    """A tuned model in a form to take away. `attempts` counts the starts of its process.

    `finished_at` and `expires_at` are None until it has ended; `result` is set if it succeeded, `error` if it failed.
    """

    id: str
    resource_id: str
    model: str
    checkpoint_id: str
    format: ExportFormat
    dtype: ExportDtype
    status: ExportStatus
    created_at: datetime
    attempts: int = 0
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    result: ExportResult | None = None
    error: ExportError | None = None


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """The complete input of one export process: folders on this machine, and the words that its files say.

    `base_repository` is the base's hub id, or its name here if it has none. `checkpoint_folder` holds the checkpoint's
    files, and nothing else writes there meanwhile.
    """

    format: ExportFormat
    dtype: ExportDtype
    tuning: Tuning
    quantization: str | None
    model: str
    base_model: str
    base_repository: str
    licence: str
    context_tokens: int
    base_folder: Path
    checkpoint_folder: Path


class Exporter(Protocol):
    """Makes the files of an export: engines/exports/export_process.py, or a test's double."""

    def run(self, spec: ExportSpec, folder: Path, is_wanted: Callable[[], bool]) -> ExportResult | None:
        """Writes the export's files into `folder`, which must not exist and is there only if it is complete.

        Blocks; None if it was ended because `is_wanted` became false, with nothing left. Works in a sibling of
        `folder`, which another call removes. Raises LuthierError for an export that cannot be made or has no parity,
        NoSpace for a full disk, and Unavailable if the process died.
        """
        ...
