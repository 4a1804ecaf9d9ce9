"""System prompts that differ by a character or so from the one that most rows use: typing slips, as a rule."""

from dataclasses import dataclass

from luthier.data.problems.problem import Problem, Severity

MAX_DISTINCT = 200
"""Files with more different system prompts have none that most rows share; they are not compared."""
MAX_CHARACTERS = 20_000
MAX_EDITS = 3
MIN_ROWS = 5
"""At least so many rows must share the system prompt that the others are compared with."""
MIN_CHARACTERS_PER_EDIT = 16
"""In a short prompt one character may be a word of its own: "Reply in A." and "Reply in B." are both meant."""


@dataclass(slots=True)
class _PromptCount:
    """How many rows have one system prompt, and the line of the first of them."""

    line: int
    rows: int = 1


class SystemPrompts:
    """Counts the rows of each different system prompt, whose texts it keeps."""

    def __init__(self) -> None:
        self._found: dict[str, _PromptCount] = {}
        self._full = False

    def add(self, line: int, system: str | None) -> None:
        """Counts a row, unless it has no system prompt (None).

        One prompt too many, or too long, ends the counting: then all are dropped and there are no problems.
        """
        if system is None or self._full:
            return
        count = self._found.get(system)
        if count is not None:
            count.rows += 1
        elif len(self._found) < MAX_DISTINCT and len(system) <= MAX_CHARACTERS:
            self._found[system] = _PromptCount(line)
        else:
            self._full = True
            self._found.clear()

    def problems(self) -> list[Problem]:
        """A warning for each prompt that is nearly the usual one, at the first row that has it."""
        if len(self._found) < 2:
            return []
        usual, usual_count = max(self._found.items(), key=lambda item: item[1].rows)
        if usual_count.rows < MIN_ROWS:
            return []
        problems_found = []
        for text, prompt in self._found.items():
            # A variant that is used about as often is one of two on purpose.
            if prompt is usual_count or prompt.rows * 4 > usual_count.rows:
                continue
            edits = edit_distance(usual, text, MAX_EDITS)
            if edits is not None and edits * MIN_CHARACTERS_PER_EDIT <= len(usual):
                problems_found.append(_problem(prompt, edits, usual_count))
        return problems_found


def edit_distance(first: str, second: str, max_edits: int) -> int | None:
    """The least number of characters to insert, delete or replace that makes one text the other.

    None above `max_edits`. Ukkonen's cut-off: only the diagonals that are at most `max_edits` away are computed.
    """
    start = 0
    shorter = min(len(first), len(second))
    while start < shorter and first[start] == second[start]:
        start += 1
    end = 0
    while end < shorter - start and first[-1 - end] == second[-1 - end]:
        end += 1
    first, second = first[start : len(first) - end], second[start : len(second) - end]
    if abs(len(first) - len(second)) > max_edits:
        return None
    row = {column: column for column in range(min(len(second), max_edits) + 1)}
    for line, character in enumerate(first, 1):
        before, row = row, {}
        for column in range(max(0, line - max_edits), min(len(second), line + max_edits) + 1):
            costs = [before[column] + 1] if column in before else []
            if column - 1 in row:
                costs.append(row[column - 1] + 1)
            if column - 1 in before:
                costs.append(before[column - 1] + (character != second[column - 1]))
            row[column] = min(costs)
        if min(row.values()) > max_edits:
            return None
    result = row[len(second)]
    return result if result <= max_edits else None


def _problem(prompt: _PromptCount, edits: int, usual: _PromptCount) -> Problem:
    """The warning of a prompt that is `edits` characters from the usual one."""
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
