"""Models as rows of the list: base models, tuned ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from luthier.catalog import BaseModelEntry, Catalog
from luthier.core import ids
from luthier.core.models import Checkpoint, Deployment, Job
from luthier.core.states import Ability, Tuning
from luthier.portal.views.models import lineage_steps

_ABILITIES = {Ability.VISION: "images", Ability.TOOLS: "tools", Ability.EMBEDDINGS: "embeddings only"}


@dataclass(frozen=True, slots=True)
class BaseRow:
    """A base model; `command` pulls it if it is not `ready`, and `variants` are its 8- and 4-bit forms by name."""

    name: str
    title: str
    parameters: str
    licence: str
    context_tokens: int
    abilities: str
    tuning: str
    ready: bool
    command: str
    aliases: Sequence[str]
    variants: Sequence[str]
    is_tunable: bool


@dataclass(frozen=True, slots=True)
class TunedRow:
    """A fine-tuned model or a checkpoint; `job_name` is empty if its job is gone, and `deployed` are names."""

    id: str
    model: str
    name: str
    base_model: str
    job_id: str
    job_name: str
    step: int
    is_final: bool
    figures: Sequence[tuple[str, float]]
    deployed: Sequence[str]
    created_at: datetime
    path: str


FIGURES = {
    "train_loss": "training loss",
    "full_valid_loss": "validation loss",
    "full_valid_mean_token_accuracy": "validation accuracy",
    "train_mean_token_accuracy": "training accuracy",
}
"""The figures of a checkpoint that are shown, by their names in its metrics, and their words."""


def base_row(catalog: Catalog, entry: BaseModelEntry, is_ready: Callable[[str], bool]) -> BaseRow:
    """The row of a base model; `is_ready` says of a name whether its weights are on this machine."""
    variants = [one for bits in ("8bit", "4bit") if (one := catalog.in_few_bits(entry, bits)) is not None]
    abilities = [_ABILITIES[one] for one in Ability if one in entry.abilities]
    tuning = "not tunable" if entry.embeds else "adapter" if entry.tuning is Tuning.LORA else "all weights"
    return BaseRow(
        name=entry.name,
        title=entry.title,
        parameters=entry.parameters,
        licence=entry.licence,
        context_tokens=entry.context_tokens,
        abilities=", ".join(abilities) or "text",
        tuning=tuning,
        ready=is_ready(entry.name),
        command=f"luthier models pull {entry.name}",
        aliases=catalog.aliases_of(entry.name),
        variants=[one.name for one in variants if is_ready(one.name)],
        is_tunable=not entry.embeds,
    )


def tuned_row(checkpoint: Checkpoint, jobs: Mapping[str, Job], deployments: Iterable[Deployment]) -> TunedRow:
    """The row of a tuned model."""
    plain, mark, step = checkpoint.model.partition(ids.CHECKPOINT_MARK)
    job = jobs.get(checkpoint.job_id)
    short = lineage_steps.short_name(plain)
    return TunedRow(
        id=checkpoint.id,
        model=checkpoint.model,
        name=f"{short}, step {step}" if mark else short,
        base_model=checkpoint.base_model,
        job_id=checkpoint.job_id,
        job_name="" if job is None else job.suffix or job.id,
        step=checkpoint.step,
        is_final=not mark,
        figures=figures(checkpoint),
        deployed=serving(checkpoint.model, deployments),
        created_at=checkpoint.created_at,
        path=lineage_steps.model_path(checkpoint.model),
    )


def figures(checkpoint: Checkpoint) -> list[tuple[str, float]]:
    """The checkpoint's figures that people look at, with their words."""
    return [(words, checkpoint.metrics[name]) for name, words in FIGURES.items() if name in checkpoint.metrics]


def serving(model: str, deployments: Iterable[Deployment]) -> list[str]:
    """Names of the deployments that serve a model, or are to."""
    return [one.name for one in deployments if model in (one.model, one.answering)]


def why_kept(name: str, gone_with_it: Sequence[Checkpoint], deployments: Sequence[Deployment]) -> str:
    """Why a model cannot be deleted now, and what to do; empty if it can."""
    users = sorted({user for one in gone_with_it for user in serving(one.model, deployments)})
    if not users:
        return ""
    if users and serving(name, deployments):
        return f"Deployed as {', '.join(users)}: delete the deployment first."
    return f"A checkpoint of it is deployed as {', '.join(users)}: delete the deployment first."
