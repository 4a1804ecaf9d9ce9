"""The model folders: what a base model and a checkpoint are on disk. `docs/model-folder.md` describes them.

Names that are constants are also keys in the blob store, where a checkpoint has no folder. The classes only name paths,
and look whether files are there.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
PROMPT_FILES = (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE)
"""What a folder needs to make chat prompts; every checkpoint carries its own copy."""
MODEL_CONFIG_FILES = (CONFIG, GENERATION_CONFIG)
"""What weights need beside them to be a model without the base model's folder."""

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
PROBES = "probes.json"
MANIFEST = "manifest.json"
MODEL_CARD = "README.md"
META = "meta.json"

BASE_GGUF = "base-f16.gguf"
ADAPTER_GGUF = "adapter.gguf"
EMBEDDING = "embedding.json"
"""What an embedding model's folder has, and no other: how its vectors are made."""
CATALOG_ENTRY = "catalog-entry.json"
"""The entry of a model that was pulled from a hub id, a folder or a file, as the pull found it."""


@dataclass(frozen=True, slots=True)
class HuggingFaceFolder:
    """A model or a tokenizer in the layout that transformers loads, weights in one safetensors file.

    No file needs to exist.
    """

    path: Path

    @property
    def config(self) -> Path:
        return self.path / CONFIG

    @property
    def generation_config(self) -> Path:
        return self.path / GENERATION_CONFIG

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS

    @property
    def tokenizer(self) -> Path:
        return self.path / TOKENIZER

    @property
    def tokenizer_config(self) -> Path:
        return self.path / TOKENIZER_CONFIG

    @property
    def chat_template(self) -> Path:
        return self.path / CHAT_TEMPLATE

    def missing(self) -> tuple[str, ...]:
        """The names of files that training needs and that are not there; empty if the folder is complete."""
        return tuple(name for name in (CONFIG, WEIGHTS, *PROMPT_FILES) if not (self.path / name).is_file())

    def generation_end_ids(self) -> tuple[int, ...]:
        """The end-of-turn token ids of generation_config.json, in its order; families like Gemma have several.

        The tokenizer's own EOS is not among them unless the file names it. Empty if there is no such file, or none in
        it. Raises ValueError for a file that is no JSON.
        """
        if not self.generation_config.exists():
            return ()
        ids = json.loads(self.generation_config.read_bytes()).get("eos_token_id")
        return tuple(int(id) for id in (ids if isinstance(ids, list) else [ids]) if id is not None)


@dataclass(frozen=True, slots=True)
class BaseModelFolder:
    """A prepared base model: the weights that are trained, the same for serving, and probes that compare both."""

    path: Path

    @property
    def hf(self) -> HuggingFaceFolder:
        """Weights in bf16, tokenizer and chat template: what is trained is what is served."""
        return HuggingFaceFolder(self.path / "hf")

    @property
    def gguf(self) -> Path:
        """The weights in f16, as llama.cpp serves them."""
        return self.path / BASE_GGUF

    @property
    def probes(self) -> Path:
        return self.path / PROBES

    @property
    def catalog_entry(self) -> Path:
        """The catalog entry of a base model that no catalog file lists; a listed one has no such file."""
        return self.path / CATALOG_ENTRY

    @property
    def prepared(self) -> Path:
        """Where the model comes from, and the sha256 of its weights; written last, so it marks a complete folder."""
        return self.path / "prepared.json"

    @property
    def is_complete(self) -> bool:
        return self.prepared.exists()


@dataclass(frozen=True, slots=True)
class EmbeddingFolder:
    """A prepared embedding model: an encoder's weights, the same for serving, and probes that compare both."""

    path: Path

    @property
    def hf(self) -> HuggingFaceFolder:
        """The encoder in float32 and its tokenizer."""
        return BaseModelFolder(self.path).hf

    @property
    def gguf(self) -> Path:
        """The encoder in f16, as llama.cpp serves it."""
        return BaseModelFolder(self.path).gguf

    @property
    def probes(self) -> Path:
        """Texts, their token ids, and their vectors by the reference computation."""
        return BaseModelFolder(self.path).probes

    @property
    def description(self) -> Path:
        return self.path / EMBEDDING

    @property
    def exists(self) -> bool:
        """Whether the folder is that of an embedding model."""
        return self.description.exists()

    def read(self) -> "EmbeddingDescription":
        """The description. Raises OSError, and ValueError or KeyError for a file that we have not written."""
        content = json.loads(self.description.read_bytes())
        return EmbeddingDescription(content["pooling"], int(content["max_tokens"]), int(content["dimensions"]))


@dataclass(frozen=True, slots=True)
class EmbeddingDescription:
    """How a text becomes a vector: `pooling` of its tokens' vectors ("mean" or "cls"), then scaled to length 1.

    A text has at most `max_tokens` tokens, the special ones included; a vector has `dimensions` numbers.
    """

    pooling: str
    max_tokens: int
    dimensions: int

    def to_json(self) -> bytes:
        content = {"pooling": self.pooling, "max_tokens": self.max_tokens, "dimensions": self.dimensions}
        return json.dumps(content, indent=2).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """A checkpoint: an adapter, or all weights if all were tuned, with what a deployment needs beside them."""

    path: Path

    @property
    def hf(self) -> HuggingFaceFolder:
        """The folder as transformers sees it: a model only if all weights were tuned."""
        return HuggingFaceFolder(self.path)

    @property
    def adapter_weights(self) -> Path:
        return self.path / ADAPTER_WEIGHTS

    @property
    def adapter_config(self) -> Path:
        return self.path / ADAPTER_CONFIG

    @property
    def adapter_gguf(self) -> Path:
        return self.path / ADAPTER_GGUF

    @property
    def tuned_weights(self) -> Path:
        """The file that holds what was trained: all weights if they are there, else the adapter."""
        return self.hf.weights if self.hf.weights.exists() else self.adapter_weights

    @property
    def probes(self) -> Path:
        return self.path / PROBES

    @property
    def manifest(self) -> Path:
        return self.path / MANIFEST

    @property
    def model_card(self) -> Path:
        return self.path / MODEL_CARD

    @property
    def meta(self) -> Path:
        """Step, epoch, metrics and the sha256 of the tuned weights; written last, so it marks a complete checkpoint."""
        return self.path / META

    @property
    def is_held(self) -> bool:
        """Whether everything but probes and meta is there (docs/run-directory.md). True of a complete one, too."""
        return self.model_card.is_file()

    @property
    def is_complete(self) -> bool:
        return self.meta.is_file()


def folder_name(step: int) -> str:
    """The name of the checkpoint of a step in a run directory."""
    return f"step-{step:06d}"


def list_checkpoints(checkpoints: Path) -> Iterator[tuple[int, CheckpointFolder]]:
    """Step and folder of each checkpoint below a run directory's `checkpoints`, complete or not, by rising step."""
    steps = {int(path.name.removeprefix("step-")): path for path in checkpoints.glob("step-*")}
    for step in sorted(steps):
        yield step, CheckpointFolder(steps[step])
