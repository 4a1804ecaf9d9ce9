"""What is compared of a job, read through the public API: what it was made from, how it trained, how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.cli import client
from luthier.cli.charts import metrics
from luthier.cli.charts.metrics import Metrics, Points

if TYPE_CHECKING:  # imported on use: help should not wait for it
    from openai import OpenAI

Facts = dict[str, Any]
"""By name, as in --json; None for what the job does not have."""
_LARGER_IS_BETTER = ("accuracy", "margin", "chosen")


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job with its facts and its metrics."""

    id: str
    status: str
    facts: Facts
    metrics: Metrics


def read(api: "OpenAI", job_id: str, metric: str) -> JobReport:
    """Reads a job, with its files, model, checkpoints, attempts and metrics: a dozen requests. Raises the SDK's errors.

    What was deleted since is left out of the facts.
    """
    job = api.fine_tuning.jobs.retrieve(job_id)
    points = _metrics(api, job)
    facts: Facts = {"status": job.status}
    facts |= _model(api, job.model)
    facts |= _file(api, "training_file", job.training_file) | _file(api, "validation_file", job.validation_file)
    facts |= _settings(job.to_dict(mode="json"))
    facts |= {"trained_tokens": job.trained_tokens, "training_s": _training_s(client.attempts(api, job_id))}
    facts |= _ends(points, "train_loss") | _ends(points, "full_valid_loss") | _ends(points, metric)
    facts |= {"best_checkpoint": _best_checkpoint(api, job_id)}
    return JobReport(job_id, job.status, facts, points)


def _metrics(api: "OpenAI", job: Any) -> Metrics:
    """Every step from the result file, or what the events tell of a job that has none."""
    import openai

    for file_id in job.result_files:
        try:
            return metrics.read_results(api.files.content(file_id, extra_headers=client.AS_CSV).read().decode())
        except (openai.NotFoundError, ValueError):  # deleted, or a file of another kind
            continue
    events = list(api.fine_tuning.jobs.list_events(job.id, limit=100))
    return metrics.read_events(reversed(events))


def _model(api: "OpenAI", name: str) -> Facts:
    """The base model, and the fine-tuned model or checkpoint that was trained further, if it was one."""
    import openai

    try:
        entry = api.models.retrieve(name).to_dict(mode="json")
    except openai.NotFoundError:
        return {"base_model": name.partition(".ft-")[0], "parent": name if ".ft-" in name else None}
    return {"base_model": entry.get("model") or name, "parent": name if entry.get("fine_tune") else None}


def _file(api: "OpenAI", role: str, file_id: str | None) -> Facts:
    """Id, name and sha256 of a file; the sha256 is the entity tag of its content."""
    import openai

    facts: Facts = {role: file_id, f"{role}_name": None, f"{role}_sha256": None}
    if file_id is None:
        return facts
    try:
        facts[f"{role}_name"] = api.files.retrieve(file_id).filename
        first_byte = {"Range": "bytes=0-0"}
        with api.files.with_streaming_response.content(file_id, extra_headers=first_byte) as response:
            facts[f"{role}_sha256"] = response.headers.get("etag", "").strip('"') or None
    except openai.APIStatusError:  # deleted, expired, or without bytes
        pass
    return facts


def _settings(job: Mapping[str, Any]) -> Facts:
    """Method, hyperparameters, seed and the recipe's extras, flat."""
    method = job["method"]["type"]
    own = job["method"][method]["hyperparameters"]
    stopping = job.get("early_stopping") or {}
    extras = {f"luthier.{name}": value for name, value in (job.get("luthier") or {}).items()}
    return {"method": method, **own, "seed": job["seed"], "early_stopping": stopping.get("patience"), **extras}


def _training_s(attempts: list[dict[str, Any]]) -> int | None:
    """The time of all attempts that have ended, without the time between them; None before the first has."""
    spans = [a["ended_at"] - a["started_at"] for a in attempts if a["started_at"] and a["ended_at"]]
    return sum(spans) if spans else None


def _ends(of: Metrics, name: str) -> Facts:
    """The last value of a metric, its best one, and the step of that."""
    points: Points = of.get(name, [])
    if not points:
        return {f"final_{name}": None, f"best_{name}": None, f"best_{name}_step": None}
    is_larger_better = any(word in name for word in _LARGER_IS_BETTER)
    step, best = (max if is_larger_better else min)(points, key=lambda point: point[1])
    return {f"final_{name}": points[-1][1], f"best_{name}": best, f"best_{name}_step": int(step)}


def _best_checkpoint(api: "OpenAI", job_id: str) -> str | None:
    """The checkpoint with the lowest validation loss, or without validation the lowest training loss; None if there is
    no checkpoint with either.
    """
    kept = [(c, c.metrics.model_dump()) for c in api.fine_tuning.jobs.checkpoints.list(job_id)]
    for name in ("full_valid_loss", "train_loss"):
        measured = [(values[name], c.fine_tuned_model_checkpoint) for c, values in kept if values.get(name) is not None]
        if measured:
            return min(measured, key=lambda pair: pair[0])[1]
    return None
