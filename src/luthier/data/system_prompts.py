"""System prompts that differ by a character or so from the one that most rows use: typing slips, as a rule."""

from dataclasses import dataclass

from luthier.data.problem import Problem, Severity

MAX_DISTINCT = 200
"""Files with more different system prompts have none that most rows share; they are not compared."""
MAX_CHARACTERS = 20_000
MAX_EDITS = 3
MIN_ROWS = 5
"""So many rows make a system prompt the one that others are held against."""
MIN_CHARACTERS_PER_EDIT = 16
"""In a short prompt one character may be a word of its own: "Reply in A." and "Reply in B." are both meant."""


@dataclass(slots=True)
class _Prompt:
    line: int
    rows: int = 1


class SystemPrompts:
    """Counts the rows of each different system prompt."""

    def __init__(self) -> None:
        self._found: dict[str, _Prompt] = {}
        self._full = False

    def add(self, line: int, system: str | None) -> None:
        if system is None or self._full:
            return
        known = self._found.get(system)
        if known is not None:
            known.rows += 1
        elif len(self._found) < MAX_DISTINCT and len(system) <= MAX_CHARACTERS:
            self._found[system] = _Prompt(line)
        else:
            self._full = True
            self._found.clear()

    def problems(self) -> list[Problem]:
        """A problem for each prompt that is nearly the usual one, at the first row that has it."""
        if len(self._found) < 2:
            return []
        usual, most = max(self._found.items(), key=lambda item: item[1].rows)
        if most.rows < MIN_ROWS:
            return []
        found = []
        for text, prompt in self._found.items():
            # A variant that is used about as often is one of two on purpose.
            if prompt is most or prompt.rows * 4 > most.rows:
                continue
            edits = distance(usual, text, MAX_EDITS)
            if edits is not None and edits * MIN_CHARACTERS_PER_EDIT <= len(usual):
                found.append(_problem(prompt, edits, most))
        return found


def distance(one: str, other: str, most: int) -> int | None:
    """The least number of characters to insert, delete or replace that makes one text the other; None above `most`.

    Ukkonen's cut-off: only the diagonals that are at most `most` away are computed.
    """
    start = 0
    shorter = min(len(one), len(other))
    while start < shorter and one[start] == other[start]:
        start += 1
    end = 0
    while end < shorter - start and one[-1 - end] == other[-1 - end]:
        end += 1
    one, other = one[start : len(one) - end], other[start : len(other) - end]
    if abs(len(one) - len(other)) > most:
        return None
    row = {column: column for column in range(min(len(other), most) + 1)}
    for line, character in enumerate(one, 1):
        before, row = row, {}
        for column in range(max(0, line - most), min(len(other), line + most) + 1):
            found = [before[column] + 1] if column in before else []
            if column - 1 in row:
                found.append(row[column - 1] + 1)
            if column - 1 in before:
                found.append(before[column - 1] + (character != other[column - 1]))
            row[column] = min(found)
        if min(row.values()) > most:
            return None
    result = row[len(other)]
    return result if result <= most else None


def _problem(prompt: _Prompt, edits: int, usual: _Prompt) -> Problem:
    characters = "one character" if edits == 1 else f"{edits} characters"
    also = "" if prompt.rows == 1 else f" and of {prompt.rows - 1} more"
    return Problem(
        prompt.line,
        "messages[0].content",
        "odd_system_prompt",
        Severity.WARNING,
        f"the system prompt of this row{also} differs by {characters} from that of {usual.rows} others, the first of "
        f"them line {usual.line}.",
        "Write the same system prompt in all of them, the one that you will use when the model answers.",
    )
