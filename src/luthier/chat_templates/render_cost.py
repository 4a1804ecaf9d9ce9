"""What a chat template may cost: an allowance of steps and characters for each rendering, and what is taken from it.

The allowance is one per thread. Everything that a template can make is weighed here before it is made: a text by its
characters, a list or a mapping also by its members, each time that they occur in it, for so often they would be
written, compared or copied. Who takes more than is left gets TooCostly.
"""

import re
import threading
import time
from collections.abc import ItemsView, Iterable, KeysView, Mapping, ValuesView
from typing import Any

import jinja2

MAX_STEPS = 2_000_000
MAX_CHARACTERS = 16 * 1024**2
"""Of one value, and of the text: more than any model reads."""
MAX_CHARACTERS_IN_ALL = 16 * MAX_CHARACTERS
MAX_CPU_S = 20.0
"""Behind the steps, which are what ends a rendering as a rule: they are the same on every machine."""
MAX_NUMBER_BITS = 256
MAX_VALUE_DEPTH = 200

MEMBER_CHARACTERS = 16
"""What a member of a list weighs beside its own characters: about its memory."""
_PIECE_CHARACTERS = 64
_CONTAINERS = (Mapping, list, tuple, set, KeysView, ValuesView, ItemsView)
_CALL_STEPS = 10
"""A macro's call costs as much as so many turns of a loop."""
_CLOCK_STEPS = 1000
_WIDTH = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(?:\d{4,}|\*|\d*\.(?:\d{4,}|\*))")
CHARACTERS_PER_STEP = 64
"""What is read or copied at once, as steps."""


class TooCostly(jinja2.TemplateError):
    """The template would take more time or memory than a rendering may have; the message quotes no text of it."""


class _Allowance(threading.local):
    """What the rendering of this thread has left: steps, and characters of all values made.

    `ends_s` is the thread's processor time at which it ends, in seconds, None before it is first asked; `next_look` the
    count of steps at which the clock is read next; `weights` the weighed containers by id, kept alive by being there.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.characters = 0
        self.next_look = 0
        self.ends_s: float | None = None
        self.weights: dict[int, tuple[Any, int, int]] = {}


_left = _Allowance()


class allowance:  # noqa: N801  (used as a function, and quicker than contextlib's)
    """Context manager: gives this thread a whole allowance for as long as it lasts. Renderings do not nest."""

    def __enter__(self) -> None:
        """Sets this thread's allowance to the whole; whatever was left of another one is lost."""
        _left.steps = MAX_STEPS
        _left.characters = MAX_CHARACTERS_IN_ALL
        _left.next_look = MAX_STEPS - _CLOCK_STEPS
        _left.ends_s = None

    def __exit__(self, *_: object) -> None:
        _left.weights.clear()


def take_steps(count: int = 1) -> None:
    """Takes steps from this thread's allowance. Raises TooCostly where none are left or its time is up."""
    _left.steps -= count
    if _left.steps < _left.next_look:
        _check_budget()


def _check_budget() -> None:
    """Raises TooCostly where no steps are left or the processor time is up; else sets when to look next."""
    if _left.steps < 0:
        raise TooCostly(f"the template takes more than {MAX_STEPS:,} steps")
    now_s = time.thread_time()
    if _left.ends_s is None:  # asked for only here: the clock costs more than a short chat's rendering
        _left.ends_s = now_s + MAX_CPU_S
    elif now_s > _left.ends_s:
        raise TooCostly(f"the template computes for more than {MAX_CPU_S:.0f} seconds")
    _left.next_look = _left.steps - _CLOCK_STEPS


