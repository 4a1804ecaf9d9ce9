"""Finder: gathers the problems of one row while it is read."""

import difflib
from collections.abc import Iterable, Mapping

from luthier.data.problem import Problem, Severity


class Finder:
    """Gathers the problems of one row."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.problems: list[Problem] = []

    def error(self, path: str, code: str, message: str, fix: str) -> None:
        self.problems.append(Problem(self.line, path, code, Severity.ERROR, message, fix))

    def warning(self, path: str, code: str, message: str, fix: str) -> None:
        self.problems.append(Problem(self.line, path, code, Severity.WARNING, message, fix))

    def check_keys(self, value: Mapping[str, object], known: tuple[str, ...], path: str) -> None:
        """A key close to a known one is an error (a typing slip loses data); any other is ignored with a warning."""
        for key in value:
            if key in known:
                continue
            near = nearest(key, known)
            if near and near not in value:
                self.error(path, "unknown_key", f"a key is unknown here but close to {near}.", f"Write {near}.")
            else:
                fix = f"Known: {', '.join(known)}."
                self.warning(path, "unknown_key", "a key is unknown here and is ignored.", fix)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a word is most likely a slip of, if any."""
    return next(iter(difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.75)), None)
