"""The jinja2 filters that chat templates may use, each charged to the allowance of `render_cost` before it works.

Any of them may raise TooCostly, which ends the rendering; jinja2.TemplateError where a template misuses it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

import jinja2
import jinja2.filters
from jinja2.runtime import Context

from luthier.chat_templates import render_cost

LOOP, CONCAT, STEP, WEIGH, COPY = "(loop)", "(concat)", "(step)", "(weigh)", "(copy)"
"""Filters that the sandbox puts in; no template can write such names."""

_MAX_DIGITS = 100
_WHOLE = frozenset(("list", "dictsort", "max", "min", "sort", "unique"))
"""Filters that take all members at once, also of what would yield them one by one."""
_FILTERS = (
    "abs capitalize count d default dictsort e escape first float int items last length list lower map max min reject "
    "rejectattr reverse safe select selectattr sort string title trim truncate unique upper"
)


def counting_filters(as_json: Callable[..., str]) -> dict[str, Any]:
    """All filters by name: those of templates, with `as_json` as tojson, and those that the sandbox itself puts in."""
    chosen = {name: _counted(jinja2.filters.FILTERS[name], name in _WHOLE) for name in _FILTERS.split()}
    chosen["tojson"] = _counted(as_json, False)
    chosen |= {"join": _join, "replace": _replace, "indent": _indent, "sum": _sum, "format": _format, "round": _round}
    chosen |= {LOOP: _loop, CONCAT: _concat, STEP: _step, WEIGH: render_cost.checked_weight, COPY: _copied}
    return chosen


def _counted(function: Any, takes_all: bool) -> Any:
    """A jinja2 filter that first charges for its arguments; for filters that make no more than a few times these.

    `takes_all`: the filter needs all members at once, so an iterator is turned into a list as it is counted.
    """

    @wraps(function)  # with jinja2's marks on it
    def counted(*arguments: Any, **named: Any) -> Any:
        """Charges a step and the weight of each argument, then calls the filter. Raises TooCostly."""
        render_cost.take_steps()
        inputs = [_materialise(one) for one in arguments] if takes_all else arguments
        for one in (*inputs, *named.values()):
            if isinstance(one, str):
                render_cost.take_characters(len(one))
            elif isinstance(one, int | float):
                render_cost.refuse_large_numbers(one)
            elif not isinstance(one, Context):  # which some filters are handed, and which calls itself a mapping
                render_cost.take_steps(render_cost.weight(one) // render_cost.CHARACTERS_PER_STEP)
        result = function(*inputs, **named)
        return render_cost.checked_weight(result) if isinstance(result, list | str) else result

    return counted


def _materialise(value: Any) -> Any:
    """An iterator as a weighed list, counted member by member; any other value as it is. Raises TooCostly."""
    return render_cost.checked_weight(list(_count_each(value))) if isinstance(value, Iterator) else value


def _loop(values: Iterable[Any]) -> Any:
    """The value that a `for` loop walks over, its turns charged: at once if the length is known, else one by one.

    A list stays a list, since `loop.last` asks its length; an undefined value stays undefined.
    """
    if isinstance(values, jinja2.Undefined):
        return values
    if isinstance(values, list | tuple | range | str | Mapping):
        render_cost.take_steps(len(values))
        return values
    return _count_each(values)


def _count_each(values: Iterable[Any]) -> Iterator[Any]:
    """Yields the values, charging a step for each."""
    for value in values:
        render_cost.take_steps()
        yield value


def _step(value: Any) -> Any:
    """One side of a comparison, unchanged; charges steps for its length."""
    if isinstance(value, str):
        render_cost.take_steps(1 + len(value) // render_cost.CHARACTERS_PER_STEP)
    elif isinstance(value, list | tuple):
        render_cost.take_steps(1 + len(value))
    else:
        render_cost.take_steps()
    return value


def _copied(value: Any) -> Any:
    """A slice, unchanged; charges its own size, since its members exist already."""
    if isinstance(value, str | list | tuple):
        render_cost.take_characters(len(value) * (1 if isinstance(value, str) else render_cost.MEMBER_CHARACTERS))
    return value


def _concat(values: tuple[Any, ...]) -> str:
    """The text of `a ~ b ~ ...`; values that are no text are weighed before they are written out."""
    return render_cost.join_pieces(
        [one if isinstance(one, str) else str(render_cost.checked_weight(one)) for one in values]
    )


@jinja2.pass_eval_context
def _join(eval_ctx: Any, value: Any, d: str = "", attribute: str | int | None = None) -> Any:
    """jinja2's join, charged for all members with what stands between them."""
    values = render_cost.checked_weight(list(_count_each(value)))
    render_cost.take_characters(render_cost.weight(values) + len(str(d)) * len(values))
    return jinja2.filters.do_join(eval_ctx, values, d, attribute)


@jinja2.pass_eval_context
def _replace(eval_ctx: Any, s: Any, old: str, new: str, count: int | None = None) -> Any:
    """jinja2's replace, charged for the size of its result."""
    text = s if isinstance(s, str) else str(render_cost.checked_weight(s))
    render_cost.take_characters(render_cost.replaced_characters(text, str(old), str(new)))
    return jinja2.filters.do_replace(eval_ctx, text, str(old), str(new), count)


def _indent(s: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> Any:
    """jinja2's indent, charged for the spaces too."""
    text = s if isinstance(s, str) else str(render_cost.checked_weight(s))
    size = len(width) if isinstance(width, str) else width
    render_cost.take_characters(len(text) + (len(text.splitlines()) + 1) * max(size, 1))
    return jinja2.filters.do_indent(text, width, first, blank)


@jinja2.pass_environment
def _sum(environment: Any, iterable: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    """jinja2's sum of numbers, a step for each; a start of any other type, which could grow a list, is refused."""
    if not isinstance(start, int | float):
        raise jinja2.TemplateError("sum adds numbers")
    return jinja2.filters.sync_do_sum(environment, _count_each(iterable), attribute, start)


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    """jinja2's round, to at most _MAX_DIGITS digits."""
    if not 0 <= precision <= _MAX_DIGITS:
        raise render_cost.TooCostly(f"the template rounds to more than {_MAX_DIGITS} digits")
    return jinja2.filters.do_round(value, precision, method)


def _format(value: Any, *args: Any, **kwargs: Any) -> Any:
    """Python's % formatting, by place or by name; a width that is too large is refused."""
    if args and kwargs:
        raise jinja2.TemplateError("format takes values by place or by name")
    return render_cost.format_text(str(value), kwargs or args)
