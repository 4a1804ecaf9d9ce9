"""Which regular expressions in schemas can be enforced on an answer, analysed without compiling any of them.

Used for schemas of requests (`response_schema`) and of tools in rows (`tool_definitions`).
"""

import re

MAX_CHARACTERS = 500
MAX_WEIGHT = 2000
"""Characters of the longest repetition written out, nested repetitions multiplied."""
MAX_GROUPS = 32
"""Groups within one another."""

_MAX_COMPILED = 200
"""The weight of a pattern that is compiled for rows: a class of letters has hundreds of ranges in each place."""

_CLASS = re.compile(r"\[\^?(?:[^\]\\\[]|\\[\s\S])(?:[^\]\\\[]|\\[\s\S]){0,600}\]")
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[pP]\{[A-Za-z_]{1,40}\}|[dDwWsStnrfv]|[^0-9A-Za-z])")
_REPEAT = re.compile(r"(?:[*+?]|\{([0-9]{1,9})(,([0-9]{1,9})?)?\})\??")


class TooHeavy(Exception):
    """A regular expression beyond the limits; the message says which limit, and quotes nothing."""


def is_regular(pattern: object) -> bool:
    """Whether a pattern can be enforced on an answer; False for what is no string too.

    Raises TooHeavy beyond the limits. Lookaround, back references, word boundaries, flags and named groups are no
    regular language, or none that the engine's grammar takes. No engine compiles the pattern here: some take seconds
    for a few hundred characters.
    """
    if not isinstance(pattern, str):
        return False
    if len(pattern) > MAX_CHARACTERS:
        raise TooHeavy(f"a pattern has {MAX_CHARACTERS} characters at most")
    weight = _weight(pattern)
    if weight is not None and weight > MAX_WEIGHT:
        raise TooHeavy(f"the repetitions of a pattern, multiplied where they are nested, are {MAX_WEIGHT} at most")
    return weight is not None


def is_heavy(pattern: str) -> bool:
    """Whether a pattern may take long to compile for a validator: beyond the limits, or with long repetitions.

    Used by `tool_definitions`, which then does not check strings against it.
    """
    try:
        regular = is_regular(pattern)
    except TooHeavy:
        return True
    return (not regular and "{" in pattern) or (regular and (_weight(pattern) or 0) > _MAX_COMPILED)


def _weight(pattern: str) -> int | None:
    """The length of the pattern with its repetitions written out; None if it is not well formed. Raises TooHeavy."""
    open_groups = [0]  # the weight of each group so far, from the outermost on
    last = 0  # that of the last atom, which a repetition multiplies
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "(":
            at += 3 if pattern.startswith("(?:", at) else 1
            if pattern.startswith("?", at):
                return None
            open_groups.append(0)
            last = 0
            if len(open_groups) > MAX_GROUPS:
                raise TooHeavy(f"groups of a pattern are nested {MAX_GROUPS} deep at most")
        elif character == ")":
            if len(open_groups) == 1:
                return None
            last = max(1, open_groups.pop())
            open_groups[-1] += last
            at += 1
        elif character in "*+?{":
            repeat = _REPEAT.match(pattern, at)
            if repeat is None or last == 0:
                return None
            open_groups[-1] += last * (_times(repeat) - 1)
            last = 0
            at = repeat.end()
        elif character in "|^$":
            last = 0
            at += 1
        else:
            atom = {"[": _CLASS, "\\": _ESCAPE}.get(character)
            match = atom.match(pattern, at) if atom else None
            if (atom is not None and match is None) or character in "]}":
                return None
            at = match.end() if match else at + 1
            last = 1
            open_groups[-1] += 1
    return open_groups[0] if len(open_groups) == 1 else None


def _times(repeat: "re.Match[str]") -> int:
    """How often an atom is repeated at most; for a repetition without a maximum its minimum, and never less than 1."""
    least, comma, most = repeat.groups()
    return max(1, int(most if comma and most else least or 1))
