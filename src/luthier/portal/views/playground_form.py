"""The playground's selects and columns: what may be chosen, what the URL has chosen, and the parameters in it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from luthier.core import ids
from luthier.core.models import Checkpoint
from luthier.service.overviews.chat_models import ChatModels

MAX_COLUMNS = 4
MAX_OPTIONS = 100
"""Of each group; a name beyond them is chosen by its URL, as the pages of models and jobs do."""
LETTERS = "ABCD"
NUMBERS: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "max_tokens": (1, 2**31 - 1),
    "seed": (-(2**53), 2**53),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
"""The parameters with the least and the greatest value that the API takes; a seed as exact as a script's numbers."""
_WHOLE = ("max_tokens", "seed")


@dataclass(frozen=True, slots=True)
class Group:
    """One group of a select: names, each with what is shown for it."""

    label: str
    options: Sequence[tuple[str, str]]
    n_left_out: int


@dataclass(frozen=True, slots=True)
class Column:
    """One model that is asked. `deployment` is empty for a model that is called by its own name."""

    letter: str
    name: str
    what: str
    deployment: str


def groups(models: ChatModels, chosen: Collection[str]) -> list[Group]:
    """The select's groups, without those that are empty, `chosen` names always among them.

    A model with a deployment's name is that deployment.
    """
    taken = {deployment.name for deployment in models.deployments}
    deployed = [(one.name, f"{one.name} ({one.served_model})") for one in models.deployments]
    tuned = [(one.model, one.model) for one in models.tuned if one.model not in taken]
    bases = [(name, name) for name in models.bases if name not in taken]
    named = (("Deployments", deployed), ("Fine-tuned models and checkpoints", tuned), ("Base models ready here", bases))
    return [_group(label, options, chosen) for label, options in named if options]


def columns(models: ChatModels, names: Sequence[str]) -> tuple[list[Column], list[str]]:
    """A column for each name, at most four of different ones, and the names that no chat can call here."""
    deployed = {one.name: str(one.served_model) for one in models.deployments}
    tuned = {one.model: one for one in models.tuned}
    chosen: list[Column] = []
    unknown: list[str] = []
    for name in dict.fromkeys(names):
        if name in deployed:
            what = f"deployment of {deployed[name]}"
        elif name in tuned:
            what = f"{_kind(tuned[name])} on {tuned[name].base_model}"
        elif name in models.bases:
            what = "base model"
        else:
            unknown.append(name)
            continue
        if len(chosen) < MAX_COLUMNS:
            chosen.append(Column(LETTERS[len(chosen)], name, what, name if name in deployed else ""))
    return chosen, unknown


def first_choice(models: ChatModels) -> list[str]:
    """What is shown where nothing is chosen: the newest tuned model beside its base, else whatever there is first."""
    if models.tuned:
        newest = models.tuned[0]
        return [newest.model, newest.base_model]
    return [*(one.name for one in models.deployments), *models.bases][:1]


def number(name: str, text: str) -> str:
    """A parameter's text from the URL as the form shows it; empty for none, and for one that the API would refuse."""
    least, greatest = NUMBERS[name]
    try:
        value = int(text) if name in _WHOLE else float(text)
    except ValueError:
        return ""
    return text if least <= value <= greatest else ""  # as no number that is not finite is


def _group(label: str, options: Sequence[tuple[str, str]], chosen: Collection[str]) -> Group:
    """The first options of a group, and of the others those that are chosen."""
    rest = [option for option in options[MAX_OPTIONS:] if option[0] in chosen]
    return Group(label, [*options[:MAX_OPTIONS], *rest], max(0, len(options) - MAX_OPTIONS - len(rest)))


def _kind(checkpoint: Checkpoint) -> str:
    """What a tuned model is called."""
    return f"checkpoint of step {checkpoint.step}" if ids.CHECKPOINT_MARK in checkpoint.model else "fine-tuned model"
