"""The fields of the new-job form, read into the body of the public API: no second set of rules exists."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from luthier.api.dialects import dialects
from luthier.api.requests import validation_errors
from luthier.api.requests.file_and_job_bodies import JobBody
from luthier.core.errors import LuthierError
from luthier.core.states import Method
from luthier.core.training import recipe
from luthier.core.training.hyperparameters import MAX_EPOCHS
from luthier.service.jobs.job_creation import JobRequest

HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")
RECIPE = tuple(name for name in recipe.NAMES if name != "n_epochs")
FIELDS = (
    "training_file",
    "validation_file",
    "model",
    "method",
    *HYPERPARAMETERS,
    "beta",
    "seed",
    "suffix",
    "early_stopping",
    *RECIPE,
)
_AUTO = ("", "auto", "-1")
_MISSING = "-"
"""Stands in the body for what the form does not have yet: the API would refuse an empty text there."""
_FIELD_OF = {"type": "method", "patience": "early_stopping"}


@dataclass(frozen=True, slots=True)
class ReadForm:
    """A form as a request for a job, without the fields that have a problem; `problems` are sentences by field, "" for
    one of no field. `body` is what a client sends for it.
    """

    request: JobRequest
    body: dict[str, Any]
    problems: dict[str, str]


def read(fields: Mapping[str, str], method: Method) -> ReadForm:
    """Reads the form for a method; what is missing of it is "" in the request."""
    problems: dict[str, str] = {}
    while True:
        kept = {name: value for name, value in fields.items() if name not in problems}
        body = body_of(kept, method)
        found: dict[str, str] = {}
        request = None
        try:
            request = JobBody.model_validate(_complete(body)).to_request(dialects.OPENAI.max_suffix)
        except ValidationError as error:
            located = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
            for detail in validation_errors.details(located, JobBody):
                found[field_of(detail.param)] = f"{detail.message[:1].upper()}{detail.message[1:].rstrip('.')}."
        except LuthierError as error:
            found[field_of(error.param)] = error.message
        if request is not None:
            model, training_file = body.get("model", ""), body.get("training_file", "")
            return ReadForm(replace(request, model=model, training_file=training_file), body, problems)
        new = {name: text for name, text in found.items() if name not in problems}
        assert any(name in kept for name in new), "each round drops a field"
        problems |= new


def body_of(fields: Mapping[str, str], method: Method) -> dict[str, Any]:
    """The JSON body of the API for the form, as the vendors' SDKs and `luthier jobs create` send it."""
    asked = {name: _number(fields[name]) for name in HYPERPARAMETERS if _is_set(fields, name)}
    own: dict[str, Any] = {name: _setting(name, fields[name]) for name in RECIPE if _is_set(fields, name)}
    n_epochs = asked.get("n_epochs")
    if isinstance(n_epochs, int) and n_epochs > MAX_EPOCHS:  # beyond the vendors' range it is a setting of the recipe
        own["n_epochs"] = asked.pop("n_epochs")
    body: dict[str, Any] = {name: fields[name] for name in ("model", "training_file") if fields.get(name)}
    body |= {name: fields[name] for name in ("validation_file", "suffix") if fields.get(name)}
    if _is_set(fields, "seed"):
        body["seed"] = _number(fields["seed"])
    if method is Method.DPO:
        beta = {"beta": _number(fields["beta"])} if _is_set(fields, "beta") else {}
        body["method"] = {"type": "dpo", "dpo": {"hyperparameters": beta | asked}}
    elif asked:
        body["hyperparameters"] = asked
    if _is_set(fields, "early_stopping"):
        body["early_stopping"] = {"patience": _number(fields["early_stopping"])}
    return body | ({"luthier": own} if own else {})


def field_of(param: str | None) -> str:
    """The form's field for the `param` of an error; "" if it has none."""
    last = (param or "").partition("[")[0].rpartition(".")[2]
    name = _FIELD_OF.get(last, last)
    return name if name in FIELDS else ""


def _complete(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with something in its required fields."""
    return {"model": _MISSING, "training_file": _MISSING, **body}


def _is_set(fields: Mapping[str, str], name: str) -> bool:
    """Whether the form has a value of its own there; -1 and auto leave it to the service, as on the wire."""
    return fields.get(name, "").lower() not in _AUTO


def _number(text: str) -> object:
    """The number of a text; the text itself if it is none, for the body's check to refuse."""
    return recipe.parse_number(text)


def _setting(name: str, text: str) -> object:
    """A setting of the recipe as JSON value."""
    if name == "lora_targets":
        return [part.strip() for part in text.split(",") if part.strip()]
    if name == "full":
        return {"true": True, "false": False}.get(text.lower(), text)
    return text if name == "schedule" else _number(text)
