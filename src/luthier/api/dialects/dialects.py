"""The three dialects as values: prefix, rules of the wire, and the answer types of each noun.

Routes are registered once for each and ask the value what to do; none tests for a vendor's name. The facts are those of
docs/wire-contract.md; each table names the page that it comes from.
"""

from dataclasses import dataclass

from luthier.api.dialects.error_answers import AzureError, AzureV1Error, ErrorAnswer, OpenAIError
from luthier.api.dialects.file_answers import (
    AzureFile,
    AzureUpload,
    AzureUploadPart,
    OpenAIFile,
    OpenAIUpload,
    OpenAIUploadPart,
)
from luthier.api.dialects.job_answers import AzureJob, OpenAIJob
from luthier.api.dialects.job_record_answers import AzureAttempt, AzureEvent, OpenAIAttempt, OpenAIEvent
from luthier.api.dialects.model_answers import AzureModel, AzureV1Model, OpenAIModel
from luthier.api.dialects.webhook_answers import AZURE_WEBHOOKS, SDK_WEBHOOKS, WebhookWire
from luthier.core.quotas import MAX_SUFFIX_CHARACTERS


@dataclass(frozen=True, slots=True)
class Dialect:
    """One vendor's way to express the same resources, below `prefix`.

    `created_status` is the status of a created file or job, `sends_location` whether it has a Location header,
    `max_suffix` the longest suffix of a model's name in characters. `deployment_in_path` is whether a chat call names
    its deployment in the path, `has_data_plane_deployments` whether deployments are also made without the control
    plane, `calls_models` whether a model can be called without one. `shares_checkpoints` and `copies_checkpoints` are
    the two ways to give another resource a checkpoint: a permission or a copy. `min_expiry_s` is the shortest
    `expires_after` of a file in seconds. `encodes_results` is whether results.csv may be sent as base64. The fields
    from `error` on are the answer types, those of webhooks with the paths that have them.
    """

    name: str
    prefix: str
    needs_api_version: bool
    created_status: int
    sends_location: bool
    max_suffix: int
    deployment_in_path: bool
    has_data_plane_deployments: bool
    calls_models: bool
    shares_checkpoints: bool
    copies_checkpoints: bool
    min_expiry_s: int
    encodes_results: bool
    error: type[ErrorAnswer]
    file: type[OpenAIFile] | type[AzureFile]
    upload: type[OpenAIUpload] | type[AzureUpload]
    upload_part: type[OpenAIUploadPart] | type[AzureUploadPart]
    job: type[OpenAIJob] | type[AzureJob]
    event: type[OpenAIEvent] | type[AzureEvent]
    attempt: type[OpenAIAttempt] | type[AzureAttempt]
    model: type[OpenAIModel] | type[AzureModel] | type[AzureV1Model]
    webhooks: tuple[WebhookWire, ...]


OPENAI = Dialect(
    name="openai",
    prefix="/v1",
    needs_api_version=False,
    created_status=200,
    sends_location=False,
    max_suffix=MAX_SUFFIX_CHARACTERS,
    deployment_in_path=False,
    has_data_plane_deployments=False,
    calls_models=True,
    shares_checkpoints=True,
    copies_checkpoints=False,
    min_expiry_s=3_600,
    encodes_results=True,
    error=OpenAIError,
    file=OpenAIFile,
    upload=OpenAIUpload,
    upload_part=OpenAIUploadPart,
    job=OpenAIJob,
    event=OpenAIEvent,
    attempt=OpenAIAttempt,
    model=OpenAIModel,
    webhooks=(SDK_WEBHOOKS,),
)
AZURE = Dialect(
    name="azure",
    prefix="/openai",
    needs_api_version=True,
    created_status=201,
    sends_location=True,
    max_suffix=40,
    deployment_in_path=True,
    has_data_plane_deployments=True,
    calls_models=False,
    shares_checkpoints=False,
    copies_checkpoints=False,
    min_expiry_s=1_209_600,
    encodes_results=False,
    error=AzureError,
    file=AzureFile,
    upload=AzureUpload,
    upload_part=AzureUploadPart,
    job=AzureJob,
    event=AzureEvent,
    attempt=AzureAttempt,
    model=AzureModel,
    webhooks=(SDK_WEBHOOKS, AZURE_WEBHOOKS),
)
AZURE_V1 = Dialect(
    name="azure-v1",
    prefix="/openai/v1",
    needs_api_version=False,
    created_status=200,
    sends_location=False,
    max_suffix=MAX_SUFFIX_CHARACTERS,
    deployment_in_path=False,
    has_data_plane_deployments=False,
    calls_models=False,
    shares_checkpoints=False,
    copies_checkpoints=True,
    min_expiry_s=1_209_600,
    encodes_results=False,
    error=AzureV1Error,
    file=AzureFile,
    upload=AzureUpload,
    upload_part=AzureUploadPart,
    job=AzureJob,
    event=OpenAIEvent,
    attempt=AzureAttempt,
    model=AzureV1Model,
    webhooks=(SDK_WEBHOOKS, AZURE_WEBHOOKS),
)
DIALECTS = (AZURE_V1, OPENAI, AZURE)
"""Longest prefix first: the dialect of a path is the first whose prefix it has."""


def of_path(path: str) -> Dialect:
    """The dialect of a path; OpenAI's for paths outside every prefix."""
    return next((dialect for dialect in DIALECTS if path.startswith(dialect.prefix + "/")), OPENAI)
