"""The recipe of a job: settings beyond the vendors' hyperparameters, checked against the model that is tuned."""

from collections.abc import Mapping
from dataclasses import replace

from luthier import model_folder
from luthier.catalog import BaseModelEntry
from luthier.core.errors import InvalidRequest
from luthier.core.models import Checkpoint, Job
from luthier.core.states import Tuning
from luthier.core.training import hyperparameters
from luthier.core.training import recipe as recipes
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.core.training.recipe import MAX_RECIPE_EPOCHS, Recipe
from luthier.service.context import Context
from luthier.service.jobs import train_specs
from luthier.service.models import models

RECIPE = "luthier"
"""The field of a job's body, and of its extras, with the settings of core.recipe."""


def extras(recipe: Recipe) -> dict[str, object]:
    """The requested settings as they are stored in a job's extras, under "luthier"; empty if nothing was set."""
    settings = recipe.requested()
    return {RECIPE: settings} if settings else {}


def of_job(job: Job) -> Recipe:
    """The recipe of a job, read back from its extras; without settings an empty one."""
    settings = job.extras.get(RECIPE)
    return recipes.read(settings) if isinstance(settings, Mapping) else Recipe()


def merge_hyperparameters(requested: Hyperparameters, recipe: Recipe) -> Hyperparameters:
    """The hyperparameters with the recipe's `n_epochs`, if it has one.

    Raises InvalidRequest for a value out of range, two different `n_epochs`, and a learning rate beside a multiplier.
    """
    hyperparameters.check(requested)
    recipes.check_rate(recipe, requested.learning_rate_multiplier)
    if recipe.n_epochs is None:
        return requested
    if requested.n_epochs not in (None, recipe.n_epochs):
        text = f"hyperparameters.n_epochs is {requested.n_epochs} and luthier.n_epochs is {recipe.n_epochs}. Send one."
        raise InvalidRequest("two_values", text, "luthier.n_epochs")
    requested = replace(requested, n_epochs=recipe.n_epochs)
    hyperparameters.check(requested, MAX_RECIPE_EPOCHS)
    return requested


def fit_to_model(context: Context, model: models.Model, recipe: Recipe) -> tuple[models.Model, Recipe]:
    """The model with the requested quantization, and the recipe with the settings that a tuned parent determines.

    Raises InvalidRequest for settings that the model does not support.
    """
    model = _quantized(context, model, recipe)
    return model, recipe if model.checkpoint is None else _continued_recipe(recipe, model.checkpoint, model.base)


def _quantized(context: Context, model: models.Model, recipe: Recipe) -> models.Model:
    """The model on the quantized base that the recipe requests, or as it is.

    Raises InvalidRequest if that base has not been pulled, or a tuned model has weights of other bits.
    """
    base_bits = train_specs.quantization_of(model.base)
    if recipe.bits is None or recipe.bits == base_bits:
        return model
    if model.checkpoint is not None:
        text = f"bits is {recipe.bits}, and {model.name} has weights of {base_bits or 16} bits: it can continue only"
        raise InvalidRequest("invalid_hyperparameter", f"{text} with them. Leave bits out.", "luthier.bits")
    base = train_specs.quantized_base(context.catalog, model.base, recipe.bits, context.is_ready)
    return replace(model, base=base)


def _continued_recipe(recipe: Recipe, parent: Checkpoint, base: BaseModelEntry) -> Recipe:
    """The recipe of a job that continues from a tuned model, which determines what is tuned and in which shape.

    `full` is set if the parent's tuning is not that of the catalog entry. Raises InvalidRequest for a setting that
    contradicts the parent.
    """
    is_full = model_folder.WEIGHTS in parent.files
    if recipe.adapter_fields:
        name = recipe.adapter_fields[0]
        text = f"{name} is that of {parent.model}, which the job continues from. Leave it out, or start from the base."
        raise InvalidRequest("settings_exclude", text, f"luthier.{name}")
    if recipe.full not in (None, is_full):
        what = "all weights of it are tuned" if is_full else "it is an adapter"
        text = f"full is {str(recipe.full).lower()}, and the job continues from {parent.model}: {what}. Leave full out."
        raise InvalidRequest("settings_exclude", text, "luthier.full")
    return recipe if is_full is (base.tuning is Tuning.FULL) else replace(recipe, full=is_full)
