"""Which jobs a user means: by id, by the beginning of one, or by the fine-tuned model's name."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from luthier.cli.screen import fail

if TYPE_CHECKING:  # imported on use: help should not wait for it
    from openai import OpenAI

_PREFIX = "ftjob-"
_WHOLE = re.compile(r"ftjob-[0-9a-f]{32}")
_SHOWN = 5


def resolve(api: "OpenAI", names: Sequence[str]) -> list[str]:
    """The ids of the jobs, each once, in the order of the names. A whole id is not looked up. Ends the command for a
    name that no job, or more than one, has.
    """
    if all(map(_WHOLE.fullmatch, names)):
        return list(dict.fromkeys(names))
    models = {job.id: job.fine_tuned_model for job in api.fine_tuning.jobs.list(limit=100)}
    return list(dict.fromkeys(_resolve(name, models) for name in names))


def _resolve(name: str, models: dict[str, str | None]) -> str:
    """The id that the name is, begins (with or without ftjob-), or whose model it is."""
    fitting = [id for id in models if id.startswith(name) or id.removeprefix(_PREFIX).startswith(name)]
    exact = [id for id, model in models.items() if name in (id, model)]
    meant = exact or fitting
    if not meant:
        fail(f"There is no job {name!r}; `luthier jobs list` lists those of this resource.", code="not_found")
    if len(meant) > 1:
        more = f" and {len(meant) - _SHOWN} more" if len(meant) > _SHOWN else ""
        fail(f"{name!r} begins {len(meant)} ids: {', '.join(meant[:_SHOWN])}{more}.", code="ambiguous")
    return meant[0]