def take_characters(count: int) -> None:
    """Charges for a value of so many characters that is about to be made, in steps too. Raises TooCostly."""
    if count > MAX_CHARACTERS:
        raise TooCostly(f"the template makes a value of more than {MAX_CHARACTERS:,} characters")
    _left.characters -= count
    if _left.characters < 0:
        raise TooCostly(f"the template makes more than {MAX_CHARACTERS_IN_ALL:,} characters in all")
    take_steps(1 + count // CHARACTERS_PER_STEP)


def weight(value: Any) -> int:
    """The characters of a value and of all its members, as often as they occur. Raises TooCostly for one too heavy.

    Nothing that a template sees ever changes, so each container is weighed once in a rendering, and charged then.
    """
    return _weight(value)[0]


def _weight(value: Any) -> tuple[int, int]:
    """The weight of a value in characters, and how deep it is nested, 0 for no container. Raises TooCostly."""
    if isinstance(value, str):
        return MEMBER_CHARACTERS + len(value), 0
    if isinstance(value, range):
        return MEMBER_CHARACTERS * (1 + len(value)), 0
    if not isinstance(value, _CONTAINERS):
        return MEMBER_CHARACTERS, 0
    weighed_before = _left.weights.get(id(value))
    if weighed_before is not None:
        return weighed_before[1], weighed_before[2]
    take_steps(len(value))
    total, depth = MEMBER_CHARACTERS, 0
    for member in value.items() if isinstance(value, Mapping) else value:
        inner, inner_depth = _weight(member)
        total += MEMBER_CHARACTERS + inner
        depth = max(depth, 1 + inner_depth)
        if total > MAX_CHARACTERS:
            raise TooCostly(f"the template makes a value of more than {MAX_CHARACTERS:,} characters")
    if depth > MAX_VALUE_DEPTH:
        raise TooCostly(f"the template nests a value more than {MAX_VALUE_DEPTH} deep")
    _left.weights[id(value)] = value, total, depth  # with the value itself: its id is then no other's
    return total, depth


def checked_weight(value: Any) -> Any:
    """The value itself, once it is known not to be too heavy. Raises TooCostly."""
    take_steps()
    weight(value)
    return value


def join_pieces(pieces: Iterable[str]) -> str:
    """The text of all pieces, counted as they come. Raises TooCostly; jinja2 calls it to join a template's output."""
    parts = []
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > MAX_CHARACTERS:
            raise TooCostly(f"the template writes more than {MAX_CHARACTERS:,} characters")
        parts.append(piece)
    take_characters(total)
    return "".join(parts)


def concatenate(left: str, right: str) -> str:
    """`left + right` for two strings, charged. Raises TooCostly.

    It does what `apply_operator` does, in one function without further calls, for templates are little but this.
    """
    count = len(left) + len(right)
    left_over = _left
    left_over.characters -= count
    left_over.steps -= 1 + count // CHARACTERS_PER_STEP
    if count > MAX_CHARACTERS or left_over.characters < 0:
        take_characters(count)
    if left_over.steps < left_over.next_look:
        _check_budget()
    return left + right


def apply_operator(operator: str, left: Any, right: Any) -> Any:
    """The result of one of + * ** %, charged before it is made.

    Raises TooCostly, or what Python raises for the operands.
    """
    take_steps()
    match operator:
        case "+":
            if isinstance(left, str):
                if isinstance(right, str):
                    take_characters(len(left) + len(right))
            elif isinstance(left, list | tuple):
                take_characters(weight(left) + weight(right))
            return left + right
        case "*":
            for one, times in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(times, int):
                    take_characters(weight(one) * max(times, 0))
            refuse_large_numbers(left, right)
            return left * right
        case "%":
            if isinstance(left, str):
                return format_text(left, right)
            return left % right
        case _:
            refuse_large_numbers(left, right)
            if isinstance(left, int) and isinstance(right, int) and abs(right) > MAX_NUMBER_BITS:
                raise TooCostly("the template raises a number to too high a power")
            return left**right


def charge_call(function: Any, arguments: tuple[Any, ...]) -> None:
    """Charges a call of a macro or a method, for a string's method also the size of its result. Calls nothing itself.

    Raises TooCostly, and jinja2.TemplateError for a join of what is no list.
    """
    take_steps(_CALL_STEPS)
    text = getattr(function, "__self__", None)
    if not isinstance(text, str):
        return
    name = function.__name__
    take_characters(len(text))
    if name == "replace" and len(arguments) >= 2:
        take_characters(replaced_characters(text, str(arguments[0]), str(arguments[1])))
    elif name in ("split", "rsplit", "splitlines"):
        _charge_pieces(text, arguments[0] if arguments and name != "splitlines" else None)
    elif name == "join" and arguments:
        parts = arguments[0]
        if not isinstance(parts, list | tuple | str | Mapping):
            raise jinja2.TemplateError("join takes a list")
        take_characters(weight(parts) + len(text) * len(parts))


def _charge_pieces(text: str, separator: object) -> None:
    """Charges for the pieces of a split, counted before it is made. Raises TooCostly."""
    pieces = text.count(separator) if isinstance(separator, str) and separator else sum(map(str.isspace, text))
    take_characters(_PIECE_CHARACTERS * (pieces + 1))


def replaced_characters(text: str, old: str, new: str) -> int:
    """An upper bound of the characters of `text.replace(old, new)`."""
    return len(text) + text.count(old) * len(new)


def refuse_large_numbers(*values: Any) -> None:
    """Raises TooCostly for an integer of more than MAX_NUMBER_BITS bits."""
    if any(isinstance(value, int) and value.bit_length() > MAX_NUMBER_BITS for value in values):
        raise TooCostly("the template computes with numbers that are too large")


def format_text(text: str, values: Any) -> Any:
    """`text % values`, charged.

    Raises TooCostly for a width or precision of four digits or more, or one given by a value.
    """
    if _WIDTH.search(text):
        raise TooCostly("the template formats with too large a width")
    take_characters(len(text) + text.count("%") * (weight(values) + 1000))
    return text % values
