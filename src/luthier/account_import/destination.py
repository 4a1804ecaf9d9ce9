"""The target service of an import, through its public API: what it has, and creating files and jobs.

Blocking HTTP through the openai SDK. What a function does not raise itself is the SDK's own error, and ends the import.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import openai
from openai import OpenAI

from luthier.core.errors import InvalidRequest, NotFound

SOURCE, SOURCE_JOB, SOURCE_MODEL = "source", "source_job", "source_model"
"""Metadata keys that say where a job comes from. They identify it even without the state file."""
WAITS = 10
MAX_WAIT_S = 120.0
_REFUSALS = (
    openai.BadRequestError,
    openai.NotFoundError,
    openai.ConflictError,
    openai.UnprocessableEntityError,
)


@dataclass(frozen=True, slots=True)
class TargetFile:
    """A file that the target has."""

    id: str
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class TargetJob:
    """A job of the target that an earlier import created; `source_job` and `source_model` are from its metadata.

    `fine_tuned_model` is the target's own, None until it has succeeded.
    """

    id: str
    source_job: str
    source_model: str | None
    fine_tuned_model: str | None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the target has at the start: files by id, imported jobs by the id that they have at the source.

    `models`: the model that is trained, by the lower-case name given to a job. An alias of a hosted model maps to the
    base model that it stands for: the plan shows the base model.
    """

    files: Mapping[str, TargetFile]
    jobs: Mapping[str, TargetJob]
    models: Mapping[str, str]

    def model_of(self, fine_tuned_model: str) -> str | None:
        """The target's model that a recreated job trained in place of a fine-tuned model of the source.

        None if no job of it was recreated, or none has succeeded yet.
        """
        names = (job.fine_tuned_model for job in self.jobs.values() if job.source_model == fine_tuned_model)
        return next((name for name in names if name), None)


def inventory(api: OpenAI, source: str) -> Inventory:
    """Reads all files, jobs and models of the target once; of the jobs those that came from the host `source`."""
    files = {file.id: TargetFile(file.id, file.filename, file.bytes) for file in api.files.list()}
    jobs: dict[str, TargetJob] = {}
    for job in api.fine_tuning.jobs.list(limit=100):
        metadata = job.metadata or {}
        if metadata.get(SOURCE) == source and (name := metadata.get(SOURCE_JOB)):
            jobs.setdefault(name, TargetJob(job.id, name, metadata.get(SOURCE_MODEL), job.fine_tuned_model))
    models_json = [model.model_dump() for model in api.models.list()]
    models = {model["id"].lower(): _trained_model(model) for model in models_json if model.get("ready", True)}
    return Inventory(files, jobs, models)


def upload(api: OpenAI, name: str, stream: BinaryIO) -> str:
    """Uploads a file and returns its id. Raises InvalidRequest with the service's message if it is refused.

    Never retried but after a 429: a lost answer would create two files. The next run recognizes the first.
    """

    def send() -> str:
        """One attempt, from the beginning of the file."""
        stream.seek(0)
        return api.with_options(max_retries=0).files.create(file=(name, stream), purpose="fine-tune").id

    try:
        return _with_rate_limit_retries(send)
    except openai.APIStatusError as error:
        raise _refused(error) from error


def sha256(api: OpenAI, file_id: str) -> str:
    """The sha256 in hex of a target file's bytes, which it downloads. Raises NotFound if it was deleted meanwhile."""
    digest = hashlib.sha256()
    try:
        with api.files.with_streaming_response.content(file_id) as response:
            for chunk in response.iter_bytes(256 * 1024):
                digest.update(chunk)
    except openai.NotFoundError as error:
        raise NotFound("file_not_found", "it was deleted from the target meanwhile") from error
    return digest.hexdigest()


def create_job(api: OpenAI, body: dict[str, Any]) -> str:
    """Creates a job and returns its id. Raises InvalidRequest with the service's message if it is refused."""
    try:
        return _with_rate_limit_retries(lambda: api.with_options(max_retries=0).fine_tuning.jobs.create(**body).id)
    except openai.APIStatusError as error:
        raise _refused(error) from error


def _with_rate_limit_retries(send: Callable[[], str]) -> str:
    """Retries after a 429 with Retry-After, which has created nothing; sleeps up to two minutes each of ten times.

    One without it is a quota, and is raised.
    """
    for _ in range(WAITS):
        try:
            return send()
        except openai.RateLimitError as error:
            headers = error.response.headers
            if "retry-after" not in headers or headers.get("x-should-retry") == "false":
                raise
            time.sleep(min(_seconds(headers["retry-after"]), MAX_WAIT_S))
    return send()


def _seconds(retry_after: str) -> float:
    """A Retry-After in seconds; 1 for one that is no number, such as a date."""
    return float(retry_after) if retry_after.replace(".", "", 1).isdigit() else 1.0


def _trained_model(model: Mapping[str, Any]) -> str:
    """The model that a job on this name trains; of a fine-tuned model that is not its base model."""
    return str(model["id"] if model.get("fine_tune") else model.get("model") or model["id"])


def _refused(error: openai.APIStatusError) -> Exception:
    """An InvalidRequest for a refused file or job; other errors, such as a full disk or a wrong key, as they are.

    For the caller to raise.
    """
    if not isinstance(error, _REFUSALS) and error.status_code not in (413, 415):
        return error
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return InvalidRequest("refused_here", f"refused here: {message or error.status_code}")
