"""Jobs as each dialect sends them, with their hyperparameters and method.

OpenAI sends unknown values as null and choices still open as "auto"; Azure leaves the ones out and sends -1.
"""

from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from luthier.api.dialects.answer import Unix, one_of, unix, unix_or_none, unset_if_none
from luthier.api.dialects.status_words import AZURE_STATUS, OPENAI_STATUS
from luthier.core.models import Job
from luthier.core.states import Method
from luthier.core.training.hyperparameters import DEFAULT_BETA

HyperparametersT = TypeVar("HyperparametersT")
Auto = Literal["auto"]
AzureNumber = Annotated[int, Meta(description="-1 while the service has not chosen it yet.")]
AZURE_AUTO = -1
FineTunedModel = Annotated[str, Meta(description="The model's name, once the job has succeeded.")]


class OpenAIHyperparameters(Struct, kw_only=True):
    """Numbers, or "auto" while the service has not chosen them yet."""

    n_epochs: int | Auto
    batch_size: int | Auto
    learning_rate_multiplier: float | Auto

    @classmethod
    def from_job(cls, job: Job) -> Self:
        """What was asked for until the job's files are checked, then the numbers chosen."""
        chosen = job.hyperparameters
        return cls(
            n_epochs=chosen.n_epochs or "auto",
            batch_size=chosen.batch_size or "auto",
            learning_rate_multiplier=chosen.learning_rate_multiplier or "auto",
        )


class OpenAIDpoHyperparameters(OpenAIHyperparameters, kw_only=True):
    """Numbers, or "auto" while the service has not chosen them yet; with DPO's beta."""

    beta: float | Auto = "auto"

    @classmethod
    def from_job(cls, job: Job) -> Self:
        """As the base's, with the job's beta or "auto"."""
        answer = super().from_job(job)
        answer.beta = job.hyperparameters.beta or "auto"
        return answer


class AzureHyperparameters(Struct, kw_only=True):
    """Numbers, or -1 while the service has not chosen them yet."""

    n_epochs: AzureNumber
    batch_size: AzureNumber
    learning_rate_multiplier: float

    @classmethod
    def from_job(cls, job: Job) -> Self:
        """What was asked for until the job's files are checked, then the numbers chosen."""
        chosen = job.hyperparameters
        return cls(
            n_epochs=chosen.n_epochs or AZURE_AUTO,
            batch_size=chosen.batch_size or AZURE_AUTO,
            # Azure shows 1 for a multiplier that was not given (wire-contract.md section 6); "auto" is 1 too.
            learning_rate_multiplier=chosen.learning_rate_multiplier or 1.0,
        )


class AzureDpoHyperparameters(AzureHyperparameters, kw_only=True):
    """Numbers, or -1 while the service has not chosen them yet; with DPO's beta.

    No published answer shows an automatic beta, so the default is sent.
    """

    beta: float = DEFAULT_BETA

    @classmethod
    def from_job(cls, job: Job) -> Self:
        """As the base's, with the job's beta or the default."""
        answer = super().from_job(job)
        answer.beta = job.hyperparameters.beta or DEFAULT_BETA
        return answer


class MethodSettings(Struct, Generic[HyperparametersT], kw_only=True):
    """What a job's method was configured with."""

    hyperparameters: HyperparametersT


class Supervised(Struct, Generic[HyperparametersT], kw_only=True, tag_field="type", tag="supervised"):
    """The method `supervised`: fine-tuning on examples."""

    supervised: MethodSettings[HyperparametersT]


class Dpo(Struct, Generic[HyperparametersT], kw_only=True, tag_field="type", tag="dpo"):
    """The method `dpo`: direct preference optimization on pairs of outputs."""

    dpo: MethodSettings[HyperparametersT]


class JobFailure(Struct, kw_only=True):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class EarlyStopping(Struct, kw_only=True):
    """A job that ends early: after `patience` epochs without a better validation loss."""

    patience: int


