"""The models that a job can start from, as a person chooses among them: with the real weights of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.catalog import BaseModelEntry
from luthier.core.errors import InvalidRequest
from luthier.service.models.models import Model

MAX_OWN = 50
"""So many of the newest fine-tuned models and checkpoints are listed."""


@dataclass(frozen=True, slots=True)
class Option:
    """One entry of the list of models; `why_not` says why it cannot be chosen now."""

    name: str
    label: str
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the list of models holds, in groups with a title; a group may be empty."""

    groups: tuple[tuple[str, tuple[Option, ...]], ...]
    first: str
    """The base model to begin with; empty if none is on this machine."""


def ready_bases(listed: Sequence[Model]) -> list[str]:
    """The names of the base models on this machine that can be trained, in the catalog's order."""
    return [model.name for model in listed if model.ready and _is_base(model)]


def require_ready_base(model: Model) -> BaseModelEntry:
    """The base model's entry. Raises InvalidRequest for one that is not on this machine or makes embeddings."""
    if model.base.embeds or not model.ready:
        text = f"{model.name} is not on this machine, so its tokens cannot be counted."
        raise InvalidRequest("model_not_ready", text, "model")
    return model.base


def choices(listed: Sequence[Model], resource_id: str, chosen: str) -> Choices:
    """The list of models for a form in which `chosen` is selected."""
    bases = [model for model in listed if _is_base(model)]
    ready = tuple(Option(one.name, _base_label(one.base)) for one in bases if one.ready)
    missing = tuple(
        Option(one.name, f"{_base_label(one.base)} – not on this machine", "not on this machine")
        for one in bases
        if not one.ready
    )
    own = [one for one in listed if one.checkpoint is not None and one.checkpoint.resource_id == resource_id]
    newest = sorted(own, key=lambda one: one.created_at, reverse=True)
    kept = newest[:MAX_OWN] + [one for one in newest[MAX_OWN:] if one.name == chosen]
    tuned = tuple(Option(one.name, f"{one.name} ({one.base.title})") for one in kept)
    aliases = tuple(
        Option(one.name, f"{one.name} → {one.base.title}") for one in listed if one.is_alias and _tunes(one)
    )
    groups = (
        ("Base models on this machine", ready),
        ("Continue from one of your models", tuned),
        ("Other names for them", aliases),
        ("Base models to pull first", missing),
    )
    return Choices(groups, ready[0].name if ready else "")


def facts(model: Model) -> list[tuple[str, str]]:
    """What the chosen weights are, as pairs of a name and a value."""
    base = model.base
    able = ", ".join(sorted(base.abilities))
    return [
        ("Weights", base.title),
        ("Parameters", base.parameters),
        ("Licence", base.licence),
        ("Context", f"{base.context_tokens:,} tokens"),
        ("Beyond plain text", able or "nothing"),
        ("What is trained", "all weights" if base.tuning == "full" else "a LoRA adapter"),
        ("Source", base.hub_id or base.name),
    ]


def sentence(model: Model) -> str:
    """Which weights a name means, in a sentence for aliases and tuned models; empty for a base model."""
    if model.is_alias:
        return f"{model.name} is only another name here: what is trained is {model.base.title} ({model.base.name})."
    if model.checkpoint is not None:
        return f"The job continues from your model {model.name}, an adapter or weights tuned on {model.base.title}."
    return ""


def _is_base(model: Model) -> bool:
    return model.checkpoint is None and not model.is_alias and _tunes(model)


def _tunes(model: Model) -> bool:
    return not model.base.embeds


def _base_label(base: BaseModelEntry) -> str:
    return f"{base.title} – {base.parameters}, {base.licence}"
