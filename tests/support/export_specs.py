"""Checkpoints of small random models, as the trainer leaves them, and specs of their exports."""

import shutil
from pathlib import Path
from typing import Any

import transformers

import small_models
from luthier.core.exports import DTYPES, ExportDtype, ExportFormat, ExportSpec
from luthier.core.states import Tuning
from luthier.engines.exports import export_files

PROMPT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def lora(folder: Path, kind: str = "qwen2", **settings: Any) -> tuple[Path, Path]:
    """A base and a checkpoint with an adapter on it."""
    base = small_models.make_base(folder / "base", kind)
    checkpoint = small_models.make_adapter(folder / "checkpoint", base, **settings)
    for name in PROMPT_FILES:
        shutil.copyfile(base / "hf" / name, checkpoint / name)
    small_models.write_probes(checkpoint, base, checkpoint)
    return base, checkpoint


def full(folder: Path, kind: str = "qwen2") -> tuple[Path, Path]:
    """A base and a checkpoint of which all weights were tuned."""
    base = small_models.make_base(folder / "base", kind)
    tuned = small_models.make_base(folder / "tuned", kind, seed=7)
    checkpoint = folder / "checkpoint"
    shutil.copytree(tuned / "hf", checkpoint)
    small_models.write_probes(checkpoint, tuned)
    return base, checkpoint


def spec(
    folders: tuple[Path, Path],
    format: ExportFormat,
    dtype: ExportDtype | None = None,
    tuning: Tuning = Tuning.LORA,
    quantization: str | None = None,
) -> ExportSpec:
    return ExportSpec(
        format=format,
        dtype=dtype or DTYPES[format][0],
        tuning=tuning,
        quantization=quantization,
        model="small.ft-1",
        base_model="small",
        base_repository="someone/small",
        licence="Apache-2.0",
        context_tokens=1024,
        base_folder=folders[0],
        checkpoint_folder=folders[1],
    )


def make(spec: ExportSpec, folder: Path, damage: Any = None) -> Any:
    """Makes the export in this process, as its own process does; `damage` gets the files before they are proven."""
    transformers.utils.logging.disable_progress_bar()
    folder.mkdir()

    def note(stage: str) -> None:
        if stage == "checking parity" and damage is not None:
            damage(folder / "files")

    return export_files.make(spec, folder / "done", folder, 1, note, lambda: None)
