"""Problem: one finding of validation, worded for the person who has to fix the file."""

from dataclasses import dataclass, replace
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """Where it is, what is wrong, what to do. Sentences hold field paths and numbers, never the text of a row.

    `line` counts from 1, None for the file as a whole; `path` leads into the row, as `messages[2].content`. `key` is
    the row's own key that the problem is about, cut; it is only for whoever has the file, and never logged.
    """

    line: int | None
    path: str
    code: str
    severity: Severity
    message: str
    fix: str
    key: str | None = None

    def at(self, line: int | None) -> "Problem":
        """The same on another line."""
        return self if line == self.line else replace(self, line=line)

    def sentence(self) -> str:
        """The finding as one line of text."""
        where = "File" if self.line is None else f"Line {self.line}"
        path = f", {self.path}" if self.path else ""
        return f"{where}{path}: {self.message} {self.fix}".rstrip()
