"""What only shows when the rows of a file are seen together: repeats, strays, secrets, and the file in numbers.

Rows are not kept: hashes, lengths and counts are, about 150 bytes a row.
"""

from luthier.data import repeats, secrets, statistics, views
from luthier.data.messages import Example
from luthier.data.preferences import Preference
from luthier.data.problem import Problem
from luthier.data.repeats import Prompts
from luthier.data.scripts import Scripts
from luthier.data.statistics import Lengths, Statistics
from luthier.data.system_prompts import SystemPrompts


class WholeSet:
    """A validate.Watcher. `training` are the prompts of the training file, where the rows are those for validation."""

    def __init__(self, training: Prompts | None = None) -> None:
        self.prompts = Prompts()
        self._training = training
        self._systems = SystemPrompts()
        self._scripts = Scripts()
        self._lengths = Lengths()
        self._answers = Lengths()
        self._messages = self._with_system = self._with_tools = self._rows = 0

    def add(self, line: int, raw: bytes, example: Example | Preference) -> list[Problem]:
        """Notes a row and tells what it repeats, and what in it had better not be learned."""
        view = views.of(example, raw)
        found = secrets.problems(line, raw, view)
        repeated = self.prompts.add(line, view)
        if repeated is not None:
            found.append(repeated)
        if self._training is not None and (known := self._training.find(view)) is not None:
            found.append(repeats.leak(line, known))
        system, answer = view.system, view.answer_characters
        self._systems.add(line, system)
        self._scripts.add(line, view.answer[0].content)
        self._lengths.add(line, view.prompt_characters + answer)
        self._answers.add(line, answer)
        self._rows += 1
        self._messages += len(view.prompt) + len(view.answer) + len(view.rejected)
        self._with_system += system is not None
        self._with_tools += bool(view.tools)
        return found

    def finish(self) -> list[Problem]:
        """What the rows together have, once all were added."""
        uneven = statistics.uneven(self._lengths.spread(), self._rows, "characters")
        return [*self._systems.problems(), *self._scripts.problems(), *([] if uneven is None else [uneven])]

    def statistics(self) -> Statistics:
        return Statistics(
            messages=self._messages,
            characters=self._lengths.spread(),
            answer_characters=self._answers.spread(),
            rows_with_system=self._with_system,
            rows_with_tools=self._with_tools,
            scripts=self._scripts.counts(),
        )
