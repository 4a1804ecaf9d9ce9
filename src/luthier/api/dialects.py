"""The three dialects as values: prefix, words, and how a file, job, event, checkpoint, model and error look in each.

Facts are the wire contract's; each table names the page it comes from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from luthier.api import words
from luthier.api.error_shapes import azure_error, azure_v1_error, openai_error
from luthier.core.errors import LuthierError
from luthier.core.hyperparameters import DEFAULT_BETA
from luthier.core.models import Attempt, Checkpoint, Event, File, Job, Upload
from luthier.core.states import EventLevel, FilePurpose, FileStatus, JobStatus, Method
from luthier.service.models import Model

Shape = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way of saying the same things.

    `keeps_null` is whether a value that is not known is sent as null or left out; `auto` is how a hyperparameter that
    the service is still to choose is written; `deployment_in_path` and `calls_models` say where a chat call names its
    model, and whether a model can be called without a deployment; `shares_checkpoints` and `copies_checkpoints` how
    another resource comes by a checkpoint: by a permission, by a copy. `min_expiry_s` is the shortest `expires_after`
    of a file; `explains_files` is whether a file's error is an object too, and an upload's part has a block id.
    """

    name: str
    prefix: str
    needs_api_version: bool
    created_status: int
    sends_location: bool
    keeps_null: bool
    auto: str | int
    statuses: Mapping[JobStatus, str]
    levels: Mapping[EventLevel, str]
    max_suffix: int
    deployment_in_path: bool
    calls_models: bool
    shares_checkpoints: bool
    copies_checkpoints: bool
    purposes: frozenset[FilePurpose]
    file_statuses: Mapping[FileStatus, str]
    min_expiry_s: int
    explains_files: bool
    error: Callable[[LuthierError], Shape]

    def shaped(self, shape: Shape) -> Shape:
        return shape if self.keeps_null else {key: value for key, value in shape.items() if value is not None}

    def file(self, file: File) -> Shape:
        shape: Shape = {
            "id": file.id,
            "object": "file",
            "bytes": file.bytes,
            "created_at": unix(file.created_at),
            "filename": file.filename,
            "purpose": str(file.purpose),
            "status": self.file_statuses[file.status],
        }
        # Both vendors' schemas know a file without details, and none whose details are null. A good file has none.
        if file.status_details:
            shape["status_details"] = file.status_details
        if file.expires_at is not None:  # no vendor sends a null here
            shape["expires_at"] = unix(file.expires_at)
        if self.explains_files and file.status is FileStatus.ERROR:  # A2212 `File.error`, in words of A1021 `ErrorCode`
            shape["error"] = {"code": "fileImportFailed", "message": file.status_details}
        return self.shaped(shape)

    def upload(self, upload: Upload, file: File | None = None) -> Shape:
        """A1021 `UploadResource`, OpenAI's `Upload`: `file` stands there once the upload is completed."""
        return self.shaped(
            {
                "id": upload.id,
                "object": "upload",
                "bytes": upload.bytes,
                "created_at": unix(upload.created_at),
                "expires_at": unix(upload.expires_at),
                "filename": upload.filename,
                "purpose": str(upload.purpose),
                "status": str(upload.status),
                "file": None if file is None else self.file(file),
            }
        )

    def job(self, job: Job) -> Shape:
        hyperparameters = self.hyperparameters(job)
        own = hyperparameters | ({"beta": self.beta(job)} if job.method is Method.DPO else {})
        method = {"type": str(job.method), str(job.method): {"hyperparameters": own}}
        error = job.error and {"code": job.error.code, "message": job.error.message, "param": job.error.param}
        shape: Shape = {
            "id": job.id,
            "object": "fine_tuning.job",
            "created_at": unix(job.created_at),
            "finished_at": unix(job.finished_at),
            "status": self.statuses[job.status],
            "model": job.model,
            "fine_tuned_model": job.fine_tuned_model,
            "training_file": job.training_file,
            "validation_file": job.validation_file,
            "result_files": [job.result_file] if job.result_file else [],
            "trained_tokens": job.trained_tokens,
            "error": error,
            "estimated_finish": unix(job.estimated_finish),
            # OpenAI's example of a DPO job has null here, against its own schema, which wants an object in every job.
            "hyperparameters": hyperparameters,
            "method": method if job.method_sent or self.keeps_null else None,
            "seed": job.seed,
            "suffix": job.suffix,
            **job.extras,
        }
        if "integrations" in job.extras:
            shape["integrations"] = integrations(job)
        if self.keeps_null:
            shape |= {"organization_id": "", "user_provided_suffix": job.suffix}
            shape.setdefault("integrations", [])
            shape.setdefault("metadata", None)
        elif not job.result_file:
            shape["result_files"] = None
        return self.shaped(shape)

    def hyperparameters(self, job: Job) -> Shape:
        """The numbers, or the dialect's word for what the service is still to choose."""
        return {
            "n_epochs": job.hyperparameters.n_epochs or self.auto,
            "batch_size": job.hyperparameters.batch_size or self.auto,
            # Azure shows 1 for a multiplier that was left to it (contract section 6), which is also what "auto" gives.
            "learning_rate_multiplier": job.hyperparameters.learning_rate_multiplier
            or (self.auto if self.auto == "auto" else 1.0),
        }

    def beta(self, job: Job) -> float | int | str:
        """The same of a job that learns preferences: no reply of Azure's shows one, so as it does the multiplier."""
        return job.hyperparameters.beta or (self.auto if self.auto == "auto" else DEFAULT_BETA)

    def event(self, event: Event) -> Shape:
        shape = self.shaped(
            {
                "id": event.id,
                "object": "fine_tuning.job.event",
                "created_at": unix(event.created_at),
                "level": self.levels[event.level],
                "message": event.message,
                "type": str(event.type),
            }
        )
        return shape if event.data is None else shape | {"data": dict(event.data)}

    def checkpoint(self, checkpoint: Checkpoint) -> Shape:
        return {
            "id": checkpoint.id,
            "object": "fine_tuning.job.checkpoint",
            "created_at": unix(checkpoint.created_at),
            "fine_tuned_model_checkpoint": checkpoint.model,
            "step_number": checkpoint.step,
            "metrics": dict(checkpoint.metrics),
            "fine_tuning_job_id": checkpoint.job_id,
        }

    def attempt(self, attempt: Attempt) -> Shape:
        """Our own noun: no vendor shows it, so it stands on a route of its own and never inside a job."""
        return self.shaped(
            {
                "id": attempt.id,
                "object": "fine_tuning.job.attempt",
                "fine_tuning_job_id": attempt.job_id,
                "number": attempt.number,
                "started_at": unix(attempt.started_at),
                "ended_at": unix(attempt.ended_at),
                "end": attempt.end and str(attempt.end),
                "message": attempt.detail and f"The trainer {attempt.detail}.",
                "last_step": attempt.last_step,
            }
        )

    def model(self, model: Model) -> Shape:
        """Both vendors' fields at once: `created` and `owned_by` for SDKs, the rest from A1021 (contract section 12).

        `model` is the base model whose weights stand behind the name, in an alias's entry as in a tuned model's.
        """
        tuned = model.checkpoint is not None
        return self.shaped(
            {
                "id": model.name,
                "object": "model",
                "created": unix(model.created_at),
                "created_at": unix(model.created_at),
                "owned_by": "luthier" if not tuned else "user",
                "status": "succeeded",
                "model": model.base.name if tuned or model.is_alias else None,
                "fine_tune": model.checkpoint.job_id if model.checkpoint else None,
                "capabilities": {
                    "fine_tune": model.ready,
                    "inference": model.ready,
                    "completion": False,
                    "chat_completion": model.ready,
                    "embeddings": False,
                },
                "lifecycle_status": "generally-available",
                "weights": f"{model.base.title}, {model.base.parameters} parameters, {model.base.licence}",
                "abilities": sorted(model.base.abilities),
                "ready": model.ready,
            }
        )

    def page(self, items: list[Shape], more: bool) -> Shape:
        """A list in every dialect's form: `has_more` always, or newer SDKs never stop asking (contract section 2.5)."""
        return {
            "object": "list",
            "data": items,
            "has_more": more,
            "first_id": items[0]["id"] if items else None,
            "last_id": items[-1]["id"] if items else None,
        }