class OpenAIJob(Struct, kw_only=True):
    """A request for a fine-tuned model, and its outcome. Unknown values are null."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: Unix
    finished_at: Unix | None
    status: Annotated[str, one_of(OPENAI_STATUS.values())]
    model: str
    fine_tuned_model: FineTunedModel | None
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    error: JobFailure | None
    estimated_finish: Unix | None
    # OpenAI's example of a DPO job has null here, against its own schema, which requires an object in every job.
    hyperparameters: OpenAIHyperparameters
    method: Supervised[OpenAIHyperparameters] | Dpo[OpenAIDpoHyperparameters]
    seed: int
    suffix: str | None
    trainingType: str | UnsetType = UNSET
    early_stopping: EarlyStopping | UnsetType = UNSET
    luthier: dict[str, Any] | UnsetType = UNSET
    organization_id: str = ""
    user_provided_suffix: str | None
    integrations: list[dict[str, Any]]
    metadata: dict[str, str] | None

    @classmethod
    def from_job(cls, job: Job) -> Self:
        """The job in OpenAI's words, with the fields that its caller sent to see again (`extras`)."""
        hyperparameters = OpenAIHyperparameters.from_job(job)
        extras: dict[str, Any] = {"metadata": None, **job.extras, "integrations": _integrations(job)}
        return cls(
            id=job.id,
            created_at=unix(job.created_at),
            finished_at=unix_or_none(job.finished_at),
            status=OPENAI_STATUS[job.status],
            model=job.model,
            fine_tuned_model=job.fine_tuned_model,
            training_file=job.training_file,
            validation_file=job.validation_file,
            result_files=[job.result_file] if job.result_file else [],
            trained_tokens=job.trained_tokens,
            error=_failure(job),
            estimated_finish=unix_or_none(job.estimated_finish),
            hyperparameters=hyperparameters,
            method=Supervised(supervised=MethodSettings(hyperparameters=hyperparameters))
            if job.method is Method.SUPERVISED
            else Dpo(dpo=MethodSettings(hyperparameters=OpenAIDpoHyperparameters.from_job(job))),
            seed=job.seed,
            suffix=job.suffix,
            user_provided_suffix=job.suffix,
            early_stopping=_early_stopping(job),
            **extras,
        )


class AzureJob(Struct, kw_only=True):
    """A request for a fine-tuned model, and its outcome. Unknown values are left out."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: Unix
    finished_at: Unix | UnsetType = UNSET
    status: Annotated[str, one_of(AZURE_STATUS.values())]
    model: str
    fine_tuned_model: FineTunedModel | UnsetType = UNSET
    training_file: str
    validation_file: str | UnsetType = UNSET
    result_files: list[str] | UnsetType = UNSET
    trained_tokens: int | UnsetType = UNSET
    error: JobFailure | UnsetType = UNSET
    estimated_finish: Unix | UnsetType = UNSET
    hyperparameters: AzureHyperparameters
    method: Supervised[AzureHyperparameters] | Dpo[AzureDpoHyperparameters] | UnsetType = UNSET
    seed: int
    suffix: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    trainingType: str | UnsetType = UNSET
    integrations: list[dict[str, Any]] | UnsetType = UNSET
    early_stopping: EarlyStopping | UnsetType = UNSET
    luthier: dict[str, Any] | UnsetType = UNSET

    @classmethod
    def from_job(cls, job: Job) -> Self:
        """The job in Azure's words, with the fields that its caller sent to see again; `method` only if it was sent."""
        extras: dict[str, Any] = dict(job.extras)
        if "integrations" in extras:
            extras["integrations"] = _integrations(job)
        return cls(
            id=job.id,
            created_at=unix(job.created_at),
            finished_at=unset_if_none(unix_or_none(job.finished_at)),
            status=AZURE_STATUS[job.status],
            model=job.model,
            fine_tuned_model=unset_if_none(job.fine_tuned_model),
            training_file=job.training_file,
            validation_file=unset_if_none(job.validation_file),
            result_files=[job.result_file] if job.result_file else UNSET,
            trained_tokens=unset_if_none(job.trained_tokens),
            error=unset_if_none(_failure(job)),
            estimated_finish=unset_if_none(unix_or_none(job.estimated_finish)),
            hyperparameters=AzureHyperparameters.from_job(job),
            method=_azure_method(job) if job.method_sent else UNSET,
            seed=job.seed,
            suffix=unset_if_none(job.suffix),
            early_stopping=_early_stopping(job),
            **extras,
        )


def _azure_method(job: Job) -> Supervised[AzureHyperparameters] | Dpo[AzureDpoHyperparameters]:
    """The job's method with Azure's hyperparameters, which repeat those at the root."""
    if job.method is Method.SUPERVISED:
        return Supervised(supervised=MethodSettings(hyperparameters=AzureHyperparameters.from_job(job)))
    return Dpo(dpo=MethodSettings(hyperparameters=AzureDpoHyperparameters.from_job(job)))


def _failure(job: Job) -> JobFailure | None:
    """Why the job failed; None if it has not."""
    if job.error is None:
        return None
    return JobFailure(code=job.error.code, message=job.error.message, param=job.error.param)


def _early_stopping(job: Job) -> EarlyStopping | UnsetType:
    """The job's early stopping; UNSET, which is left out, if it has none."""
    return UNSET if job.early_stop_patience is None else EarlyStopping(patience=job.early_stop_patience)


def _integrations(job: Job) -> list[dict[str, Any]]:
    """The integrations that were sent, with `run_id` as Weights & Biases has it: the job's id."""
    sent: Any = job.extras.get("integrations", [])
    return [{**item, "wandb": {**item["wandb"], "run_id": job.id}} for item in sent]
