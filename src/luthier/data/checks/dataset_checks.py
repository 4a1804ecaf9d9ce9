"""Checks over all rows of a file: duplicates, outliers, secrets, and the file's statistics.

Rows are not kept: hashes, lengths and counts are, about 150 bytes a row, 250 of a row whose prompt came before, and
400 of a preference pair.
"""

from luthier.data.checks import duplicates, participant_names, row_text, secret_scan, statistics
from luthier.data.checks.duplicates import PromptIndex
from luthier.data.checks.special_tokens import SpecialTokens
from luthier.data.checks.statistics import DatasetStatistics, LengthCounter
from luthier.data.checks.system_prompts import SystemPrompts
from luthier.data.checks.writing_systems import Scripts
from luthier.data.problems.problem import Problem
from luthier.data.rows.preference import Preference
from luthier.data.rows.supervised import Example


class DatasetChecks:
    """A validate.RowObserver for one file: warnings on its rows, and on what only shows over all of them.

    `training` are the prompts of the training file, where the rows are those for validation. `shows_names` is whether
    the base model's template shows names of participants, None if no base model is known; `special` knows its control
    tokens. `prompts` are this file's own, for the check of a validation file.
    """

    def __init__(
        self,
        training: PromptIndex | None = None,
        shows_names: bool | None = None,
        special: SpecialTokens | None = None,
    ) -> None:
        self.prompts = PromptIndex()
        self._shows_names = shows_names
        self._special = special or SpecialTokens()
        self._training = training
        self._systems = SystemPrompts()
        self._scripts = Scripts()
        self._lengths = LengthCounter()
        self._answers = LengthCounter()
        self._messages = self._with_system = self._with_tools = self._rows = 0

    def add(self, line: int, raw: bytes, example: Example | Preference) -> list[Problem]:
        """Counts a valid row, whose line is `raw`; returns its warnings.

        They are of secrets, control tokens and names in it, and of rows of this or the training file that it repeats.
        """
        view = row_text.extract(example, raw)
        problems = secret_scan.problems(line, raw, view)
        problems += self._special.problems(line, raw, view)
        name_problem = participant_names.name_problem(line, raw, view, self._shows_names)
        if name_problem is not None:
            problems.append(name_problem)
        duplicate = self.prompts.add(line, view)
        if duplicate is not None:
            problems.append(duplicate)
        if self._training is not None and (training_match := self._training.find(view)) is not None:
            problems.append(duplicates.leak_problem(line, training_match))
        system, answer = view.system, view.answer_characters
        self._systems.add(line, system)
        self._scripts.add(line, view.answer[0].content)
        self._lengths.add(line, view.prompt_characters + answer)
        self._answers.add(line, answer)
        self._rows += 1
        self._messages += len(view.prompt) + len(view.answer) + len(view.rejected)
        self._with_system += system is not None
        self._with_tools += bool(view.tools)
        return problems

    def finish(self) -> list[Problem]:
        """The warnings that all rows together have: odd system prompts, stray scripts, an outlier in length."""
        uneven = statistics.uneven_lengths(self._lengths.distribution(), self._rows, "characters")
        return [*self._systems.problems(), *self._scripts.problems(), *([] if uneven is None else [uneven])]

    def statistics(self) -> DatasetStatistics:
        """The counts of all rows that were added."""
        return DatasetStatistics(
            messages=self._messages,
            characters=self._lengths.distribution(),
            answer_characters=self._answers.distribution(),
            rows_with_system=self._with_system,
            rows_with_tools=self._with_tools,
            scripts=self._scripts.counts(),
        )
