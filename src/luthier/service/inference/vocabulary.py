"""Refuses token ids that are not in a model's vocabulary: an engine would silently use others."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from luthier.core.errors import InvalidRequest
from luthier.model_folder import BaseModelFolder
from luthier.service.context import Context
from luthier.service.models.models import Model


def check_prompts(context: Context, model: Model, prompts: Sequence[str | Sequence[int]]) -> None:
    """Raises InvalidRequest, with the path, for a token id that is not in the model's vocabulary; texts pass."""
    size = _vocab_size(context.base_folder(model.base.name))
    for number, prompt in enumerate(prompts):
        if size is None or isinstance(prompt, str) or max(prompt, default=0) < size:
            continue
        index = next(index for index, id in enumerate(prompt) if id >= size)
        path = f"prompt[{number}][{index}]" if len(prompts) > 1 else f"prompt[{index}]"
        raise _not_in_vocabulary(prompt[index], size, path)


def check_biases(context: Context, model: Model, fields: Mapping[str, object]) -> None:
    """Raises InvalidRequest, with the path, for a logit_bias of a token that is not in the model's vocabulary."""
    size = _vocab_size(context.base_folder(model.base.name))
    biases = fields.get("logit_bias")
    for id in biases if isinstance(biases, Mapping) and size is not None else ():
        assert size is not None
        if int(id) >= size:
            raise _not_in_vocabulary(int(id), size, f"logit_bias.{id}")


def _not_in_vocabulary(id: int, size: int, path: str) -> InvalidRequest:
    """The error about a token id, whose param is the `path` to it."""
    text = f"{path} names the token {id}, and the model's vocabulary has {size}: ids are 0 to {size - 1}."
    return InvalidRequest("invalid_token_id", text, path)


@lru_cache(64)
def _vocab_size(base_folder: Path) -> int | None:
    """The vocabulary size of a prepared base model, cached; None if its files do not say: then no id is refused."""
    try:
        config = json.loads(BaseModelFolder(base_folder).hf.config.read_bytes())
    except (OSError, ValueError):
        return None
    size = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    return size if isinstance(size, int) else None
