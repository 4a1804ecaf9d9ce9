"""Problem: one finding of validation, worded for the person who has to fix the file."""

from dataclasses import dataclass, replace
from enum import StrEnum


class Severity(StrEnum):
    """Whether a problem makes the file unusable (error) or is only worth knowing (warning)."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: where it is, what is wrong, what to do. Sentences hold field paths and numbers, never text of a row.

    `line` counts from 1, None for the file as a whole; `path` leads into the row, as `messages[2].content`, "" for all
    of it. `key` is the row's own key that the problem is about, cut, or None; it is only for whoever has the file, and
    never logged.
    """

    line: int | None
    path: str
    code: str
    severity: Severity
    message: str
    fix: str
    key: str | None = None

    def at(self, line: int | None) -> "Problem":
        """The same problem on another line; itself if it is there already."""
        return self if line == self.line else replace(self, line=line)

    def sentence(self) -> str:
        """The problem as one line of text, without its key: where, what, and the fix."""
        where = "File" if self.line is None else f"Line {self.line}"
        path = f", {self.path}" if self.path else ""
        return f"{where}{path}: {self.message} {self.fix}".rstrip()
