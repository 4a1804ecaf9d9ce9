"""Limits of schemas that are enforced on answers: what is counted over a whole request, and the limit of each figure.

OpenAI's published limits of structured outputs where there are some, our own where the cost of a grammar asks for them.
Whatever is beyond one raises UnusableSchema, of which the API makes the caller's 400.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

MAX_DEPTH = 60
"""Schemas within one another; OpenAI takes ten. The grammar's JSON has two levels for each, and 128 at most."""
MAX_PROPERTIES = 2000
"""OpenAI takes 5,000. A grammar of 2,000 takes an engine a tenth of a second, in which no other answer progresses."""
MAX_OPTIONAL = 100
"""Properties of one object that may be left out: each step of an answer looks at all of them."""
MAX_ENUM_VALUES = 1000
MAX_CHARACTERS = 120_000
MAX_BRANCHES = 500
"""Alternatives and places of tuples: anyOf, oneOf, allOf, prefixItems."""
MAX_COMBINATIONS = 64
"""Alternatives within allOf multiply."""
MAX_LEAST = 1000
"""Of minItems, minProperties and minLength."""
MAX_ITEMS = 1000
MAX_TEXT = 100_000
"""Higher maxItems and maxLength are taken as these: an answer that keeps the lower limit keeps the higher one."""
MAX_PATTERNS = 200
MAX_DIGITS = 15
"""Of a number in a range: what a double holds."""
MAX_DIVISOR = 1000
"""Of multipleOf, without its decimal point and trailing zeros: a grammar has a state for each remainder."""

MAX_SHOWN_DEPTH = 200
MAX_SHOWN_VALUES = 50_000
"""Of one function's description: more than any context holds."""
_MAX_BITS = 1024

COMPLEX = "schema_too_complex"


@dataclass(frozen=True, slots=True)
class UnusableSchema(Exception):
    """A schema that cannot be enforced; `path` is relative to the schema, with a leading dot, "" for its root.

    `code` is COMPLEX where a limit is passed, else None: the API's code then depends on what the schema was for.
    """

    path: str
    message: str
    code: str | None = None


@dataclass(slots=True)
class SchemaSizes:
    """Totals over all schemas of one request, of properties, enum values, characters, branches and patterns."""

    properties: int = 0
    enum_values: int = 0
    characters: int = 0
    branches: int = 0
    patterns: int = 0
    _limits: dict[str, tuple[int, str]] = field(
        default_factory=lambda: {
            "properties": (MAX_PROPERTIES, "properties"),
            "enum_values": (MAX_ENUM_VALUES, "values of enums"),
            "characters": (MAX_CHARACTERS, "characters of names, enums and constants"),
            "branches": (MAX_BRANCHES, "branches of anyOf, oneOf, allOf and prefixItems"),
            "patterns": (MAX_PATTERNS, "patterns"),
        },
        repr=False,
    )

    def add(self, figure: str, amount: int, path: str) -> None:
        """Adds to the figure of that field name. Raises UnusableSchema, code COMPLEX, once it is beyond its limit."""
        total = getattr(self, figure) + amount
        setattr(self, figure, total)
        limit, words = self._limits[figure]
        if total > limit:
            raise too_complex(path, f"the schemas of a request have {limit:,} {words} at most")

    def add_text(self, text: str, path: str) -> None:
        """Counts a text's characters. Raises UnusableSchema beyond the limit and for half a surrogate pair."""
        self.add("characters", len(text), path)
        check_text(text, path)

    def add_value(self, value: object, path: str, depth: int = 0) -> None:
        """Counts a value of enum, const or required. Raises UnusableSchema for what no grammar can hold."""
        if depth > MAX_DEPTH:
            raise too_complex(path, f"a value is nested {MAX_DEPTH} deep at most")
        match value:
            case str():
                self.add_text(value, path)
            case Mapping():
                for name, item in value.items():
                    self.add_text(name, path)
                    self.add_value(item, path, depth + 1)
            case list():
                self.add("characters", len(value), path)
                for item in value:
                    self.add_value(item, path, depth + 1)
            case int() | float():
                check_number(value, path)


def check_text(text: str, path: str) -> None:
    """Raises UnusableSchema for half a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnusableSchema(path, "this is no valid Unicode text") from None


def check_plain(value: object) -> None:
    """Checks a function's parameters as the model is shown them, descriptions included. Raises UnusableSchema, path "".

    Python reads JSON that it cannot write again: half characters, NaN, and more levels than its own stack has.
    """
    waiting: list[tuple[object, int]] = [(value, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > MAX_SHOWN_DEPTH or seen > MAX_SHOWN_VALUES:
            words = f"{MAX_SHOWN_VALUES:,} values at most, nested {MAX_SHOWN_DEPTH} deep at most"
            raise too_complex("", f"what describes a function has {words}")
        match value:
            case str():
                check_text(value, "")
            case float() if not math.isfinite(value):
                raise UnusableSchema("", "NaN and Infinity are no JSON")
            case int() if value.bit_length() > _MAX_BITS:
                raise UnusableSchema("", "a number is beyond what a double holds")
            case Mapping():
                waiting += [(item, depth + 1) for pair in value.items() for item in pair]
            case list():
                waiting += [(item, depth + 1) for item in value]


def too_complex(path: str, message: str) -> UnusableSchema:
    """Makes the error for a passed limit; the caller raises it."""
    return UnusableSchema(path, message, COMPLEX)


def check_minimum(value: object, path: str, keyword: str) -> None:
    """Checks a minItems, minLength or minProperties. Raises UnusableSchema for no whole number and beyond MAX_LEAST."""
    if _whole_number(value, path, keyword) > MAX_LEAST:
        raise too_complex(path, f"{keyword} is {MAX_LEAST:,} at most here")


def lower_maximum(value: object, path: str, keyword: str) -> int:
    """A maxItems, maxLength or maxProperties, lowered to what a grammar takes.

    Raises UnusableSchema for no whole number.
    """
    return min(_whole_number(value, path, keyword), MAX_TEXT if keyword == "maxLength" else MAX_ITEMS)


def _whole_number(value: object, path: str, keyword: str) -> int:
    """The value as an int; infinity as MAX_TEXT. Raises UnusableSchema for anything but a whole number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != value // 1:
        raise UnusableSchema(path, f"{keyword} is a whole number, 0 or more")
    return int(value) if math.isfinite(value) else MAX_TEXT


def check_number(value: object, path: str) -> None:
    """Raises UnusableSchema for a number with more digits than a double holds; passes what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    # A bound on the size first: the digits of a long integer take long to write out.
    if isinstance(value, int) and value.bit_length() > 64:
        raise too_complex(path, f"a number has {MAX_DIGITS} digits at most")
    if not math.isfinite(value):
        raise UnusableSchema(path, "this number is beyond what a double holds")
    digits = Decimal(str(value)).as_tuple()
    if len(digits.digits) + max(0, int(digits.exponent)) > MAX_DIGITS + 2 or int(digits.exponent) < -MAX_DIGITS:
        raise too_complex(path, f"a number has {MAX_DIGITS} digits at most")


def check_divisor(value: object, path: str) -> None:
    """Raises UnusableSchema for a multipleOf that is not above 0, or for which a grammar has too many states."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UnusableSchema(path, "multipleOf is a number above 0")
    check_number(value, path)
    digits = Decimal(str(value)).normalize().as_tuple().digits
    if int("".join(map(str, digits))) > MAX_DIVISOR:
        raise too_complex(path, f"multipleOf is {MAX_DIVISOR:,} at most, its decimal point and closing zeros aside")
