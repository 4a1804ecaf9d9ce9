"""Bodies of requests on files and jobs, in every form that real clients send; an unknown field is an error."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.api.requests import job_fields
from luthier.api.requests.field_types import Text, Whole
from luthier.api.requests.job_fields import (
    Count,
    DpoBody,
    DpoHyperparametersBody,
    EarlyStopping,
    Integrations,
    Metadata,
    Rate,
    RecipeObject,
)
from luthier.core.errors import InvalidRequest, Unsupported
from luthier.core.states import Method
from luthier.core.training import recipe as recipes
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.core.training.recipe import Recipe
from luthier.service.files.files import MAX_EXPIRY_S, UPLOADED_PURPOSES
from luthier.service.jobs.job_creation import JobRequest


class _Body(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class HyperparametersBody(_Body):
    """A job's hyperparameters; the service chooses for null, "auto" and -1."""

    n_epochs: Count = None
    batch_size: Count = None
    learning_rate_multiplier: Rate = None
    prompt_loss_weight: float | None = None


class SupervisedBody(_Body):
    """`method.supervised`: the hyperparameters of training on examples."""

    hyperparameters: HyperparametersBody | None = None
    prompt_loss_weight: float | None = None


class MethodBody(_Body):
    """`method` of a job: its type, and the settings of that type."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedBody | None = None
    dpo: DpoBody | None = None
    reinforcement: dict[str, Any] | None = None
    prompt_loss_weight: float | None = None

    def check(self) -> None:
        """Raises Unsupported for reinforcement, InvalidRequest if the other method's settings are given too."""
        if self.type == "reinforcement":
            raise Unsupported(
                "method_not_supported",
                "method.type 'reinforcement' is not supported yet; use 'supervised' or 'dpo'.",
                "method.type",
            )
        other = "dpo" if self.type == "supervised" else "supervised"
        if (self.dpo if other == "dpo" else self.supervised) is not None:
            text = f"method.type is {self.type!r}, but method.{other} is given too. Leave one of them out."
            raise InvalidRequest("method_mismatch", text, f"method.{other}")


