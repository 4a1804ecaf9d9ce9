"""A faulty file made by us, and exactly what is to be found in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luthier.core.quotas import MAX_FILE_BYTES
from luthier.core.states import Ability, Method
from luthier.data.checks import validate
from luthier.data.problems.problem import Severity

USER = {"role": "user", "content": "Which planet is the largest?"}
ANSWER = {"role": "assistant", "content": "Jupiter."}
GOOD = json.dumps({"messages": [USER, ANSWER]}).encode()

Found = tuple[str, int | None, str, Severity]
"""Code, line, path, severity."""


@dataclass(frozen=True, slots=True)
class Case:
    """A file and its problems, in the order in which they are told."""

    id: str
    content: bytes
    expected: tuple[Found, ...]
    abilities: frozenset[Ability] | None = None
    method: Method = Method.SUPERVISED
    min_examples: int = 1
    max_bytes: int = MAX_FILE_BYTES

    def report(self) -> validate.Report:
        return validate.check_file(
            [self.content], self.abilities, self.min_examples, self.method, max_bytes=self.max_bytes
        )


def error(code: str, path: str = "", line: int | None = 2) -> Found:
    return code, line, path, Severity.ERROR


def warning(code: str, path: str = "", line: int | None = 2) -> Found:
    return code, line, path, Severity.WARNING


def lines(*content: bytes | Mapping[str, Any]) -> bytes:
    """A file of these lines, each with its end."""
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in content)


def broken(id: str, line: bytes | str, *expected: Found) -> Case:
    """A file whose second of three lines is this one."""
    return Case(id, lines(GOOD, line.encode() if isinstance(line, str) else line, GOOD), expected)


def row(id: str, value: Mapping[str, Any], *expected: Found, abilities: frozenset[Ability] | None = None) -> Case:
    """A file whose second of three rows is this one."""
    return Case(id, lines(GOOD, value, GOOD), expected, abilities)


def turns(id: str, messages: Any, *expected: Found, abilities: frozenset[Ability] | None = None, **more: Any) -> Case:
    """A file whose second of three rows has these messages."""
    return row(id, {"messages": messages, **more}, *expected, abilities=abilities)
