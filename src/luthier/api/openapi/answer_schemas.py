"""JSON Schema of the answer types, derived by msgspec from their declarations, for the OpenAPI document.

Their docstrings become its descriptions.
"""

from collections.abc import Iterable
from typing import Any, cast

import msgspec
from msgspec import Struct

from luthier.api.dialects.answer import Page
from luthier.api.routing.json_schema import Schema

_REFERENCE = "#/components/schemas/{name}"


def components(types: Iterable[type]) -> tuple[dict[type, Schema], dict[str, Schema]]:
    """A reference for each type, and by name the schema of every type that one of them leads to."""
    ordered = list(dict.fromkeys(types))
    references, schemas = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    return dict(zip(ordered, references, strict=True)), {
        name: _with_defaults_required(schema) for name, schema in schemas.items()
    }


def page_type(item: type[Struct]) -> type:
    """The answer type of a page of these items, `Page[item]`, for a type known only at run time."""
    generic = cast(Any, Page)
    page: type = generic[item]
    return page


def _with_defaults_required(schema: Schema) -> Schema:
    """A field with a default value is always sent: it is required, and nobody may leave it out."""
    properties = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema.get("properties", {}).items()
    }
    if not properties:
        return schema
    declared = schema.get("required", ())
    required = [name for name in properties if name in declared or "default" in schema["properties"][name]]
    return schema | {"properties": properties, "required": required}
