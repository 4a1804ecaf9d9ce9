"""An export from top to bottom: its files, their proof in their own tool, the card, the name that makes it complete."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gguf import GGMLQuantizationType

from luthier import manifest
from luthier.atomic_io import fsync_path, fsync_tree
from luthier.core.exports import ExportDtype, ExportFile, ExportFormat, ExportParity, ExportSpec
from luthier.core.states import Tuning
from luthier.engines.exports import export_card, export_parity, merging, safetensors_writer, transformers_folder
from luthier.engines.exports.export_card import ADAPTER_GGUF_FILE, GGUF_FILE
from luthier.engines.exports.export_parity import Tool
from luthier.engines.exports.ollama import modelfile
from luthier.engines.gguf import export, safetensors_file
from luthier.engines.gguf.safetensors_file import Tensor
from luthier.model_folder import MODEL_CARD, BaseModelFolder, CheckpointFolder, HuggingFaceFolder
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

_GGUF_TYPES = {
    ExportDtype.F32: GGMLQuantizationType.F32,
    ExportDtype.F16: GGMLQuantizationType.F16,
    ExportDtype.BF16: GGMLQuantizationType.BF16,
    ExportDtype.Q8_0: GGMLQuantizationType.Q8_0,
}
Note = Callable[[str], None]


def make(
    spec: ExportSpec, target: Path, scratch: Path, threads: int, note: Note, hush: Callable[[], None]
) -> tuple[list[ExportFile], ExportParity]:
    """Makes the export in `scratch`, proves it, and renames it to `target`; `note` hears what is being done.

    From `hush` on nothing that a library prints may be kept: it may quote a prompt.

    Raises Unsupported for a model that the format cannot hold, UpstreamFailed without parity, and OSError.
    """
    folder = scratch / "files"
    folder.mkdir()
    note("writing the files")
    _write(spec, folder)
    note("checking parity")
    dtype = export_parity.probes_dtype(spec.checkpoint_folder)
    with _tool(spec, folder, scratch, threads, dtype, hush) as tool:
        bound = export_parity.bound_of(spec.format, spec.dtype, dtype)
        parity = export_parity.prove(spec.checkpoint_folder, tool, bound)
    (folder / MODEL_CARD).write_text(export_card.render(spec, parity), "utf-8")
    own_manifest = CheckpointFolder(spec.checkpoint_folder).manifest
    if own_manifest.exists():  # the card refers to it
        shutil.copyfile(own_manifest, CheckpointFolder(folder).manifest)
    note("computing checksums")
    files = [ExportFile(path.name, path.stat().st_size, manifest.sha256_of(path)) for path in sorted(folder.iterdir())]
    fsync_tree(folder)
    folder.rename(target)
    fsync_path(target.parent)
    return files, parity


def _write(spec: ExportSpec, folder: Path) -> None:
    """Writes the files of the format, without the card. Raises Unsupported and OSError."""
    checkpoint = CheckpointFolder(spec.checkpoint_folder)
    match spec.format:
        case ExportFormat.ADAPTER:
            transformers_folder.write_tokenizer(checkpoint.hf, folder)
            transformers_folder.write_adapter(checkpoint, folder, spec.base_repository)
        case ExportFormat.MERGED:
            hf, weights = _model(spec)
            transformers_folder.write_tokenizer(checkpoint.hf, folder)
            transformers_folder.write_model_config(hf, folder, spec.dtype)
            safetensors_writer.write_weights(HuggingFaceFolder(folder).weights, weights, spec.dtype)
        case ExportFormat.GGUF:
            _write_gguf(spec, folder)
        case ExportFormat.OLLAMA:
            text = _modelfile(spec)  # first: it is quick, and may be refused
            (folder / modelfile.MODELFILE).write_text(text, "utf-8")
            _write_gguf(spec, folder)
        case ExportFormat.GGUF_ADAPTER:
            target = folder / ADAPTER_GGUF_FILE
            export.export_adapter(spec.checkpoint_folder, spec.base_folder, target, _GGUF_TYPES[spec.dtype])


def _model(spec: ExportSpec) -> tuple[HuggingFaceFolder, dict[str, Tensor]]:
    """The folder of the model's configuration, and its weights with the adapter in them, if it has one."""
    if spec.tuning is Tuning.FULL:
        return HuggingFaceFolder(spec.checkpoint_folder), dict(safetensors_file.weights_of(spec.checkpoint_folder))
    hf = BaseModelFolder(spec.base_folder).hf
    return hf, merging.merged_weights(hf.path, spec.checkpoint_folder)


def _write_gguf(spec: ExportSpec, folder: Path) -> None:
    """Writes the model as one GGUF file; tokenizer, template and end tokens are those of its configuration's folder."""
    hf, weights = _model(spec)
    export.write_model(folder / GGUF_FILE, hf.path, weights, _GGUF_TYPES[spec.dtype], spec.model)


def _modelfile(spec: ExportSpec) -> str:
    """The text of the Modelfile. Raises Unsupported for a template that Ollama's language cannot say."""
    hf = BaseModelFolder(spec.base_folder).hf.path if spec.tuning is Tuning.LORA else spec.checkpoint_folder
    tokenizer = TorchFreeTokenizer(hf)
    template = modelfile.go_chat_template(lambda messages, prompts: tokenizer.text(messages, (), prompts))
    return modelfile.modelfile(template, tokenizer.end_texts, spec.context_tokens, GGUF_FILE)


@contextmanager
def _tool(
    spec: ExportSpec, folder: Path, scratch: Path, threads: int, dtype: str, hush: Callable[[], None]
) -> Iterator[Tool]:
    """The format's own tool with the exported files loaded, while the block lasts."""
    # Here: a process that only needs one of them does not load the other's library.
    from luthier.engines.exports import llama_tool, torch_tool

    match spec.format:
        case ExportFormat.ADAPTER:
            yield torch_tool.load_adapter(folder, BaseModelFolder(spec.base_folder).hf.path, dtype)
        case ExportFormat.MERGED:
            yield torch_tool.load_merged(folder, dtype)
        case ExportFormat.GGUF | ExportFormat.OLLAMA:
            with llama_tool.loaded(folder / GGUF_FILE, None, scratch, threads, hush) as tool:
                yield tool
        case ExportFormat.GGUF_ADAPTER:
            base = BaseModelFolder(spec.base_folder)
            weights = safetensors_file.weights_of(base.hf.path)
            model = base.gguf
            if not model.exists():
                model = export.write_model(scratch / "base.gguf", base.hf.path, weights)
            with llama_tool.loaded(model, folder / ADAPTER_GGUF_FILE, scratch, threads, hush) as tool:
                yield tool
