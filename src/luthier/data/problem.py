"""Problem: one finding of validation, worded for the person who has to mend the file."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """Where it is, what is wrong, what to do. Holds field paths and numbers, never the text of a row.

    `line` counts from 1, None for the file as a whole; `path` leads into the row, as `messages[2].content`.
    """

    line: int | None
    path: str
    code: str
    severity: Severity
    message: str
    fix: str

    def sentence(self) -> str:
        """The finding as one line of text."""
        where = "File" if self.line is None else f"Line {self.line}"
        place = f", {self.path}" if self.path else ""
        return f"{where}{place}: {self.message} {self.fix}".rstrip()
