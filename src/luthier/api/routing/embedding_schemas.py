"""JSON Schema of the answer to embeddings, for the OpenAPI document."""

from luthier.api.routing import json_schema as js
from luthier.api.routing.chat_schemas import INFERENCE
from luthier.api.routing.operation import Details

DETAILS: Details = {
    **INFERENCE,
    "example": {"model": "all-minilm-l6-v2", "input": ["The sea is wide.", "Ships are far away."]},
}


def embeddings() -> js.Schema:
    """The schema of a list of embeddings: a list of numbers each, or a text with base64."""
    entry = js.object_schema(
        {
            "object": js.const("embedding"),
            "index": js.INTEGER,
            "embedding": js.either(js.listed(js.NUMBER), js.TEXT | {"description": "base64 of float32, little-endian"}),
        }
    )
    return js.object_schema(
        {
            "object": js.const("list"),
            "data": js.listed(entry),
            "model": js.TEXT | {"description": "The model that made the vectors, never the alias."},
            "usage": js.object_schema({"prompt_tokens": js.INTEGER, "total_tokens": js.INTEGER}),
        },
        description="The vectors of length 1, in the order of the inputs.",
    )
