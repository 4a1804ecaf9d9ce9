"""A base model that no catalog lists: a hub id, folder or .gguf file, with a catalog entry derived from its files.

`resolve` makes a draft before the download, `complete` fills in what only the files say. Used by `luthier models pull`;
the errors are for whoever runs it.
"""

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.catalog import BaseModelEntry, Catalog, FolderSource, HubSource
from luthier.core.errors import InvalidRequest
from luthier.core.states import Ability, Tuning
from luthier.model_folder import MODEL_CARD, BaseModelFolder, EmbeddingFolder
from luthier.model_source import gguf_header, safetensors_header
from luthier.run_directory.train_spec import LoraRecipe, Quantization

RANK = 16
MAX_CARD_BYTES = 1024 * 1024
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w./-]+\.gguf))?")
_NAME = re.compile(r"[^a-z0-9._-]+")
_RATES = ((200e6, 1e-3), (400e6, 8e-4), (1e9, 6e-4), (4e9, 4e-4), (20e9, 2e-4))
_LARGEST_RATE = 1e-4
"""Peak learning rates of an adapter by the base's weights, as the embedded catalog has them."""
_BITS: dict[int, Quantization] = {8: "8bit", 4: "4bit"}
_NOT_KNOWN = "?"
_GENERIC_NAMES = frozenset(("hf", "model", "source", "."))


@dataclass(frozen=True, slots=True)
class PullOptions:
    """Options of a pull; None and False are the defaults. `name` is the model's name here, `revision` a branch, tag or
    commit of the hub; `full` means that jobs train all weights; `bits` (8 or 4, None: bf16) quantizes the frozen
    weights.
    """

    name: str | None = None
    revision: str | None = None
    chat_template: Path | None = None
    full: bool = False
    bits: int | None = None


def resolve(text: str, catalog: Catalog, options: PullOptions) -> BaseModelEntry:
    """The entry of a catalog name, hub id, folder or file; a draft (see `is_draft`) for a model that no catalog lists.

    Reads the file system, not the network: whether the hub has the model shows only later. Raises InvalidRequest for an
    unknown name, options that do not fit, and a name that another model has.
    """
    entry = catalog.find(text)
    if entry is None:
        return _unlisted(text, catalog, options)
    if options == PullOptions():
        return entry
    quantized = catalog.in_few_bits(entry, _BITS[options.bits]) if options.bits in _BITS else None
    if quantized is None or options != PullOptions(bits=options.bits):
        raise InvalidRequest(
            "listed_model",
            f"{entry.name} is in the catalog: its options are in its entry there, not on the command line. "
            "Only --bits can be given, if its weights are not quantized yet.",
        )
    return quantized


def is_draft(entry: BaseModelEntry) -> bool:
    """Whether the entry still needs `complete`: its size is not known before its files are there."""
    return entry.parameters == _NOT_KNOWN


def _unlisted(text: str, catalog: Catalog, options: PullOptions) -> BaseModelEntry:
    """The draft for a source that the catalog does not name; the catalog's own entry if that is of the same repository
    or has the same name and source. Raises InvalidRequest.
    """
    source = _source(text, options.revision)
    if source is None:
        raise InvalidRequest(
            "model_not_found",
            f"There is no base model {text!r}, and it is no hub id (owner/name), folder or .gguf file. The catalog "
            f"has: {', '.join(catalog.entries)}",
        )
    if isinstance(source, HubSource) and options == PullOptions() and not source.file:
        same = next((entry for entry in catalog.entries.values() if _is_of(entry, source.repository)), None)
        if same is not None:
            return same
    name = options.name or _model_name_from_source(source)
    taken = catalog.find(name)
    if taken is not None and taken.source != source:
        raise InvalidRequest(
            "name_taken", f"{name} is the name of another base model ({taken.title}). Choose one with --name."
        )
    return taken or _draft(name, source, options)


def complete(draft: BaseModelEntry, folder: Path, source: Path) -> BaseModelEntry:
    """The draft's entry with size, limits and adapter targets of the prepared weights in `folder`/hf, and the licence
    that `source`, what was fetched, states. Reads no weights, and writes nothing.
    """
    if EmbeddingFolder(folder).exists:
        return _embedding_entry(draft, EmbeddingFolder(folder), source)
    hf = BaseModelFolder(folder).hf
    config = json.loads(hf.config.read_bytes())
    tensors = safetensors_header.read(hf.weights)
    weights = sum(tensor.elements for tensor in tensors)
    linear = {
        tensor.name.rsplit(".", 2)[1]: None
        for tensor in tensors
        if ".layers." in tensor.name and len(tensor.shape) == 2
    }
    update: dict[str, Any] = {
        "parameters": _rounded(weights),
        "context_tokens": int(config["max_position_embeddings"]),
        "learning_rate": next((rate for most, rate in _RATES if weights <= most), _LARGEST_RATE),
        "licence": _licence(source) or "unknown",
    }
    if draft.lora is not None:
        update["lora"] = draft.lora.model_copy(update={"targets": tuple(linear)})
    return draft.model_copy(update=update)


