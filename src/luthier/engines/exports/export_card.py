"""The model card of an export: the checkpoint's own, with what this form of it is, its proof, and how to load it."""

import re

import huggingface_hub

from luthier.core.exports import OF_ADAPTERS, ExportDtype, ExportFormat, ExportParity, ExportSpec
from luthier.core.states import Tuning
from luthier.engines.exports.ollama.modelfile import MODELFILE
from luthier.model_folder import CheckpointFolder

GGUF_FILE = "model.gguf"
ADAPTER_GGUF_FILE = "adapter.gguf"
_LOADING = "## How to load it"
_LIBRARIES = {
    ExportFormat.ADAPTER: "peft",
    ExportFormat.MERGED: "transformers",
    ExportFormat.GGUF: "llama.cpp",
    ExportFormat.GGUF_ADAPTER: "llama.cpp",
    ExportFormat.OLLAMA: "ollama",
}
_WHOSE_BASE = """

The base weights must be those whose sha256 stands above. Bases that came from a quantized file, or were rounded to
8 or 4 bits, are not what the hub publishes under the name: the formats merged and gguf need no base.
"""
_WORDS = {
    ExportFormat.ADAPTER: "the LoRA adapter, for peft",
    ExportFormat.MERGED: "all weights in one model, for transformers",
    ExportFormat.GGUF: "all weights in one GGUF file, for llama.cpp",
    ExportFormat.GGUF_ADAPTER: "the LoRA adapter as GGUF, for llama.cpp on a GGUF of the base model",
    ExportFormat.OLLAMA: "all weights in one GGUF file with a Modelfile, for Ollama",
}


def render(spec: ExportSpec, parity: ExportParity) -> str:
    """The text of README.md, with its YAML header for the hub. Raises OSError."""
    path = CheckpointFolder(spec.checkpoint_folder).model_card
    own = path.read_text("utf-8") if path.exists() else f"# {spec.model}\n"
    card = huggingface_hub.ModelCard(own, ignore_metadata_errors=True)
    card.data["base_model"] = spec.base_repository
    if not card.data.get("license"):
        card.data["license"] = "other"
        card.data["license_name"] = re.sub(r"[^a-z0-9.]+", "-", spec.licence.lower())
    card.data["pipeline_tag"] = "text-generation"
    card.data["library_name"] = _LIBRARIES[spec.format]
    card.data["base_model_relation"] = _relation(spec)
    card.data["tags"] = _tags(spec, card.data.get("tags"))
    text = card.text.partition(_LOADING)[0].strip()
    parts = [f"---\n{card.data.to_yaml()}\n---", text, _section(spec, parity), _LOADING, _how_to_load(spec)]
    return "\n\n".join(parts).rstrip() + "\n"


def _relation(spec: ExportSpec) -> str:
    """What the model is to its base, in the hub's words."""
    if spec.format in OF_ADAPTERS:
        return "adapter"
    return "quantized" if spec.dtype is ExportDtype.Q8_0 else "finetune"


def _tags(spec: ExportSpec, tags: object) -> list[str]:
    """The card's tags, and one for the kind of file."""
    kinds = {ExportFormat.ADAPTER: [], ExportFormat.MERGED: []}.get(spec.format, ["gguf"])
    own = [str(tag) for tag in tags] if isinstance(tags, list) else ["luthier"]
    return list(dict.fromkeys([*own, *kinds]))


def _section(spec: ExportSpec, parity: ExportParity) -> str:
    """What this export is, and the figures of its proof."""
    lines = [
        "## This export",
        "",
        f"It holds {_WORDS[spec.format]}; matrices are stored in {spec.dtype}.",
        f"Before it was handed over, {parity.tool} loaded these files and was asked the probes that the trainer had",
        f"stored: over {parity.positions} positions its log-probabilities differ from the trainer's by at most",
        f"{parity.max_difference:.4f} nats ({parity.mean_difference:.4f} in the mean); of the likeliest tokens",
        f"{parity.top_agreement:.1%} are the same.",
    ]
    if spec.quantization is not None and spec.tuning is Tuning.LORA:
        lines += ["", _few_bits(spec)]
    return "\n".join(lines)


def _few_bits(spec: ExportSpec) -> str:
    """What someone must know of a model that was tuned on a base in few bits."""
    rounded = f"The adapter was trained on the base's weights rounded to {spec.quantization}"
    if spec.format in OF_ADAPTERS:
        return (
            f"{rounded}, and the figures above are with those.\nOn {spec.base_repository} as it is published it is "
            "another model, with clearly other answers:\nthe formats merged and gguf hold the rounded weights."
        )
    return f"{rounded}; those are the weights that it is merged into here."


def _how_to_load(spec: ExportSpec) -> str:
    """Code or commands that load the files."""
    match spec.format:
        case ExportFormat.ADAPTER:
            base = f'AutoModelForCausalLM.from_pretrained("{spec.base_repository}", dtype="bfloat16")'
            loading = "model = peft.PeftModel.from_pretrained(base, folder)"
            return _python("import peft", f"base = transformers.{base}", loading) + _WHOSE_BASE
        case ExportFormat.MERGED:
            return _python("", 'model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")')
        case ExportFormat.GGUF:
            return _shell(f"llama-server -m {GGUF_FILE} --jinja")
        case ExportFormat.GGUF_ADAPTER:
            return _shell(f"llama-server -m BASE.gguf --lora {ADAPTER_GGUF_FILE} --jinja") + _WHOSE_BASE
        case ExportFormat.OLLAMA:
            return _shell(f"ollama create my-model -f {MODELFILE}", "ollama run my-model")


def _python(first: str, *lines: str) -> str:
    """A block of Python with the tokenizer at its end."""
    head = [*([first] if first else []), "import transformers", "", 'folder = "path/to/this/folder"']
    tail = "tokenizer = transformers.AutoTokenizer.from_pretrained(folder)"
    return "\n".join(["```python", *head, *lines, tail, "```"])


def _shell(*lines: str) -> str:
    return "\n".join(["```sh", *lines, "```"])
