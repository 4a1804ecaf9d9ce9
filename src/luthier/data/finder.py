"""Finder: gathers the problems of one row while it is read."""

import difflib
import functools
from collections.abc import Iterable, Mapping

from luthier.data import place
from luthier.data.problem import Problem, Severity

MAX_PER_ROW = 100
"""So many errors and so many warnings of one row are kept: a hostile line must not fill the memory with findings."""

_MAX_COMPARED = 500
"""Words of one row that are compared with the known ones: each takes 50 us, and a hostile row has 200,000."""


class Finder:
    """Gathers the problems of one row."""

    def __init__(self, line: int, problems: Iterable[Problem] = ()) -> None:
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
        return self._counts[Severity.ERROR]

    def error(self, path: str, code: str, message: str, fix: str) -> None:
        self._add(Problem(self.line, path, code, Severity.ERROR, message, fix))

    def warning(self, path: str, code: str, message: str, fix: str) -> None:
        self._add(Problem(self.line, path, code, Severity.WARNING, message, fix))

    def check_keys(self, value: Mapping[str, object], known: tuple[str, ...], path: str) -> None:
        """A key close to a known one is an error (a typing slip loses data); any other is ignored with a warning."""
        for position, key in enumerate(value):
            if key in known:
                continue
            near = self.nearest(key, known)
            where = place.inside(path, key, position)
            if near and near not in value:
                self.error(where, "unknown_key", f"a key is unknown here but close to {near}.", f"Write {near}.")
            else:
                fix = f"Remove it, or write one of: {', '.join(known)}."
                self.warning(where, "unknown_key", "a key is unknown here and is ignored.", fix)

    def nearest(self, word: str, known: tuple[str, ...]) -> str | None:
        """The known word that a word is most likely a slip of, if any; None for all but the first words of a row."""
        self._compared += 1
        return nearest(word, known) if self._compared <= _MAX_COMPARED else None

    def _add(self, problem: Problem) -> None:
        self._counts[problem.severity] += 1
        kept = self._counts[problem.severity]
        if kept <= MAX_PER_ROW:
            self.problems.append(problem)
        elif kept == MAX_PER_ROW + 1:
            message = f"the row has more than the {MAX_PER_ROW} {problem.severity}s that are listed."
            fix = "Mend these, then check again."
            self.problems.append(Problem(self.line, "", "more_problems", problem.severity, message, fix))


@functools.lru_cache(4096)
def nearest(word: str, known: tuple[str, ...]) -> str | None:
    """The known word that a word is most likely a slip of, if any."""
    if len(word) > 40:  # no slip of a short word; comparing a word of megabytes would take minutes
        return None
    return next(iter(difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.75)), None)
