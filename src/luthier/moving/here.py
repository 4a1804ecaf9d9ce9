"""The service that an account moves to, through its public API: what it has, what it is given."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import openai
from openai import OpenAI

from luthier.core.errors import InvalidRequest, NotFound

SOURCE, SOURCE_JOB, SOURCE_MODEL = "source", "source_job", "source_model"
"""Keys of a job's metadata that say where it comes from. By them a job is known again, state file or not."""
WAITS = 10
MAX_WAIT_S = 120.0
_REFUSALS = (
    openai.BadRequestError,
    openai.NotFoundError,
    openai.ConflictError,
    openai.UnprocessableEntityError,
)


@dataclass(frozen=True, slots=True)
class FileHere:
    id: str
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class JobHere:
    id: str
    source_job: str
    source_model: str | None
    tuned_model: str | None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is here at the start. `models`: names that a job can be created with, in lower case, to what they stand for.

    An alias of a hosted model leads to the base model whose weights it is here: the plan never shows it as itself.
    """

    files: Mapping[str, FileHere]
    jobs: Mapping[str, JobHere]
    models: Mapping[str, str]

    def model_of(self, tuned_model: str) -> str | None:
        """The model here that a re-created job made in the place of a fine-tuned model of the source."""
        made = (job.tuned_model for job in self.jobs.values() if job.source_model == tuned_model)
        return next((name for name in made if name), None)


def inventory(api: OpenAI, source: str) -> Inventory:
    """Looks at everything here once."""
    files = {file.id: FileHere(file.id, file.filename, file.bytes) for file in api.files.list()}
    jobs: dict[str, JobHere] = {}
    for job in api.fine_tuning.jobs.list(limit=100):
        told = job.metadata or {}
        if told.get(SOURCE) == source and (name := told.get(SOURCE_JOB)):
            jobs.setdefault(name, JobHere(job.id, name, told.get(SOURCE_MODEL), job.fine_tuned_model))
    told_models = [model.model_dump() for model in api.models.list()]
    models = {told["id"].lower(): _stands_for(told) for told in told_models if told.get("ready", True)}
    return Inventory(files, jobs, models)


def upload(api: OpenAI, name: str, stream: BinaryIO) -> str:
    """A new file here; returns its id. Raises InvalidRequest with the service's own words.

    Never sent twice by itself: an answer that was lost would make two files. The next run finds the first.
    """

    def send() -> str:
        stream.seek(0)
        return api.with_options(max_retries=0).files.create(file=(name, stream), purpose="fine-tune").id

    try:
        return _patiently(send)
    except openai.APIStatusError as error:
        raise _refused(error) from error


def sha256(api: OpenAI, file_id: str) -> str:
    """The hash of a file's bytes as they are here. Raises NotFound."""
    digest = hashlib.sha256()
    try:
        with api.files.with_streaming_response.content(file_id) as response:
            for chunk in response.iter_bytes(256 * 1024):
                digest.update(chunk)
    except openai.NotFoundError as error:
        raise NotFound("file_not_found", "it went away here meanwhile") from error
    return digest.hexdigest()


def create_job(api: OpenAI, body: dict[str, Any]) -> str:
    """A new job here; returns its id. Raises InvalidRequest with the service's own words."""
    try:
        return _patiently(lambda: api.with_options(max_retries=0).fine_tuning.jobs.create(**body).id)
    except openai.APIStatusError as error:
        raise _refused(error) from error


def _patiently(send: Callable[[], str]) -> str:
    """Sends again after a 429 that says when: it has made nothing. One that names no time is a quota, and is told."""
    for _ in range(WAITS):
        try:
            return send()
        except openai.RateLimitError as error:
            told = error.response.headers
            if "retry-after" not in told or told.get("x-should-retry") == "false":
                raise
            time.sleep(min(_seconds(told["retry-after"]), MAX_WAIT_S))
    return send()


def _seconds(told: str) -> float:
    return float(told) if told.replace(".", "", 1).isdigit() else 1.0


def _stands_for(told: Mapping[str, Any]) -> str:
    """A tuned model is itself, though it tells its base model too."""
    return str(told["id"] if told.get("fine_tune") else told.get("model") or told["id"])


def _refused(error: openai.APIStatusError) -> Exception:
    """What the service has against this one thing; anything else, a full disk or a wrong key, stays what it is."""
    if not isinstance(error, _REFUSALS) and error.status_code not in (413, 415):
        return error
    told = error.body.get("message") if isinstance(error.body, dict) else None
    return InvalidRequest("refused_here", f"refused here: {told or error.status_code}")