def integrations(job: Job) -> list[Shape]:
    """What the job was asked to be shown at, with the run id that Weights & Biases knows it by: the job's own."""
    asked = job.extras["integrations"]
    assert isinstance(asked, list)
    return [{**item, "wandb": {**item["wandb"], "run_id": job.id}} for item in asked]


def unix(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


OPENAI = Dialect(
    name="openai",
    prefix="/v1",
    needs_api_version=False,
    created_status=200,
    sends_location=False,
    keeps_null=True,
    auto="auto",
    statuses=words.OPENAI_STATUS,
    levels=words.OPENAI_LEVEL,
    max_suffix=64,
    deployment_in_path=False,
    calls_models=True,
    shares_checkpoints=True,
    copies_checkpoints=False,
    purposes=words.OPENAI_PURPOSES,
    file_statuses=words.OPENAI_FILE_STATUS,
    min_expiry_s=3_600,
    explains_files=False,
    error=openai_error,
)
AZURE = Dialect(
    name="azure",
    prefix="/openai",
    needs_api_version=True,
    created_status=201,
    sends_location=True,
    keeps_null=False,
    auto=-1,
    statuses=words.AZURE_STATUS,
    levels=words.AZURE_LEVEL,
    max_suffix=40,
    deployment_in_path=True,
    calls_models=False,
    shares_checkpoints=False,
    copies_checkpoints=False,
    purposes=words.AZURE_PURPOSES,
    file_statuses=words.AZURE_FILE_STATUS,
    min_expiry_s=1_209_600,
    explains_files=True,
    error=azure_error,
)
AZURE_V1 = Dialect(
    name="azure-v1",
    prefix="/openai/v1",
    needs_api_version=False,
    created_status=200,
    sends_location=False,
    keeps_null=False,
    auto=-1,
    statuses=words.AZURE_STATUS,
    levels=words.OPENAI_LEVEL,
    max_suffix=64,
    deployment_in_path=False,
    calls_models=False,
    shares_checkpoints=False,
    copies_checkpoints=True,
    purposes=words.AZURE_PURPOSES,
    file_statuses=words.AZURE_FILE_STATUS,
    min_expiry_s=1_209_600,
    explains_files=True,
    error=azure_v1_error,
)
DIALECTS = (AZURE_V1, OPENAI, AZURE)
"""Longest prefix first: the dialect of a path is the first whose prefix it has."""


def of_path(path: str) -> Dialect:
    """The dialect that a path is spoken to in; OpenAI's for paths of none."""
    return next((dialect for dialect in DIALECTS if path.startswith(dialect.prefix + "/")), OPENAI)
