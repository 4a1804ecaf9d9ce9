"""Which script the answers are written in: a few in another one than all the rest are often strays."""

import re
import string
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

from luthier.data.problems.problem import Problem, Severity
from luthier.data.problems.problem_groups import and_more

MIN_ROWS = 20
MAX_SHARE = 0.05
"""Up to this share of the rows, another script counts as a stray; above it, a file is meant to be mixed."""
_READ_CHARACTERS = 400
_SHOWN_LINES = 5
_LETTERS = string.ascii_letters.encode()
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_SCRIPT_FAMILIES = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "FULLWIDTH": "LATIN"}
"""Japanese mixes scripts within a sentence; Unicode's names put its kana apart."""


@dataclass(slots=True)
class _ScriptRows:
    """How many rows are in one script, and the lines of the first few."""

    count: int = 0
    lines: list[int] = field(default_factory=list)


class Scripts:
    """Counts the rows by the script that more than half of their letters are of."""

    def __init__(self) -> None:
        self._found: dict[str, _ScriptRows] = {}

    def add(self, line: int, text: str) -> None:
        """Counts a row, whose answer is `text`, unless it has no main script."""
        script = main_script(text)
        if script is None:
            return
        rows = self._found.get(script)
        if rows is None:
            rows = self._found[script] = _ScriptRows()
        rows.count += 1
        if rows.count <= _SHOWN_LINES:
            rows.lines.append(line)

    def counts(self) -> dict[str, int]:
        """Rows by script, in Unicode's lower-case words."""
        return {script.lower(): rows.count for script, rows in self._found.items()}

    def problems(self) -> list[Problem]:
        """A warning for each script that few rows are in; [] where several scripts are usual in the file."""
        total = sum(rows.count for rows in self._found.values())
        if total < MIN_ROWS or len(self._found) < 2:
            return []
        usual = max(self._found, key=lambda script: self._found[script].count)
        strays = {script: rows for script, rows in self._found.items() if script != usual}
        if sum(rows.count for rows in strays.values()) > MAX_SHARE * total:
            return []
        return [_problem(script, rows, usual, total) for script, rows in strays.items()]


def main_script(text: str) -> str | None:
    """The script of most of a text's first letters: `LATIN`, `CYRILLIC`, `CJK`, ...

    None where none has more than half of them, and for a text with hardly any letters.
    """
    if text.isascii():  # a flag of the string, so that nearly all rows cost nothing
        first = text[:_READ_CHARACTERS]
        return "LATIN" if first[:1].isalpha() or first.lower() != first.upper() else None
    counts: dict[str, int] = {}
    first = text[:_READ_CHARACTERS]
    plain = first.encode("ascii", "ignore")
    counts["LATIN"] = len(plain) - len(plain.translate(None, _LETTERS))
    for character in _BEYOND_ASCII.findall(first):
        script = _script(character)
        if script is not None:
            counts[script] = counts.get(script, 0) + 1
    letters = sum(counts.values())
    main = max(counts, key=counts.__getitem__, default=None)
    return main if main is not None and letters >= 3 and counts[main] * 2 > letters else None


@lru_cache(maxsize=4096)
def _script(character: str) -> str | None:
    """The script of a letter, the first word of its name in Unicode; None for all other characters."""
    if not character.isalpha():
        return None
    word = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    return _SCRIPT_FAMILIES.get(word, word) or None


def _problem(script: str, rows: _ScriptRows, usual: str, total: int) -> Problem:
    """The warning of the rows in a stray script, at their first; `usual` is the script of most of the `total` rows."""
    lines = and_more(", ".join(map(str, rows.lines)), rows.count - len(rows.lines))
    where = f"{rows.count} answers (lines {lines}) are" if rows.count > 1 else "the answer of this row is"
    return Problem(
        rows.lines[0],
        "",
        "other_script",
        Severity.WARNING,
        f"{where} written in {script.capitalize()} letters, nearly all of the {total} rows in {usual.capitalize()}.",
        "Check whether they belong here.",
    )
