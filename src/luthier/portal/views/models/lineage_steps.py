"""A model's lineage as generations of things to show: what is told, and what is only counted. `lineage_picture` draws
them, and the page's list reads them out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from luthier.core import ids
from luthier.core.models import Checkpoint, Deployment, Job
from luthier.core.states import DeploymentState, JobStatus
from luthier.service.overviews.lineage import Generation, Lineage

MOST_MODELS = 5
MOST_DEPLOYMENTS = 3


@dataclass(frozen=True, slots=True)
class Thing:
    """One box: its kind (data, job, model, deployment, more), name, a note, and its page below the portal's address.

    `path` is empty for what has no page any more. `model` is the whole name of a model, for edges. `has_failed` is for
    a job or deployment.
    """

    kind: str
    name: str
    note: str
    path: str
    is_current: bool = False
    model: str = ""
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class TuningStep:
    """One job: what it learned from, the model that it went on from, and its models, each with its deployments."""

    data: Sequence[Thing]
    job: Thing | None
    parent: str
    models: Sequence[tuple[Thing, Sequence[Thing]]]


@dataclass(frozen=True, slots=True)
class Steps:
    """`origin` is what the first step goes on from, with its own deployments; `more` counts jobs that are not told."""

    origin: Thing
    origin_deployments: Sequence[Thing]
    steps: Sequence[TuningStep]
    more: Thing | None


def arrange(lineage: Lineage, current: str) -> Steps:
    """The steps of a lineage, oldest first; `current` is the name of the model whose page it is."""
    deployments = _by_model(lineage.deployments)
    wanted = {one.job.parent_model for one in lineage.children if one.job is not None} | {current}
    steps = []
    for generation in (*lineage.chain, *lineage.children):
        is_own = bool(lineage.chain) and generation is lineage.chain[-1]
        told = wanted if is_own else {generation.through}
        most = MOST_MODELS if is_own else 1
        steps.append(_step(generation, lineage, deployments, told, most, current))
    n_more = lineage.n_children - len(lineage.children)
    more = None
    if n_more > 0:
        more = Thing("more", f"+{n_more} more jobs", "continue from here", f"/jobs?{urlencode({'q': current})}")
    origin = _origin(lineage, current)
    return Steps(origin, deployments.get(origin.model, ()), steps, more)


def model_path(name: str) -> str:
    """The page of a model below the portal's address; a hub's name may have slashes."""
    return f"/models/{quote(name)}"


def short_name(name: str) -> str:
    """A tuned model's name for people, without the 32 digits of its job."""
    base, mark, rest = name.partition(".ft-")
    return f"{base} · {rest[33:] or rest[:8]}" if mark and len(rest) >= 32 else name


def _origin(lineage: Lineage, current: str) -> Thing:
    """What the chain begins at: the base model, a deleted model, or a model whose own history is not told here."""
    if lineage.lost_parent is not None:
        return Thing("model", short_name(lineage.lost_parent), "deleted model", "", model=lineage.lost_parent)
    first = lineage.chain[0].job if lineage.chain else None
    if lineage.has_earlier and first is not None and first.parent_model is not None:
        parent = first.parent_model
        return Thing("model", short_name(parent), "has a lineage of its own", model_path(parent), model=parent)
    name = lineage.base_model
    return Thing("model", name, "base model", model_path(name), name == current, name)


def _step(
    generation: Generation,
    lineage: Lineage,
    deployments: Mapping[str, Sequence[Thing]],
    told: set[str | None],
    most: int,
    current: str,
) -> TuningStep:
    """One generation; of its models at most `most` are told, and those in `told` whatever their number."""
    job = generation.job
    shown = _shown(generation.models, told, most)
    models: list[tuple[Thing, Sequence[Thing]]] = [
        (_model(one, current), deployments.get(one.model, ())) for one in shown
    ]
    hidden = len(generation.models) - len(shown)
    if hidden:
        path = f"/models?{urlencode({'q': generation.models[0].job_id, 'show': 'all'})}"
        models.append((Thing("more", f"+{hidden} more", "of the same job", path), ()))
    if job is None:
        return TuningStep((), None, lineage.base_model, models)
    data = [_file(job.training_file, "training data", lineage.names)]
    if job.validation_file is not None:
        data.append(_file(job.validation_file, "validation data", lineage.names))
    return TuningStep(data, _job(job), job.parent_model or job.base_model, models)


def _shown(models: Sequence[Checkpoint], told: set[str | None], most: int) -> list[Checkpoint]:
    """Those in `told`, and the latest others while there is room, in their order."""
    chosen = [one.id for one in models if one.model in told]
    others = [one.id for one in reversed(models) if one.model not in told]
    room = max(0, most - len(chosen)) if len(models) > most else len(models)
    kept = {*chosen, *others[:room]}
    return [one for one in models if one.id in kept]


def _file(file_id: str, note: str, names: Mapping[str, str]) -> Thing:
    if file_id not in names:
        return Thing("data", "deleted file", note, "")
    return Thing("data", names[file_id], note, f"/files/{quote(file_id)}")


def _job(job: Job) -> Thing:
    note = f"job, {str(job.status).replace('_', ' ')}"
    has_failed = job.status is JobStatus.FAILED
    return Thing("job", job.suffix or job.id, note, f"/jobs/{quote(job.id)}", has_failed=has_failed)


def _model(checkpoint: Checkpoint, current: str) -> Thing:
    """A model by its short name; the note says its step, and its loss if it has one."""
    plain, mark, step = checkpoint.model.partition(ids.CHECKPOINT_MARK)
    own = short_name(plain).rpartition(" · ")[2]  # its base is told by the first box
    name = f"step {step} of {own}" if mark else own
    loss = checkpoint.metrics.get("full_valid_loss", checkpoint.metrics.get("train_loss"))
    note = ("checkpoint" if mark else "model") + ("" if loss is None else f", loss {loss:.4g}")
    is_current = checkpoint.model == current
    return Thing("model", name, note, model_path(checkpoint.model), is_current, checkpoint.model)


def _by_model(deployments: Sequence[Deployment]) -> dict[str, Sequence[Thing]]:
    """Each model's deployments, the first few by name and the others as a number."""
    grouped: dict[str, list[Thing]] = {}
    for one in deployments:
        note, has_failed = f"deployment, {str(one.state).lower()}", one.state is DeploymentState.FAILED
        thing = Thing("deployment", one.name, note, f"/deployments/{one.name}", has_failed=has_failed)
        grouped.setdefault(one.model, []).append(thing)
    told: dict[str, Sequence[Thing]] = {}
    for model, things in grouped.items():
        hidden = len(things) - MOST_DEPLOYMENTS
        rest = [Thing("more", f"+{hidden} more", "deployments", f"/deployments?{urlencode({'q': model})}")]
        told[model] = things if hidden <= 0 else things[:MOST_DEPLOYMENTS] + rest
    return told
