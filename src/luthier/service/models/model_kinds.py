"""What a model is for: answers, vectors of texts, training. Whoever asks for more is told what to ask for instead."""

from luthier.catalog import BaseModelEntry
from luthier.core.errors import InvalidRequest
from luthier.service.context import Context
from luthier.service.models.models import Model

FIRST_EMBEDDING_MODEL = "all-minilm-l6-v2"
"""What `luthier models pull` brings without a hub."""


def embeds(context: Context, name: str) -> bool:
    """Whether the name is that of an embedding model, or an alias of one."""
    entry = context.catalog.find(name)
    return entry is not None and entry.embeds


def check(context: Context, model: Model, wants_embeddings: bool) -> None:
    """Raises InvalidRequest for a model that makes no answers, or where one `wants_embeddings` no vectors."""
    if model.base.embeds == wants_embeddings:
        return
    if not wants_embeddings:
        raise InvalidRequest(
            "model_makes_embeddings",
            f"{model.name} is an embedding model and generates no text; send texts for it to POST .../embeddings, and "
            "name another model here.",
            "model",
        )
    here = [name for name, entry in context.catalog.entries.items() if entry.embeds and context.is_ready(name)]
    more = (
        f"Embedding models here: {', '.join(here)}."
        if here
        else f"The operator adds an embedding model by: luthier models pull {FIRST_EMBEDDING_MODEL}"
    )
    raise InvalidRequest(
        "model_makes_no_embeddings", f"{model.name} generates text and makes no embeddings. {more}", "model"
    )


def check_tunable(entry: BaseModelEntry, param: str | None = "model") -> None:
    """Raises InvalidRequest for an embedding model, which cannot be fine-tuned."""
    if entry.embeds:
        raise InvalidRequest(
            "model_not_tunable",
            f"{entry.name} is an embedding model, which cannot be fine-tuned here; name a model that generates text.",
            param,
        )
