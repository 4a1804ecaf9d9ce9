"""The options of training, for `luthier train` and `luthier jobs create`: hyperparameters, recipe and --config, a file
of options. A wrong value ends the command with one line.
"""

import inspect
import tomllib
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli.screen import fail
from luthier.core.errors import InvalidRequest
from luthier.core.states import Method
from luthier.core.training import recipe
from luthier.core.training.recipe import Recipe, Schedule

_GROUP = "Recipe (default: as in the base model's catalog entry)"
_MAX_CONFIG_BYTES = 1 << 20

Epochs = Annotated[int | None, typer.Option(help="Number of epochs (default: auto).")]
BatchSize = Annotated[int | None, typer.Option(help="Batch size: examples per step (default: auto).")]
LearningRateMultiplier = Annotated[
    float | None, typer.Option(help="Factor on the base model's learning rate (default: 1).")
]
TrainingMethod = Annotated[Method, typer.Option(help="Training method: chats, or preference pairs.")]
Beta = Annotated[float | None, typer.Option(help="Beta of --method dpo (default: 0.1).")]
Seed = Annotated[int | None, typer.Option(help="Seed: the same seed and parameters give the same model.")]
EarlyStop = Annotated[
    int | None,
    typer.Option(
        help="Early stopping: epochs without a better validation loss before training ends with the best one "
        "(default: off)."
    ),
]


def check_beta(method: Method, beta: float | None) -> None:
    """Ends the command with exit code 1 for a beta beside a method that has none."""
    if beta is not None and method is not Method.DPO:
        fail("--beta needs --method dpo: it weighs differences in log-probability between the two outputs.")


def _option(help_: str, *names: str) -> Any:
    """An option in the recipe's section of the help."""
    return typer.Option(*names, help=help_, rich_help_panel=_GROUP)


def _configured(context: typer.Context, path: Path | None) -> Path | None:
    """The callback of --config, called before other options: makes the file's values the defaults in `context`, so that
    the command line wins. Returns the path; None, without a file, changes nothing.
    """
    if path is not None:
        context.default_map = {**(context.default_map or {}), **_defaults(context, path)}
    return path


OPTIONS: dict[str, Any] = {
    "learning_rate": Annotated[float | None, _option("Peak learning rate, instead of --lr-multiplier.")],
    "lora_rank": Annotated[int | None, _option("Rank of the LoRA adapter.")],
    "lora_alpha": Annotated[float | None, _option("LoRA alpha (default: in proportion to the rank).")],
    "lora_dropout": Annotated[float | None, _option("LoRA dropout, 0 to 0.9; above 0 training is slower.")],
    "lora_targets": Annotated[str | None, _option("Linear modules with an adapter, such as q_proj,v_proj.")],
    "full": Annotated[bool | None, _option("Train all weights, or a LoRA adapter.", "--full/--lora")],
    "bits": Annotated[int | None, _option("Quantize the frozen weights to 4 or 8 bits (QLoRA).")],
    "max_tokens": Annotated[int | None, _option("Maximum tokens of a row; a longer row is an error, never truncated.")],
    "warmup": Annotated[float | None, _option("Warm-up steps; below 1, a fraction of all steps.")],
    "schedule": Annotated[Schedule | None, _option("Learning rate schedule after the warm-up.")],
    "weight_decay": Annotated[float | None, _option("Weight decay of AdamW.")],
    "config": Annotated[
        Path | None,
        typer.Option(
            help="YAML or TOML file of these options; the command line wins.",
            callback=_configured,
            is_eager=True,
            exists=True,
            dir_okay=False,
            rich_help_panel=_GROUP,
        ),
    ],
}
"""Annotation by parameter name, for each option that `with_recipe_options` adds to a command."""


def with_recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of a recipe to a command, which gets them as one validated value, `recipe`.

    `epochs` is the command's own option: above the vendors' maximum of 50 it is sent in the recipe. A recipe that is
    not valid ends the command with exit code 1.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "recipe"]
    added = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation)
        for name, annotation in OPTIONS.items()
    ]

    @wraps(command)
    def with_recipe(**values: Any) -> None:
        """What typer calls: replaces the values of OPTIONS by `recipe`, and calls the command."""
        asked = {name: values.pop(name) for name in OPTIONS}
        asked.pop("config")
        try:
            parsed = recipe.read({name: value for name, value in asked.items() if value is not None})
            recipe.check_rate(parsed, values["lr_multiplier"])
        except InvalidRequest as error:
            fail(error.message)
        command(**values, recipe=parsed)

    with_recipe.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    with_recipe.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
    return with_recipe


def extension(parsed: Recipe, epochs: int | None, vendor_max_epochs: int) -> dict[str, Any]:
    """The `luthier` object of a job's body, empty if nothing is set; it holds the epochs only if they exceed the
    vendors' maximum.
    """
    return recipe.with_n_epochs(
        parsed, epochs if epochs is not None and epochs > vendor_max_epochs else None
    ).requested()


def _defaults(context: typer.Context, path: Path) -> dict[str, Any]:
    """The file's values by parameter name; `auto` and null are left out. Ends the command with exit code 1 for a key
    that is not an option, or a value that is not a single one.
    """
    options: dict[str, Any] = {
        parameter.opts[0].removeprefix("--"): parameter
        for parameter in context.command.params
        if parameter.param_type_name == "option" and parameter.name not in ("config", "help")
    }
    names = tuple(name.replace("-", "_") for name in options)
    defaults: dict[str, Any] = {}
    for key, value in _content(path).items():
        option = options.get(str(key).replace("_", "-"))
        if option is None:
            fail(f"--config {path}: {key} is no option of this command. {recipe.suggestion(str(key), names)}")
        if value is None or value == "auto":
            continue
        if isinstance(value, list):
            value = ",".join(map(str, value))
        if isinstance(value, dict) or (isinstance(value, bool) and not option.is_flag):
            fail(f"--config {path}: {key} is no single value. Write it as `{key}: VALUE`.")
        defaults[option.name] = value
    return defaults


def _content(path: Path) -> dict[str, Any]:
    """The file's content: TOML if its name ends in .toml, else YAML; {} for an empty file. Ends the command with exit
    code 1 if it is too large, cannot be read or parsed, or has no options.
    """
    import yaml

    try:
        data = path.read_bytes()
        if len(data) > _MAX_CONFIG_BYTES:
            fail(f"--config {path} is larger than {_MAX_CONFIG_BYTES >> 20} MiB: is it the right file?")
        text = data.decode()
        content = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())
        fail(f"--config {path} cannot be read as {'TOML' if path.suffix == '.toml' else 'YAML'}: {words}")
    if content is not None and not isinstance(content, dict):
        fail(f"--config {path} holds no options. Write one a line, such as `epochs: 3`.")
    return content or {}
