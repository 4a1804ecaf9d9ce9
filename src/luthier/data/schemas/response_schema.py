"""Which JSON schemas can be enforced on an answer, and their form for the grammar compiler (`answer_grammar`).

The API asks for it with each request that has a schema or tools (`api/requests/chat_tools.py`).
"""

from collections.abc import Callable, Mapping, Sequence

from luthier.data.schemas import regex_support, schema_limits
from luthier.data.schemas.schema_limits import MAX_DEPTH, SchemaSizes, UnusableSchema

TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_COMMENTS = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "readOnly", "writeOnly",
             "deprecated"}  # fmt: skip
_LEAST = {"minLength", "minItems", "minProperties"}
_MOST = {"maxLength", "maxItems", "maxProperties"}
_RANGES = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_ONE = {"items", "additionalProperties"}
_MANY = {"anyOf", "oneOf", "allOf", "prefixItems"}
_NAMED = {"properties", "patternProperties", "$defs", "definitions"}

Schema = Mapping[str, object]
GrammarNode = dict[str, object] | bool
_Inner = Callable[[object, str], GrammarNode]


def grammar_schema(schema: Schema, strict: bool, sizes: SchemaSizes | None = None) -> dict[str, object]:
    """A copy of the schema that the grammar compiler takes: no annotations, oneOf as anyOf, large maxima lowered.

    With `strict`, a keyword that no grammar can enforce raises UnusableSchema; else it is left out. Raises
    UnusableSchema too for what is no schema and beyond a limit. `sizes` are those of the request's schemas so far; this
    one's are added.
    """
    taker = _SchemaConverter(schema, strict, sizes or SchemaSizes())
    converted = taker.schema(schema, "", 0)
    assert isinstance(converted, dict)
    _check_combinations(converted, taker.nodes)
    return converted


class _SchemaConverter:
    """One conversion of one schema: visits it once, adds to `sizes`, and lists its subschemas in `nodes`."""

    def __init__(self, root: Schema, strict: bool, sizes: SchemaSizes) -> None:
        self._root = root
        self._strict = strict
        self._sizes = sizes
        self.nodes: list[tuple[str, GrammarNode]] = []
        """Every schema within the one gone through, by its path."""

    def schema(self, schema: object, path: str, depth: int) -> GrammarNode:
        """The converted schema at `path`, `depth` levels below the root; booleans as they are. Appends to `nodes`.

        Raises UnusableSchema for the first keyword that is malformed, beyond a limit or, if strict, not enforceable.
        """
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise UnusableSchema(path, "a schema is a JSON object or a boolean")
        if depth > MAX_DEPTH:
            raise schema_limits.too_complex(path, f"the schema is nested more than {MAX_DEPTH} deep")

        def inner(value: object, key_path: str) -> GrammarNode:
            return self.schema(value, key_path, depth + 1)

        converted: dict[str, object] = {}
        for key, value in schema.items():
            key_path = f"{path}.{key}"
            if key in _COMMENTS:
                continue
            if key in _ONE:
                converted[key] = inner(value, key_path)
            elif key in _MANY:
                converted["anyOf" if key == "oneOf" else key] = self._list(key, value, key_path, inner)
            elif key in _NAMED:
                converted[key] = self._named(key, value, key_path, inner)
            elif key in _MOST:
                converted[key] = schema_limits.lower_maximum(value, key_path, key)
            elif self._is_kept(key, value, key_path):
                converted[key] = value
        _check_optional(converted, path)
        self.nodes.append((path, converted))
        return converted

    def _list(self, key: str, value: object, key_path: str, inner: _Inner) -> list[GrammarNode]:
        """The converted schemas of anyOf, oneOf, allOf or prefixItems. Raises UnusableSchema."""
        if not isinstance(value, list) or not value:
            raise UnusableSchema(key_path, f"{key} is a list of schemas, and not an empty one")
        if key == "oneOf" and self._strict:
            raise UnusableSchema(key_path, "oneOf cannot be enforced; write anyOf")
        self._sizes.add("branches", len(value), key_path)
        return [inner(item, f"{key_path}[{index}]") for index, item in enumerate(value)]

    def _named(self, key: str, value: object, key_path: str, inner: _Inner) -> dict[str, GrammarNode]:
        """The converted schemas of properties, definitions and patternProperties by name. Raises UnusableSchema.

        Patterns that cannot be enforced are left out unless `strict`.
        """
        if not isinstance(value, Mapping):
            raise UnusableSchema(key_path, f"{key} is an object of schemas")
        self._sizes.add("properties", len(value), key_path)
        converted = {}
        for name, item in value.items():
            self._sizes.add_text(name, key_path)
            if key == "patternProperties" and not self._pattern(name, key_path):
                continue
            converted[name] = inner(item, f"{key_path}.{name}")
        return converted

    def _is_kept(self, key: str, value: object, key_path: str) -> bool:
        """Whether a keyword goes into the grammar as it is.

        Raises UnusableSchema if it is malformed or must and cannot.
        """
        match key:
            case "type":
                types = value if isinstance(value, list) else [value]
                if not 0 < len(types) <= len(TYPES) or not all(name in TYPES for name in types):
                    raise UnusableSchema(key_path, f"type is one or more of {', '.join(TYPES)}")
            case "$ref":
                if not isinstance(value, str) or _resolve_reference(value, self._root) is None:
                    raise UnusableSchema(key_path, "$ref points to nothing within this schema")
            case "enum":
                if not isinstance(value, list) or not value:
                    raise UnusableSchema(key_path, "enum is a list of values, and not an empty one")
                self._sizes.add("enum_values", len(value), key_path)
                self._sizes.add_value(value, key_path)
            case "const":
                self._sizes.add_value(value, key_path)
            case "required":
                if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                    raise UnusableSchema(key_path, "required is a list of names")
                self._sizes.add_value(value, key_path)
            case "multipleOf":
                schema_limits.check_divisor(value, key_path)
            case "pattern":
                return self._pattern(value, key_path)
            case "format":
                return self._check_enforceable(
                    value in FORMATS, key_path, f"of formats, {', '.join(FORMATS)} can be held to"
                )
            case _ if key in _LEAST:
                schema_limits.check_minimum(value, key_path, key)
            case _ if key in _RANGES:
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise UnusableSchema(key_path, f"{key} is a number")
                schema_limits.check_number(value, key_path)
            case _:
                return self._check_enforceable(False, key_path, f"{key[:64]!r} cannot be enforced; leave it out")
        return True

    def _pattern(self, pattern: object, key_path: str) -> bool:
        """Whether a regular expression can be enforced; counts it.

        Raises UnusableSchema if too heavy or, if strict, not.
        """
        self._sizes.add("patterns", 1, key_path)
        try:
            is_regular = regex_support.is_regular(pattern)
        except regex_support.TooHeavy as error:
            raise schema_limits.too_complex(key_path, str(error)) from None
        if is_regular:
            assert isinstance(pattern, str)
            self._sizes.add_text(pattern, key_path)
        return self._check_enforceable(
            is_regular, key_path, "this pattern is not a regular expression that can be enforced"
        )

    def _check_enforceable(self, is_enforceable: bool, key_path: str, message: str) -> bool:
        """The flag as it was given. Raises UnusableSchema with the message where it is False and the schema strict."""
        if self._strict and not is_enforceable:
            raise UnusableSchema(key_path, message)
        return is_enforceable