def _embedding_entry(draft: BaseModelEntry, folder: EmbeddingFolder, source: Path) -> BaseModelEntry:
    """The entry of an embedding model: one ability, and the longest text that it takes."""
    weights = sum(tensor.elements for tensor in safetensors_header.read(folder.hf.weights))
    update = {
        "parameters": _rounded(weights),
        "context_tokens": folder.read().max_tokens,
        "licence": _licence(source) or "unknown",
        "abilities": frozenset((Ability.EMBEDDINGS,)),
        "tuning": Tuning.LORA,
        "lora": None,
        "chat_template": None,
    }
    return draft.model_copy(update=update)


def _rounded(weights: int) -> str:
    """The number of weights as models are named by it: 107K, 135M, 7.6B."""
    if weights < 1e6:
        return f"{weights / 1e3:.0f}K"
    return f"{weights / 1e6:.0f}M" if weights < 1e9 else f"{weights / 1e9:.1f}B"


def _source(text: str, revision: str | None) -> HubSource | FolderSource | None:
    """Where the text says that the model is: a folder or file if one exists or the text looks like a path, else a hub
    id, also as a URL of the hub; None if it is neither.
    """
    path = Path(text).expanduser()
    if path.exists() or text.startswith(("/", "./", "../", "~")):
        return FolderSource(kind="folder", path=path.absolute())
    for address in (os.environ.get("HF_ENDPOINT", ""), "https://huggingface.co", "https://hf.co", "hf.co"):
        if address and text.startswith(address.rstrip("/") + "/"):
            text = text.removeprefix(address.rstrip("/") + "/").rstrip("/")
    match = _HUB_ID.fullmatch(text)
    if match is None:
        return None
    return HubSource(kind="hub", repository=match[1], revision=revision or "main", file=match[2])


def _is_of(entry: BaseModelEntry, repository: str) -> bool:
    """Whether the entry's weights are those of that hub repository, whose ids do not differ by case."""
    return isinstance(entry.source, HubSource) and entry.source.repository.lower() == repository.lower()


def _model_name_from_source(source: HubSource | FolderSource) -> str:
    """A public name from the last part of the source. Raises InvalidRequest if that names no model, such as "model" or
    a commit's hash.
    """
    if isinstance(source, HubSource):
        word = Path(source.file).stem if source.file else source.repository.partition("/")[2]
    else:
        word = source.path.stem if source.path.suffix == ".gguf" else source.path.name
    name = _NAME.sub("-", word.lower()).strip("-._")
    if not name or name in _GENERIC_NAMES or re.fullmatch("[0-9a-f]{40}", name):
        raise InvalidRequest("no_name", f"{word!r} does not name a model. Give it a name with --name.")
    return name


def _draft(name: str, source: HubSource | FolderSource, options: PullOptions) -> BaseModelEntry:
    """An entry with guesses for what only the files say: size unknown, context of one token, no adapter targets. Raises
    InvalidRequest for an invalid --name, --bits or --chat-template.
    """
    where = source.repository if isinstance(source, HubSource) else source.path.name
    if not re.fullmatch("[a-z0-9][a-z0-9._-]*", name):
        raise InvalidRequest("invalid_name", f"--name {name!r}: use lower-case letters, digits, '.', '_' and '-'.")
    if options.chat_template is not None and not options.chat_template.is_file():
        raise InvalidRequest("no_template", f"--chat-template: there is no file {options.chat_template}.")
    if options.bits not in {None, *_BITS}:
        raise InvalidRequest("invalid_bits", f"--bits is {options.bits}; give 8 or 4, or leave it out for bf16.")
    bits = None if options.bits is None else _BITS[options.bits]
    recipe = LoraRecipe(rank=RANK, alpha=2 * RANK, targets=(), quantization=bits)
    return BaseModelEntry(
        name=name,
        title=where.rpartition("/")[2],
        parameters=_NOT_KNOWN,
        licence="unknown",
        released=int(time.time()),
        context_tokens=1,
        abilities=frozenset((Ability.TOOLS,)),
        learning_rate=_LARGEST_RATE,
        tuning=Tuning.FULL if options.full else Tuning.LORA,
        lora=None if options.full else recipe,
        source=source,
        chat_template=None if options.chat_template is None else options.chat_template.absolute(),
    )


def _licence(source: Path) -> str | None:
    """The licence that the model card (README.md) or the GGUF metadata gives, at most 100 characters; None if it gives
    none or cannot be read.
    """
    import huggingface_hub
    import yaml

    if source.suffix == ".gguf":
        licence: object = gguf_header.read(source).metadata.get("general.license")
    else:
        card = source / MODEL_CARD
        if not card.is_file() or card.stat().st_size > MAX_CARD_BYTES:
            return None
        try:
            licence = (huggingface_hub.metadata_load(card) or {}).get("license")
        except (OSError, ValueError, yaml.YAMLError):
            return None
    return licence[:100] if isinstance(licence, str) and licence.isprintable() and licence else None