class JobBody(_Body):
    """POST /fine_tuning/jobs.

    `trainingType` and `prompt_loss_weight` are of Azure's API, `luthier` and `early_stopping` extensions of Luthier.
    """

    model: str = Field(min_length=1)
    training_file: str = Field(min_length=1)
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    seed: int | None = None
    suffix: str | None = None
    integrations: Integrations | None = None
    metadata: Metadata | None = None
    trainingType: str | Whole | None = None
    early_stopping: EarlyStopping = None
    luthier: RecipeObject | None = None
    prompt_loss_weight: float | None = None

    def recipe(self) -> Recipe:
        """The settings in `luthier`, beyond the vendors' hyperparameters. Raises InvalidRequest, which names one."""
        return recipes.read(self.luthier or {})

    def chosen_hyperparameters(self) -> Hyperparameters:
        """Hyperparameters of `method` where they are given, else those of the root; None is left to the service.

        Raises Unsupported for what is not supported, InvalidRequest for fields of another method.
        """
        method = self.method or MethodBody(type="supervised")
        method.check()
        supervised, dpo = method.supervised or SupervisedBody(), method.dpo or DpoBody()
        root = self.hyperparameters or HyperparametersBody()
        supervised_settings = supervised.hyperparameters or HyperparametersBody()
        settings = dpo.hyperparameters or DpoHyperparametersBody() if method.type == "dpo" else supervised_settings
        job_fields.refuse_prompt_loss_weight(
            {
                "prompt_loss_weight": self.prompt_loss_weight,
                "hyperparameters.prompt_loss_weight": root.prompt_loss_weight,
                "method.prompt_loss_weight": method.prompt_loss_weight,
                "method.supervised.prompt_loss_weight": supervised.prompt_loss_weight,
                "method.supervised.hyperparameters.prompt_loss_weight": supervised_settings.prompt_loss_weight,
            }
        )
        return Hyperparameters(
            n_epochs=root.n_epochs if settings.n_epochs is None else settings.n_epochs,
            batch_size=root.batch_size if settings.batch_size is None else settings.batch_size,
            learning_rate_multiplier=root.learning_rate_multiplier
            if settings.learning_rate_multiplier is None
            else settings.learning_rate_multiplier,
            beta=dpo.chosen_beta(),
        )

    def training_method(self) -> Method:
        """The method, supervised if none is named. Called after `chosen_hyperparameters` has checked it."""
        return Method(self.method.type) if self.method else Method.SUPERVISED

    def notes(self) -> tuple[str, ...]:
        """What of the request has no effect, a sentence each, for the job's events; empty if all of it has."""
        if self.method is None:
            return ()
        settings = self.method.dpo if self.method.type == "dpo" else self.method.supervised
        inner, path = settings and settings.hyperparameters, f"method.{self.method.type}.hyperparameters"
        unused = job_fields.overridden_root_values(self.hyperparameters, inner, path)
        return unused + (self.method.dpo.notes() if self.method.dpo else ())

    def to_request(self, max_suffix: int) -> JobRequest:
        """The request for a job that the body is; `max_suffix` is the dialect's longest suffix in characters.

        Raises InvalidRequest and Unsupported for what the checks of single fields do not see.
        """
        return JobRequest(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file or None,
            hyperparameters=self.chosen_hyperparameters(),
            method=self.training_method(),
            method_sent=self.method is not None,
            seed=self.seed,
            suffix=self.suffix,
            max_suffix=max_suffix,
            extras=self.extras(),
            recipe=self.recipe(),
            early_stop_patience=self.early_stopping.patience if self.early_stopping else None,
            notes=self.notes(),
        )

    def extras(self) -> dict[str, object]:
        """Fields that are stored and echoed, without those that were not sent.

        Raises InvalidRequest for an unknown trainingType.
        """
        fields = {
            "metadata": self.metadata,
            "trainingType": job_fields.training_type(self.trainingType),
            "integrations": [item.stored_fields() for item in self.integrations or ()] or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


Purpose = Annotated[Text, Field(json_schema_extra={"enum": sorted(UPLOADED_PURPOSES)})]
"""The purposes of either vendor; the service checks them."""


class ExpiryBody(_Body):
    """`expires_after`: a file is deleted so many seconds after its creation."""

    anchor: Literal["created_at"]
    seconds: int

    def within(self, min_s: int, field: str = "expires_after") -> int:
        """The seconds. Raises InvalidRequest outside of the dialect's range, which begins with `min_s`."""
        if not min_s <= self.seconds <= MAX_EXPIRY_S:
            text = f"{field}.seconds is {self.seconds}; it must be from {min_s} to {MAX_EXPIRY_S} here."
            raise InvalidRequest(f"invalid_{field}", text, f"{field}.seconds")
        return self.seconds


# A1021 `FileImport`; A2504 with `expires_after`.
class ImportBody(_Body):
    """POST /files/import: the service fetches `content_url`."""

    purpose: Purpose
    filename: Text
    content_url: str = Field(min_length=1)
    expires_after: ExpiryBody | None = None


# A1021 and OpenAI `CreateUploadRequest`.
class UploadBody(_Body):
    """POST /uploads; `bytes` is the length of the whole file."""

    filename: Text
    purpose: Purpose
    bytes: Whole = Field(ge=-(2**63), le=2**63 - 1)
    mime_type: Text = Field(max_length=255)
    expires_after: ExpiryBody | None = None


class CompleteUploadBody(_Body):
    """POST /uploads/{id}/complete: the parts in the file's order, and the `md5` to check, that of the whole file."""

    part_ids: list[Text] = Field(max_length=10_000)
    md5: str | None = None
