"""Models as the wire shows them."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import json_schema as js

_ABILITIES = ("fine_tune", "inference", "completion", "chat_completion", "embeddings")


def model(dialect: Dialect) -> js.Schema:
    return js.thing(
        {
            "id": js.TEXT,
            "object": js.const("model"),
            "created": js.UNIX,
            "created_at": js.UNIX,
            "owned_by": js.TEXT,
            "status": js.TEXT,
            "model": js.Maybe(js.TEXT | {"description": "The base model whose weights stand behind the name."}),
            "fine_tune": js.Maybe(js.TEXT | {"description": "The job that made it."}),
            "capabilities": js.thing(dict.fromkeys(_ABILITIES, js.FLAG)),
            "lifecycle_status": js.TEXT,
            "deprecation": js.Optional(js.mapped(js.or_null(js.UNIX))),
            "weights": js.TEXT,
            "abilities": js.listed(js.TEXT),
            "ready": js.FLAG | {"description": "Whether the base weights lie on this machine."},
        },
        dialect.keeps_null,
        "A name that can be tuned or called.",
    )
