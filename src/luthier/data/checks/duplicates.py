"""Duplicate and contradictory rows: within a file, and between training and validation."""

from array import array

from luthier.data.checks.row_text import RowText
from luthier.data.problems.problem import Problem, Severity

MAX_ROWS = 4_000_000
"""Rows after so many others are not compared: each costs about 130 bytes of memory."""


class PromptIndex:
    """The prompts and answers of a file, as hashes of 64 bits: no text is kept. Valid within this process only."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}  # prompt -> the index in the arrays of the first row that has it
        self._lines = array("I")
        self._answers = array("q")
        self._further: dict[tuple[int, int], int] = {}  # further (prompt, answer) of such a prompt -> line
        self._pairs: dict[tuple[int, int, int], int] = {}  # preferences as (prompt, better, worse) -> line

    def add(self, line: int, view: RowText) -> Problem | None:
        """Adds a row; returns the warning if an earlier row has the same prompt and answer, or another answer to it."""
        prompt, answer = view.prompt_hash, view.answer_hash
        if view.rejected:
            return self._add_preference(line, prompt, answer, view.rejected_hash)
        index = self._first.get(prompt)
        if index is None:
            if len(self._lines) < MAX_ROWS:
                self._first[prompt] = len(self._lines)
                self._lines.append(line)
                self._answers.append(answer)
            return None
        first = self._lines[index]
        same = first if self._answers[index] == answer else self._further.get((prompt, answer))
        if same is not None:
            return _duplicate_problem(line, same)
        if len(self._further) < MAX_ROWS:
            self._further[prompt, answer] = line
        return _contradiction_problem(line, first)

    def find(self, view: RowText) -> tuple[int, bool] | None:
        """The line that has the prompt of this row, and whether it has the answer too; for rows of another file.

        None where no row has the prompt. Of a preference both outputs must be the same.
        """
        prompt, answer = view.prompt_hash, view.answer_hash
        index = self._first.get(prompt)
        if index is None:
            return None
        if view.rejected:
            same = self._pairs.get((prompt, answer, view.rejected_hash))
            return (self._lines[index], False) if same is None else (same, True)
        if self._answers[index] == answer:
            return self._lines[index], True
        further = self._further.get((prompt, answer))
        return (self._lines[index], False) if further is None else (further, True)

    def _add_preference(self, line: int, prompt: int, better: int, worse: int) -> Problem | None:
        """Adds a pair; returns the warning if an earlier row has it, or has its outputs the other way round.

        Several pairs for one prompt are usual, and no problem.
        """
        if prompt not in self._first and len(self._lines) < MAX_ROWS:
            self._first[prompt] = len(self._lines)
            self._lines.append(line)
            self._answers.append(better)
        same = self._pairs.get((prompt, better, worse))
        if same is not None:
            return _duplicate_problem(line, same)
        contrary = self._pairs.get((prompt, worse, better))
        if len(self._pairs) < MAX_ROWS:
            self._pairs[prompt, better, worse] = line
        return None if contrary is None else _opposite_problem(line, contrary)


def leak_problem(line: int, match: tuple[int, bool]) -> Problem:
    """The warning of a validation row whose prompt is in the training file too; `match` is what `find` gave."""
    training_line, same_answer = match
    if same_answer:
        return Problem(
            line,
            "",
            "leaked_example",
            Severity.WARNING,
            f"the same example is line {training_line} of the training file, so validation says nothing about it.",
            "Keep it in one of the two files.",
        )
    return Problem(
        line,
        "",
        "leaked_prompt",
        Severity.WARNING,
        f"line {training_line} of the training file has the same prompt, with another answer.",
        "Keep the rows of one prompt in one file.",
    )


def _duplicate_problem(line: int, first: int) -> Problem:
    """The warning of a row that line `first` has already."""
    return Problem(
        line,
        "",
        "duplicate_example",
        Severity.WARNING,
        f"the row is the same as line {first}; it is learned twice as often as others.",
        "Remove it, unless that is meant.",
    )


def _contradiction_problem(line: int, first: int) -> Problem:
    """The warning of a row to whose prompt line `first` has another answer."""
    return Problem(
        line,
        "",
        "contradictory_answer",
        Severity.WARNING,
        f"line {first} gives another answer to exactly the same prompt.",
        "Keep one of them, unless several answers are meant.",
    )


def _opposite_problem(line: int, first: int) -> Problem:
    """The warning of a preference whose two outputs line `first` has the other way round."""
    return Problem(
        line,
        "",
        "contradictory_preference",
        Severity.WARNING,
        f"line {first} prefers the other one of the same two answers.",
        "Keep one of the two rows.",
    )
