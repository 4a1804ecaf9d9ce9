"""What a job would take before it is created: settings with their reasons, steps, tokens, time, memory, price."""

from dataclasses import dataclass

from luthier.core.errors import InvalidRequest, TooLarge
from luthier.core.states import Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.core.training.recipe import Recipe
from luthier.data.problems.problem import Severity
from luthier.service.context import Context
from luthier.service.files import data_check, data_reports, files, training_estimate
from luthier.service.files.data_check import Rules
from luthier.service.files.training_estimate import RunEstimate
from luthier.service.job_views import job_settings
from luthier.service.job_views.job_settings import Setting, SettingsBasis
from luthier.service.jobs import job_creation, job_recipes, train_specs


@dataclass(frozen=True, slots=True)
class EstimateRequest:
    """What of a job's request an estimate depends on; None is left to the service."""

    model: str
    training_file: str
    validation_file: str | None
    hyperparameters: Hyperparameters
    method: Method
    recipe: Recipe
    seed: int | None
    patience: int | None


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """An estimate; `run` is None if the base model's tokenizer cannot count tokens here."""

    base_model: str
    n_examples: int
    settings: list[Setting]
    run: RunEstimate | None


def estimate(context: Context, resource_id: str, request: EstimateRequest) -> JobEstimate:
    """The estimate of a job of the resource; nothing is stored. The whole training file is checked for it.

    Raises what the creation of the job would, InvalidRequest also for rows that cannot be trained on, NotFound for a
    file, and TooLarge for a training file that takes too long for a request.
    """
    requested = job_recipes.merge_hyperparameters(request.hyperparameters, request.recipe)
    with context.database.reading() as tx:
        model = job_creation.tunable(context, tx, resource_id, request.model)
    model, recipe = job_recipes.fit_to_model(context, model, request.recipe)
    folder = context.base_folder(model.base.name)
    base = train_specs.apply_recipe(model.base, folder, recipe)
    train_specs.check_method(base, request.method)
    file = files.get(context, resource_id, request.training_file)
    files.check_trainable(file, "training_file")
    if request.validation_file is not None:
        files.check_trainable(files.get(context, resource_id, request.validation_file), "validation_file")
    if file.bytes > data_reports.MAX_SYNCHRONOUS_BYTES:
        size = data_reports.MAX_SYNCHRONOUS_BYTES // 2**20
        text = f"{file.id} is larger than {size} MiB, which takes too long to count here: create the job, its events "
        raise TooLarge("file_too_large_to_ask", f"{text}have the estimate.", "training_file")
    rules = Rules(request.method, base, folder)
    checked = data_check.check_training(files.content(context, file), rules)
    if not checked.report.valid:
        errors = [group for group in checked.report.groups if group.first.severity is Severity.ERROR]
        lines = data_check.summary_lines(errors, data_reports.SHOWN_PROBLEMS)
        raise InvalidRequest("invalid_training_file", "\n".join(["The file has errors:", *lines]), "training_file")
    n_examples = checked.report.n_examples
    basis = SettingsBasis(
        method=request.method,
        recipe=recipe,
        base=base,
        asked=requested,
        resolved=train_specs.resolve(base, requested, recipe, n_examples, request.method),
        n_examples=n_examples,
        seed=request.seed,
        seed_sent=request.seed is not None,
        patience=request.patience,
        continues=model.checkpoint is not None,
    )
    run = training_estimate.estimate(checked, rules, requested, context.data_folder, context.price)
    return JobEstimate(base.name, n_examples, job_settings.list_settings(basis), run)
