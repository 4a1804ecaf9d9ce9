"""Templates to HTML: Jinja with autoescape, undefined names are faults, and the filters of all pages."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import jinja2
from markupsafe import Markup

from luthier.portal.web import phrases
from luthier.portal.web.static_files import StaticFolder


@dataclass(frozen=True, slots=True)
class Renderer:
    """The portal's templates, compiled at first use. `start` names this start of the service in ETags."""

    environment: jinja2.Environment
    start: str

    def render(self, template: str, values: Mapping[str, object]) -> str:
        """The template's text. A name that it uses and `values` lacks is a fault of ours: UndefinedError."""
        return self.environment.get_template(template).render(values)


def make_renderer(static: StaticFolder, start: str) -> Renderer:
    """The renderer over the templates of this package."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("luthier.portal", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size,
        "count": count,
        "figure": figure,
        "duration": duration,
        "moment": moment,
        "words": words,
        "plain": plain,
    }
    environment.globals |= {"static": static.address, "NOTICES": phrases.NOTICES, "STATUS_TONES": phrases.TONES}
    return Renderer(environment, start)


def size(n_bytes: int | float | None) -> str:
    """Bytes in decimal units: 1.4 MB."""
    if n_bytes is None:
        return "–"
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(number: int | float | None) -> str:
    """A whole number with separators: 12,345."""
    return "–" if number is None else f"{number:,.0f}"


def figure(value: float | None, digits: int = 4) -> str:
    """A measured value to `digits` significant digits: 1.234, 2e-05."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """Seconds in units that suit their number: 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    for small, large, of_large, per in (("s", "min", 60, 60), ("min", "h", 3600, 60), ("h", "d", 86400, 24)):
        if whole < of_large * per or large == "d":
            rest = (whole % of_large) // (of_large // per if large != "min" else 1)
            return f"{whole // of_large} {large}" + (f" {rest} {small}" if rest else "")
    raise AssertionError("the last unit takes every duration")


def moment(time: datetime | int | float | None) -> Markup:
    """A time element in UTC; the script of every page shows it in the visitor's own time zone."""
    if time is None:
        return Markup("–")
    at = time if isinstance(time, datetime) else datetime.fromtimestamp(time, UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    )


def words(name: str) -> str:
    """A state's or field's name for people: validating_files is "validating files"."""
    return name.replace("_", " ")


def plain(value: object) -> str:
    """A setting's value for people: lists joined, numbers without needless digits, nothing as a dash."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ", ".join(map(plain, value))
        case _:
            return str(value)
