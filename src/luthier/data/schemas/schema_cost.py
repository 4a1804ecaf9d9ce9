"""An upper bound of what validating a value against a JSON schema costs: references can double it at each level.

Asked before any schema of a user is given to the validator (`tool_definitions`, `service/inference/grammar_check`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_VISITS = 10_000
"""Schemas that are looked at on the way to one place of a value."""
MAX_SCHEMAS = 5_000
"""In a schema with references."""
_LEVELS = 24
"""A value as deep as this; costs that grow with depth are seen by then."""

_SAME_VALUE = ("allOf", "anyOf", "oneOf")
_SAME_VALUE_SINGLE = ("not", "if", "then", "else")
_MEMBER_SINGLE = ("additionalProperties", "items", "contains", "unevaluatedProperties", "unevaluatedItems",
              "additionalItems", "propertyNames")  # fmt: skip
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class TooManyVisits(Exception):
    """Validating against the schema could take too many steps, or a reference leads back to itself."""


class UnresolvedReference(Exception):
    """A `$ref` leads outside of the schema, or nowhere."""


def check_visits(schema: Mapping[str, Any]) -> None:
    """Raises TooManyVisits for a schema too costly to validate against, UnresolvedReference for a broken `$ref`.

    A schema without references always passes: it costs no more than its size.
    """
    nodes = list(_nodes(schema))
    if not any(key in node for node in nodes for key in _REFERENCES):
        return
    if len(nodes) > MAX_SCHEMAS:
        raise TooManyVisits
    try:
        _VisitCounter(schema, nodes).of(schema, _LEVELS)
    except RecursionError:
        raise TooManyVisits from None


class _VisitCounter:
    """Counts, for one schema, the subschemas that validation looks at on the way to one place of a value, at most."""

    def __init__(self, root: Mapping[str, Any], nodes: list[Mapping[str, Any]]) -> None:
        self._root = root
        self._named = {f"#{node[key]}": node for node in nodes for key in ("$anchor", "$dynamicAnchor") if key in node}
        self._named |= {str(node["$id"]): node for node in nodes if "$id" in node}
        self._known: dict[tuple[int, int], int | None] = {}

    def of(self, schema: object, levels: int) -> int:
        """The visits for a value nested at most `levels` deep, 0 for what is no object; each pair is computed once.

        Raises TooManyVisits beyond MAX_VISITS and for a reference that leads back to the same value, and
        UnresolvedReference.
        """
        if not isinstance(schema, Mapping):
            return 0
        key = (id(schema), levels)
        if key in self._known:
            visits_before = self._known[key]
            if visits_before is None:  # a reference leads back to a schema of the same value
                raise TooManyVisits
            return visits_before
        self._known[key] = None
        visits = 1 + sum(self.of(part, levels) for part in self._same(schema))
        if levels:
            visits += max((self.of(part, levels - 1) for part in _values(schema.get("properties"))), default=0)
            visits += sum(self.of(part, levels - 1) for part in _values(schema.get("patternProperties")))
            visits += max((self.of(part, levels - 1) for part in _items(schema)), default=0)
            visits += sum(self.of(schema.get(name), levels - 1) for name in _MEMBER_SINGLE)
        if visits > MAX_VISITS:
            raise TooManyVisits
        self._known[key] = visits
        return visits

    def _same(self, schema: Mapping[str, Any]) -> Iterator[object]:
        """The subschemas that are applied to the same value as this one, targets of references included."""
        for name in _SAME_VALUE:
            part = schema.get(name)
            yield from part if isinstance(part, list) else ()
        yield from (schema.get(name) for name in _SAME_VALUE_SINGLE)
        for name in ("dependentSchemas", "dependencies"):
            yield from _values(schema.get(name))
        for name in _REFERENCES:
            if isinstance(schema.get(name), str):
                yield self._find(schema[name])

    def _find(self, reference: str) -> object:
        """The target of a `$ref` by `$id`, anchor or JSON Pointer. Raises UnresolvedReference if there is none."""
        if reference in self._named:
            return self._named[reference]
        if not reference.startswith("#"):
            raise UnresolvedReference
        node: object = self._root
        for part in filter(None, reference[1:].split("/")):
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and name.isdecimal() and len(name) < 6 and int(name) < len(node):
                node = node[int(name)]
            elif isinstance(node, Mapping) and name in node:
                node = node[name]
            else:
                raise UnresolvedReference
        return node


def _values(part: object) -> Iterator[object]:
    """The values of an object; nothing for anything else."""
    yield from part.values() if isinstance(part, Mapping) else ()


def _items(schema: Mapping[str, Any]) -> Iterator[object]:
    """The entries of prefixItems or items, where these are arrays: one for each position."""
    for name in ("prefixItems", "items"):
        part = schema.get(name)
        yield from part if isinstance(part, list) else ()


def _nodes(value: object) -> Iterator[Mapping[str, Any]]:
    """All objects within a JSON value, itself included; some are no schemas, but maps of properties or constants."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
