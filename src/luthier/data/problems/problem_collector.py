"""Collects the problems of one row while `data/rows/` parses it, within limits of number; finds misspelt keys."""

import difflib
import functools
from collections.abc import Collection, Iterable, Mapping

from luthier.data.problems import json_path
from luthier.data.problems.problem import Problem, Severity

MAX_PER_ROW = 100
"""So many errors and so many warnings of one row are kept: a hostile line must not fill the memory with findings."""

_SHOWN_KEY = 40
_MAX_COMPARED = 500
"""Words of one row that are compared with the known ones: each takes 50 us, and a hostile row has 200,000."""


class ProblemCollector:
    """Gathers the problems of one row in `problems`: the first MAX_PER_ROW of each severity, and then one that says so.

    `problems` given at first are those that reading the line as JSON found already.
    """

    def __init__(self, line: int, problems: Iterable[Problem] = ()) -> None:
        """Starts with the given problems of the row on `line`, counted from 1."""
        self.line = line
        self.problems: list[Problem] = []
        self._counts = dict.fromkeys(Severity, 0)
        self._compared = 0
        for problem in problems:
            self._add(problem)

    @property
    def failed(self) -> bool:
        """Whether one of the problems is an error."""
        return self._counts[Severity.ERROR] > 0

    @property
    def n_errors(self) -> int:
        """How many errors there are, those beyond the list included."""
        return self._counts[Severity.ERROR]

    def error(self, path: str, code: str, message: str, fix: str, key: str | None = None) -> None:
        """Adds an error on this row's line; `key` is the row's own key that it is about."""
        self._add(Problem(self.line, path, code, Severity.ERROR, message, fix, key))

    def warning(self, path: str, code: str, message: str, fix: str, key: str | None = None) -> None:
        """Adds a warning on this row's line; `key` is the row's own key that it is about."""
        self._add(Problem(self.line, path, code, Severity.WARNING, message, fix, key))

    def check_keys(
        self, value: Mapping[str, object], known: tuple[str, ...], path: str, reported: Collection[str] = ()
    ) -> None:
        """Reports the unknown keys of an object: one close to a known key as an error, any other as a warning.

        A typing slip loses data; all else is ignored. Keys in `reported` already have a problem of their own, and are
        skipped.
        """
        for position, key in enumerate(value):
            if key in known or key in reported:
                continue
            suggestion = self.nearest_word(key, known)
            member_path = json_path.member_path(path, key, position)
            if suggestion and suggestion not in value:
                message = f"a key is unknown here but close to {suggestion}."
                self.error(member_path, "unknown_key", message, f"Write {suggestion}.", _shortened(key))
            else:
                message = "a key is unknown here and is ignored: what it holds is not learned."
                fix = f"Remove it, or write one of: {', '.join(known)}."
                self.warning(member_path, "unknown_key", message, fix, _shortened(key))

    def nearest_word(self, word: str, known: tuple[str, ...]) -> str | None:
        """The known word that a word is most likely a slip of; None if there is none.

        Also None for all but the first words of a row, since comparing takes long: each call is counted.
        """
        self._compared += 1
        return nearest_word(word, known) if self._compared <= _MAX_COMPARED else None

    def _add(self, problem: Problem) -> None:
        """Counts a problem, and lists it if there is room for more of its severity."""
        self._counts[problem.severity] += 1
        count = self._counts[problem.severity]
        if count <= MAX_PER_ROW:
            self.problems.append(problem)
        elif count == MAX_PER_ROW + 1:
            message = f"the row has more than the {MAX_PER_ROW} {problem.severity}s that are listed."
            fix = "Fix these, then check again."
            self.problems.append(Problem(self.line, "", "more_problems", problem.severity, message, fix))


def _shortened(key: str) -> str:
    return key if len(key) <= _SHOWN_KEY else f"{key[:_SHOWN_KEY]}..."


@functools.lru_cache(4096)
def nearest_word(word: str, known: tuple[str, ...]) -> str | None:
    """The known word that a word is most likely a slip of; None if there is none, or for words over 40 characters."""
    if len(word) > 40:  # no slip of a short word; comparing a word of megabytes would take minutes
        return None
    return next(iter(difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.75)), None)
