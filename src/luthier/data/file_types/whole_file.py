"""Problems of a file as a whole, for `data/checks/validate.py`: size, encoding, blank lines, and other file types."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from luthier.data.file_types import file_type, text_encoding
from luthier.data.file_types.file_type import SAMPLE_BYTES
from luthier.data.file_types.text_encoding import EncodingSurvey
from luthier.data.jsonl.json_documents import MAX_WHOLE_BYTES
from luthier.data.jsonl.line_reader import JsonRow, Line
from luthier.data.problems.problem import Problem, Severity


class ChunkBuffer:
    """A file's chunks on their way to the reader; `start` is its first bytes, `n_bytes` how many have passed.

    Up to MAX_WHOLE_BYTES are held until `release` is called, for a file that turns out to be one document.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held: list[bytes] | None = []
        self.start = b""
        self.n_bytes = 0

    def chunks(self) -> Iterator[bytes]:
        """Yields the chunks not read yet, and keeps `start`, `n_bytes` and what is held up to date."""
        for chunk in self._chunks:
            if len(self.start) < SAMPLE_BYTES:
                self.start += chunk[: SAMPLE_BYTES - len(self.start)]
            self.n_bytes += len(chunk)
            self._hold(chunk)
            yield chunk

    def release(self) -> None:
        """Stops holding the file, since it has rows on its lines; `document` is None from then on."""
        self._held = None

    def document(self) -> bytes | None:
        """The whole file, read to its end for this; None if it is too long to be held, or was released."""
        for _ in self.chunks():
            if self._held is None:
                return None
        return None if self._held is None else b"".join(self._held)

    def _hold(self, chunk: bytes) -> None:
        """Keeps a chunk; lets go of all once they are too long together."""
        if self._held is not None:
            self._held.append(chunk)
            if self.n_bytes > MAX_WHOLE_BYTES:
                self._held = None

    def problems(self, max_bytes: int) -> list[Problem]:
        """The error of a file larger than `max_bytes` by what has passed, or []."""
        if self.n_bytes <= max_bytes:
            return []
        message = f"the file has {self.n_bytes:,} bytes; at most {max_bytes:,} are allowed."
        return [_file_problem("file_too_large", message, "Split it, or leave rows out.")]


class BlankLines:
    """Counts the blank lines that precede other lines, for one warning; those at the end do not matter."""

    def __init__(self) -> None:
        self._count = 0
        self._first: int | None = None

    def add(self, line: Line) -> None:
        """Counts the blank lines before a line, and remembers where the first one was."""
        if line.blanks_before and self._first is None:
            self._first = line.number - line.blanks_before
        self._count += line.blanks_before

    def problems(self) -> list[Problem]:
        """The warning about blank lines, at the first of them; [] if there are none."""
        if self._first is None:
            return []
        subject = "a line is" if self._count == 1 else f"from here on, {self._count} lines are"
        message = f"{subject} blank and skipped; other services may refuse the file for it."
        return [Problem(self._first, "", "blank_lines", Severity.WARNING, message, "Remove blank lines.")]


def not_jsonl(source: ChunkBuffer, first: JsonRow | Problem, n_lines: int) -> Problem | None:
    """The error for a file of another kind, whose first line gave `first`; None for one that may be JSON lines.

    Reads on to the end of the file unless it is too long.
    """
    kind = file_type.detect(source.start, source.document(), first.code if isinstance(first, Problem) else "", n_lines)
    if kind is None:
        return None
    return _file_problem("not_jsonl", f"the file holds no JSON lines; it looks like {kind.name}.", kind.fix)


def with_encoding_fix(survey: EncodingSurvey) -> Callable[[Problem], Problem]:
    """A function that gives the problem of a line that is not UTF-8 a fix judged by all such lines.

    It returns other problems as they are.
    """
    fix = encoding_fix(survey) if survey.n_lines else ""
    return lambda problem: replace(problem, fix=fix) if fix and problem.code == "invalid_utf8" else problem


def decoded_as(encoding: str, n_lines: int) -> Problem:
    """The error for a file that was read in an encoding that the user named: a service accepts UTF-8 only."""
    name = "1 line was" if n_lines == 1 else f"{n_lines:,} lines were"
    message = f"{name} read as {encoding}; a service accepts UTF-8 only."
    return _file_problem(
        "invalid_utf8", message, f"Write it in UTF-8: luthier check OLD --encoding {encoding} --fix NEW."
    )


def encoding_fix(survey: EncodingSurvey) -> str:
    """What to do about the lines that are not UTF-8, in words; asked only of a survey that has some."""
    verdict = survey.verdict()
    if verdict.damaged:
        return "It is UTF-8 that was damaged: write the text of the row again, or remove the row."
    if verdict.certain == "cesu-8":
        return "It is CESU-8, as Java and some databases write it: luthier check OLD --fix NEW converts it to UTF-8."
    if verdict.certain:
        name = text_encoding.iconv_name(verdict.certain)
        return f"It is {name}: luthier check OLD --fix NEW converts it to UTF-8{_or_iconv(name, survey)}."
    if not verdict.likely:
        return "Its encoding is unknown. Name it: luthier check OLD --encoding NAME --fix NEW."
    names = " or ".join(verdict.likely)
    first = verdict.likely[0]
    ways = f"luthier check OLD --encoding {first} --fix NEW{_or_iconv(text_encoding.iconv_name(first), survey)}"
    return f"Its encoding is unknown; it may be {names}. Find out which it is, and name it: {ways}."


def _or_iconv(name: str, survey: EncodingSurvey) -> str:
    """Words for the same with iconv, which decodes all lines alike; "" for a file in two encodings."""
    return "" if survey.has_utf8 else f", or iconv -f {name} -t UTF-8 OLD > NEW"


def stopped_early(n_lines: int, survey: EncodingSurvey) -> Problem:
    """The error for a file that was not read on, since none of its first `n_lines` lines is an object."""
    if survey.n_lines == n_lines:
        message = f"none of the first {n_lines} lines is UTF-8, so the rest was not read."
        return _file_problem("not_jsonl", message, encoding_fix(survey))
    message = f"none of the first {n_lines} lines is a JSON object, so the rest was not read."
    return _file_problem("not_jsonl", message, 'The file must be JSONL: on each line one object {"messages": [...]}.')


def _file_problem(code: str, message: str, fix: str) -> Problem:
    """An error of the file as a whole, without line and path."""
    return Problem(None, "", code, Severity.ERROR, message, fix)
