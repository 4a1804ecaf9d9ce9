"""Hints for fields of a body that callers misplace or misname, in one table for each body.

`validation_errors.py` asks for them when a field is unknown or a value of the wrong type.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from luthier.core.training import recipe

_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")
_OTHER_NAMES = {
    "epochs": "n_epochs",
    "epoch": "n_epochs",
    "num_epochs": "n_epochs",
    "nepochs": "n_epochs",
    "n_epoch": "n_epochs",
    "num_train_epochs": "n_epochs",
    "batchsize": "batch_size",
    "batch": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "lr_multiplier": "learning_rate_multiplier",
    "learning_rate_mult": "learning_rate_multiplier",
}
_RATE_NAMES = ("learning_rate", "lr", "learningrate")
_ROOT_FIELDS = ("training_file", "validation_file", "model", "suffix", "seed", "metadata", "integrations")
_JOB: Mapping[str, str] = {
    "file": "did you mean training_file?",
    "training_data": "did you mean training_file? It takes the id of an uploaded file",
    "training_file_id": "did you mean training_file?",
    "validation_data": "did you mean validation_file? It takes the id of an uploaded file",
    "validation_file_id": "did you mean validation_file?",
    "base_model": "did you mean model?",
    "type": "it belongs in method.type",
    "supervised": "it belongs in method.supervised",
    "dpo": "it belongs in method.dpo",
    "reinforcement": "it belongs in method.reinforcement",
    "hyperparams": "did you mean hyperparameters?",
    "n_checkpoints": "one checkpoint is kept per epoch; leave it out",
    "compute_classification_metrics": "classification metrics were the older API's; leave it out",
    "classification_n_classes": "classification metrics were the older API's; leave it out",
    "classification_positive_class": "classification metrics were the older API's; leave it out",
    "classification_betas": "classification metrics were the older API's; leave it out",
}
_SAMPLING = "answers are sampled by temperature, top_p, penalties and logit_bias; leave it out"
_CLIENT_OPTION = "it is an option of the client's call, not a field of the body; pass it to the client"
_INFERENCE: Mapping[str, str] = {
    "top_k": _SAMPLING,
    "min_p": _SAMPLING,
    "typical_p": _SAMPLING,
    "repetition_penalty": f"{_SAMPLING}, or use frequency_penalty",
    "repeat_penalty": f"{_SAMPLING}, or use frequency_penalty",
    "max_new_tokens": "did you mean max_tokens?",
    "num_predict": "did you mean max_tokens?",
    "stop_sequences": "did you mean stop?",
    "extra_body": "what it holds belongs in the body itself",
    "extra_headers": _CLIENT_OPTION,
    "extra_query": _CLIENT_OPTION,
    "timeout": _CLIENT_OPTION,
    "deployment_id": "did you mean model?",
    "engine": "did you mean model?",
}
_CHAT: Mapping[str, str] = {
    **_INFERENCE,
    "input": "it is the Responses API's; a chat takes messages",
    "prompt": "a chat takes messages; a prompt goes to /completions",
    "instructions": "it is the Responses API's; write a message of role 'system'",
    "system": "write it as the first of the messages, of role 'system'",
    "max_output_tokens": "did you mean max_completion_tokens?",
    "best_of": "a chat has only n; best_of goes to /completions",
    "reasoning": "no model here reasons; leave it out",
    "thinking": "no model here reasons; leave it out",
    "enable_thinking": "no model here reasons; leave it out",
    "chat_template_kwargs": "the chat template is the one of training and takes no arguments; leave it out",
    "guided_json": "did you mean response_format?",
    "guided_choice": "write a JSON schema with an enum into response_format",
    "format": "did you mean response_format?",
    "dataSources": "did you mean data_sources? Models here read none",
}
_MESSAGE: Mapping[str, str] = {
    "reasoning_content": "no model here reasons, and thoughts are no part of a prompt; leave it out",
    "reasoning": "no model here reasons, and thoughts are no part of a prompt; leave it out",
    "cache_control": "prompt caching cannot be configured; leave it out",
    "id": "a message has no id here; leave it out",
    "metadata": "metadata belongs to the root of the body; a message has none",
    "images": "did you mean a part of the content, of type image_url?",
    "text": "did you mean content?",
}
_COMPLETION: Mapping[str, str] = {
    **_INFERENCE,
    "messages": "messages go to /chat/completions; a completion takes a prompt",
    "input": "did you mean prompt?",
    "max_completion_tokens": "did you mean max_tokens?",
    "response_format": "it goes to /chat/completions",
    "tools": "tools go to /chat/completions",
}
_EMBEDDING: Mapping[str, str] = {
    "prompt": "did you mean input?",
    "text": "did you mean input?",
    "texts": "did you mean input?",
    "inputs": "did you mean input?",
    "messages": "messages go to /chat/completions; embeddings take an input",
    "dimension": "did you mean dimensions?",
    "truncate": "an input that is too long is refused: shorten it before",
    "normalize": "vectors have the length 1, always; leave it out",
    "extra_body": "what it holds belongs in the body itself",
    "extra_headers": _CLIENT_OPTION,
    "extra_query": _CLIENT_OPTION,
    "timeout": _CLIENT_OPTION,
    "deployment_id": "did you mean model?",
    "engine": "did you mean model?",
}
_TABLES: Mapping[str, Mapping[str, str]] = {
    "JobBody": _JOB,
    "ChatBody": _CHAT,
    "CompletionBody": _COMPLETION,
    "EmbeddingBody": _EMBEDDING,
    "ImportBody": {"url": "did you mean content_url?", "file": "a file's bytes go to POST .../files"},
    "UploadBody": {"size": "did you mean bytes?", "file": "a file's bytes go to POST .../uploads/{id}/parts"},
}


def hint_for_field(body: type[BaseModel] | None, location: Sequence[int | str]) -> str | None:
    """What to write instead of a field that the body's model does not have; None if there is nothing to suggest.

    `location` is the path of the field in the body, its name last. A similar name of the model is the last resort.
    """
    if body is None or not location or not isinstance(location[-1], str):
        return None
    name, parents = location[-1], [part for part in location[:-1] if isinstance(part, str)]
    if body.__name__ == "JobBody" and (text := _job_hint(name, ".".join(parents))):
        return text
    if body.__name__ == "ChatBody" and parents[:1] == ["messages"] and name in _MESSAGE:
        return _MESSAGE[name]
    if not parents and name in (table := _TABLES.get(body.__name__, {})):
        return table[name]
    if matches := difflib.get_close_matches(name[:64], list(_fields_at(body, parents)), 1, 0.75):
        return f"unknown field; did you mean {matches[0]}?"
    return None


def hint_for_value(body: type[BaseModel] | None, path: str, value: object) -> str | None:
    """What a value of the wrong type at `path` should be, to follow a colon; None if nothing more can be said."""
    if body is None:
        return None
    if body.__name__ == "ChatBody" and path.startswith("messages[") and path.endswith("].content"):
        return "write it as text, of an object its JSON" if isinstance(value, dict) else None
    if path in ("training_file", "validation_file") and not isinstance(value, str):
        return "the id that POST .../files answered with"
    return None


def _job_hint(name: str, parent: str) -> str | None:
    """The hint for a field of a job's body: its name here, or the object that it belongs in; None if unknown."""
    canonical = _OTHER_NAMES.get(name.lower(), name)
    method = "dpo" if parent.startswith("method.dpo") else "supervised"
    target = f"method.{method}.hyperparameters" if parent.startswith("method") else "hyperparameters"
    if name.lower() in _RATE_NAMES:
        return (
            "learning_rate_multiplier is a factor on the base model's recommended rate, not a rate; "
            f"write {target}.learning_rate_multiplier (1 is that rate), or the rate as luthier.learning_rate"
        )
    if canonical in _HYPERPARAMETERS:
        return f"did you mean {canonical}?" if parent == target else f"it belongs in {target}.{canonical}"
    if name == "beta":
        return "it belongs in method.dpo.hyperparameters.beta, with method.type 'dpo'"
    if name == "hyperparameters" and parent:
        return f"it belongs in method.{method}.hyperparameters"
    if parent and name in _ROOT_FIELDS:
        return f"it belongs to the root of the body, as {name}"
    if name in recipe.NAMES:
        return f"it belongs in luthier.{name}"
    setting = recipe.OTHER_TRAINERS.get(name.lower())
    return f"did you mean luthier.{setting}?" if setting in recipe.NAMES else None


def _fields_at(body: type[BaseModel], parents: Sequence[str]) -> Iterator[str]:
    """The names of the fields that the body's model has below `parents`; of every branch where a field is a union."""
    models = {body}
    for parent in parents:
        models = {
            inner
            for model in models
            for name, field in model.model_fields.items()
            if parent in (name, field.alias)
            for inner in _models_in(field.annotation)
        }
    for model in models:
        for name, field in model.model_fields.items():
            yield field.alias or name


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that a field's annotation mentions, within unions and lists too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
