"""JSON of strangers: small enough, nested little enough, one meaning, or a sentence that names the file.

Every reader of this package goes through it. InvalidRequest is on behalf of whoever pulls the model.
"""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from luthier.core.errors import InvalidRequest

MAX_CONFIGURATION_BYTES = 4 * 1024**2
MAX_DEPTH = 32


def read_object(path: Path, max_bytes: int = MAX_CONFIGURATION_BYTES) -> dict[str, Any]:
    """The object in a file. Raises InvalidRequest that names the file and what is wrong; OSError if it is missing."""
    size = path.stat().st_size
    if size > max_bytes:
        raise damaged(path, f"is {size:,} bytes long; at most {max_bytes:,} are read")
    return parse_object(path.read_bytes(), path)


def parse_object(data: bytes, path: Path, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The object in bytes of the file `path`, which only the message names; nothing is read from it.

    Raises InvalidRequest for what is no JSON object, is nested too deeply, or has a name twice, NaN or an infinite
    number.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise damaged(path, f"is not UTF-8 (byte {error.start:,})") from None
    except json.JSONDecodeError as error:
        raise damaged(path, f"is not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None
    except _Repeated as error:
        raise damaged(path, f"has the name {error.args[0]!r:.80} twice in one object") from None
    except (RecursionError, ValueError):
        raise damaged(path, "is nested too deeply or holds what is no JSON number") from None
    if not isinstance(value, dict):
        raise damaged(path, f"holds a {type(value).__name__} where a JSON object belongs")
    _refuse_depth(value, path, max_depth)
    return value


def whole_number(values: dict[str, Any], name: str, path: Path, least: int, most: int) -> int | None:
    """The number under a name; None if the name is missing or null. Raises InvalidRequest beyond its bounds."""
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise damaged(path, f"has {name} = {value!r:.40}; it must be a whole number from {least:,} to {most:,}")
    return value


def damaged(path: Path, fault: str) -> InvalidRequest:
    """The error for a file that cannot be used; `fault` is the end of a sentence whose subject is the file."""
    return InvalidRequest("damaged_source", f"{path} {fault}. Fetch the file again, or name another source.")


class _Repeated(Exception):
    """An object has this name twice; stays inside this module."""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of one JSON object as a dict, for json.loads. Raises _Repeated for a name that comes twice."""
    # Two readers of one file must not see two things: some take the first of equal names, some the last.
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        raise _Repeated(next(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return values


def _refuse_constant(word: str) -> NoReturn:
    """Raises ValueError for NaN and Infinity, which json.loads would take."""
    raise ValueError(word)


def _refuse_depth(value: object, path: Path, max_depth: int) -> None:
    """Raises InvalidRequest for a value nested too deeply, and for a number that is infinite as a float.

    Level by level, without recursion.
    """
    level: list[object] = [value]
    for _ in range(max_depth):
        level = [
            member
            for one in level
            if isinstance(one, dict | list)
            for member in (one.values() if isinstance(one, dict) else one)
        ]
        if any(isinstance(one, float) and not math.isfinite(one) for one in level):
            raise damaged(path, "holds a number beyond all bounds")
        if not level:
            return
    raise damaged(path, f"is nested more than {max_depth} deep")
