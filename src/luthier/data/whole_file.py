"""What shows of a file as a whole: its size, its first bytes, its blank lines, and that it holds no JSON lines."""

from collections.abc import Iterable, Iterator

from luthier.data.file_kinds import SAMPLE_BYTES, Kind
from luthier.data.jsonl import Line
from luthier.data.problem import Problem, Severity

MAX_FILE_BYTES = 512 * 1024 * 1024
"""The guide's bound for a training file, as for an upload."""


class Source:
    """A file's chunks on their way to the reader; `start` is its first bytes, `n_bytes` what has passed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.start = b""
        self.n_bytes = 0

    def chunks(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if len(self.start) < SAMPLE_BYTES:
                self.start += chunk[: SAMPLE_BYTES - len(self.start)]
            self.n_bytes += len(chunk)
            yield chunk

    def problems(self, max_bytes: int) -> list[Problem]:
        """What is wrong with the size of what has passed."""
        if self.n_bytes <= max_bytes:
            return []
        message = f"the file has {self.n_bytes:,} bytes; at most {max_bytes:,} are taken."
        return [_of_the_file("file_too_large", message, "Split it, or leave rows out.")]


class BlankLines:
    """Counts the blank lines that stand before other lines; those at the end are nobody's concern."""

    def __init__(self) -> None:
        self._count = 0
        self._first: int | None = None

    def add(self, line: Line) -> None:
        if line.blanks_before and self._first is None:
            self._first = line.number - line.blanks_before
        self._count += line.blanks_before

    def problems(self) -> list[Problem]:
        if self._first is None:
            return []
        found = "a line is" if self._count == 1 else f"from here on, {self._count} lines are"
        message = f"{found} blank and skipped; other services may refuse the file for it."
        return [Problem(self._first, "", "blank_lines", Severity.WARNING, message, "Remove blank lines.")]


def not_jsonl(kind: Kind) -> Problem:
    """A file of another kind."""
    return _of_the_file("not_jsonl", f"the file holds no JSON lines; it looks like {kind.name}.", kind.fix)


def given_up(n_lines: int) -> Problem:
    """A file that is not read on, for none of its first lines is an object."""
    message = f"none of the first {n_lines} lines is a JSON object, so the rest was not read."
    return _of_the_file("not_jsonl", message, 'The file must be JSONL: on each line one object {"messages": [...]}.')


def _of_the_file(code: str, message: str, fix: str) -> Problem:
    return Problem(None, "", code, Severity.ERROR, message, fix)
