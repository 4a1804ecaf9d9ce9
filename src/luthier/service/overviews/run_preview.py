"""A job before it is created: the same checks as its creation, its files' reports, what "auto" becomes, the estimate.

Nothing is written. Unlike `job_creation.create` it goes on after a problem, so that a form shows all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from luthier.catalog import BaseModelEntry
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.models import File
from luthier.core.training import hyperparameters
from luthier.core.training.hyperparameters import ResolvedHyperparameters
from luthier.service.context import Context
from luthier.service.files import files, training_estimate
from luthier.service.files.data_check import Checked, Rules
from luthier.service.files.file_checks import FileChecks
from luthier.service.files.file_mending import Mending
from luthier.service.files.training_estimate import RunEstimate
from luthier.service.jobs import job_creation, job_recipes, train_specs
from luthier.service.jobs.job_creation import JobRequest
from luthier.service.models.models import Model


@dataclass(slots=True)
class RunPreview:
    """What a job of this request would be; None where that is not known, mostly because of one of the `problems`.

    `base` is the entry with the request's recipe, `model` what was named. `mending` is there if the training file has
    problems.
    """

    request: JobRequest
    model: Model | None = None
    base: BaseModelEntry | None = None
    training_file: File | None = None
    training: Checked | None = None
    validation_file: File | None = None
    validation: Checked | None = None
    mending: Mending | None = None
    resolved: ResolvedHyperparameters | None = None
    peak_rate: float | None = None
    estimate: RunEstimate | None = None
    problems: list[LuthierError] = field(default_factory=list)

    @property
    def training_is_valid(self) -> bool:
        """Whether the training data was read here and can be trained on."""
        return self.training is not None and self.training.report.trainable

    @property
    def why_not(self) -> str:
        """Why the job cannot be started, in a sentence for its button; empty if it can."""
        if self.training_file is None:
            return "Choose training data first (step 1)."
        if self.problems:
            return self.problems[0].message
        for checked, name in ((self.training, "training"), (self.validation, "validation")):
            if checked is not None and not checked.report.trainable:
                return f"The {name} data has errors, which step 2 lists with their fixes."
        return ""


def preview(context: Context, checks: FileChecks, resource_id: str, request: JobRequest) -> RunPreview:
    """The job of a request, of which the training file ("") and all else may still be missing."""
    made = RunPreview(request)
    with _collecting(made):
        job_recipes.merge_hyperparameters(request.hyperparameters, request.recipe)
    with _collecting(made):
        job_creation.check_suffix(request.suffix, request.max_suffix)
    with _collecting(made):
        hyperparameters.check_seed(request.seed)
    with _collecting(made):
        hyperparameters.check_early_stopping(request.early_stop_patience, request.validation_file is not None)
    with _collecting(made):
        _read_model(context, resource_id, made)
    made.training_file = _file(context, resource_id, made, request.training_file, "training_file")
    made.validation_file = _file(context, resource_id, made, request.validation_file, "validation_file")
    with _collecting(made):
        _check_files(context, checks, made)
    with _collecting(made):
        _estimate(context, made)
    return made


@contextmanager
def _collecting(made: RunPreview) -> Iterator[None]:
    """Keeps an error of the block as a problem."""
    try:
        yield
    except LuthierError as error:
        made.problems.append(error)


def _read_model(context: Context, resource_id: str, made: RunPreview) -> None:
    """Finds the model, and the entry as the recipe changes it. Raises LuthierError as `job_creation.create` does."""
    request = made.request
    with context.database.reading() as tx:
        made.model = job_creation.tunable(context, tx, resource_id, request.model)
    model, recipe = job_recipes.fit_to_model(context, made.model, request.recipe)
    base = train_specs.apply_recipe(model.base, context.base_folder(model.base.name), recipe)
    train_specs.check_method(base, request.method)
    made.base = base


def _file(context: Context, resource_id: str, made: RunPreview, file_id: str | None, param: str) -> File | None:
    """A file of the request if it is one to train on; else None, with a problem if one was named."""
    if not file_id:
        return None
    try:
        file = files.get(context, resource_id, file_id)
        files.check_trainable(file, param)
    except LuthierError as error:
        made.problems.append(InvalidRequest(error.code, error.message.removeprefix(f"{param}: "), param))
        return None
    return file


def _check_files(context: Context, checks: FileChecks, made: RunPreview) -> None:
    """Checks the files as the job would, and what mending could do. One that is too large to be read here is no
    problem of the job, which reads it in the background.
    """
    rules = _rules(context, made)
    if made.training_file is None:
        return
    try:
        made.training = checks.of_training(context, made.training_file, rules)
        if made.validation_file is not None:
            made.validation = checks.of_validation(
                context, made.validation_file, rules, made.training_file, made.training
            )
    except LuthierError as error:
        if error.code != "file_too_large_to_ask":
            raise
    if made.training is not None and (made.training.report.n_errors or made.training.report.n_warnings):
        made.mending = checks.of_mending(context, made.training_file, replace(rules, counts_all=False))


def _rules(context: Context, made: RunPreview) -> Rules:
    """What the files are checked against: without a model that can be tuned only the method."""
    if made.base is None:
        return Rules(made.request.method)
    return Rules(made.request.method, made.base, context.base_folder(made.base.name))


def _estimate(context: Context, made: RunPreview) -> None:
    """Adds what "auto" becomes and the estimate, where the training file's rows are known."""
    if made.training is None or made.base is None or not made.training.report.n_examples:
        return
    request, n_examples = made.request, made.training.report.n_examples
    requested = job_recipes.merge_hyperparameters(request.hyperparameters, request.recipe)
    made.resolved = train_specs.resolve(made.base, requested, request.recipe, n_examples, request.method)
    made.peak_rate = request.recipe.learning_rate or train_specs.peak_rate(made.base, made.resolved)
    rules = _rules(context, made)
    made.estimate = training_estimate.estimate(made.training, rules, requested, context.data_folder, context.price)