def _check_optional(converted: Mapping[str, object], path: str) -> None:
    """Raises UnusableSchema for an object with more optional properties than MAX_OPTIONAL."""
    properties, required = converted.get("properties", {}), converted.get("required", ())
    assert isinstance(properties, Mapping)
    assert isinstance(required, Sequence)
    if len(properties.keys() - set(required)) > schema_limits.MAX_OPTIONAL:
        raise schema_limits.too_complex(
            path, f"{schema_limits.MAX_OPTIONAL} properties of an object at most may be left out; require the others"
        )


def _check_combinations(converted: Mapping[str, object], nodes: Sequence[tuple[str, GrammarNode]]) -> None:
    """Raises UnusableSchema for too many alternatives that allOf multiplies, and for a $ref that leads to itself."""
    ways_by_id: dict[int, int] = {}

    def alternatives(schema: object, path: str) -> int:
        """How many ways lead through the keywords for one value. Raises UnusableSchema for a $ref to itself."""
        if not isinstance(schema, Mapping):
            return 1
        if id(schema) in ways_by_id:
            if not ways_by_id[id(schema)]:
                raise UnusableSchema(path, "$ref leads back to itself without an object or an array between")
            return ways_by_id[id(schema)]
        ways_by_id[id(schema)] = 0
        product = sum(alternatives(branch, path) for branch in _schemas(schema, "anyOf")) or 1
        for branch in _schemas(schema, "allOf"):
            product *= alternatives(branch, path)
        if "$ref" in schema:
            product *= alternatives(_resolve_reference(str(schema["$ref"]), converted), path)
        ways_by_id[id(schema)] = min(product, MAX_DEPTH * schema_limits.MAX_BRANCHES)
        return ways_by_id[id(schema)]

    for path, node in nodes:
        ways = alternatives(node, path)
        merges = isinstance(node, Mapping) and ("allOf" in node or {"anyOf", "$ref"} <= node.keys())
        if merges and ways > schema_limits.MAX_COMBINATIONS:
            words = f"the alternatives that allOf multiplies are {schema_limits.MAX_COMBINATIONS} at most"
            raise schema_limits.too_complex(path, words)


def _schemas(schema: Mapping[str, object], key: str) -> Sequence[object]:
    """The list of schemas at a keyword of a converted schema; () without it."""
    schemas = schema.get(key, ())
    assert isinstance(schemas, Sequence)
    return schemas


def _resolve_reference(reference: str, root: Schema) -> object:
    """The schema that a $ref leads to, by JSON Pointer; None where it leads nowhere, elsewhere or to no schema."""
    if not reference.startswith("#"):
        return None
    node: object = root
    for part in filter(None, reference[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return node if isinstance(node, Mapping | bool) else None
