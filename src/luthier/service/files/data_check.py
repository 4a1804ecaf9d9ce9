"""The complete check of a data file: its rows, the data set as a whole, and its tokens for a base model.

The same for uploads, jobs, `luthier train` and `luthier check`. What is wrong with a file is in the result, not raised.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from luthier.catalog import BaseModelEntry
from luthier.core.states import Ability, Method
from luthier.data.checks import participant_names, validate
from luthier.data.checks.dataset_checks import DatasetChecks
from luthier.data.checks.duplicates import PromptIndex
from luthier.data.checks.special_tokens import SpecialTokens
from luthier.data.checks.statistics import DatasetStatistics
from luthier.data.checks.token_counts import TokenCounter, TokenStatistics
from luthier.data.checks.validate import Report, RowObserver
from luthier.data.problems import problem_groups
from luthier.data.problems.problem import Problem, Severity
from luthier.data.problems.problem_groups import ProblemGroup
from luthier.data.rendering.renderer import Renderer
from luthier.tokenization import base_tokenizers


@dataclass(frozen=True, slots=True)
class Rules:
    """What a file is checked against. Without a base model every ability is allowed and no token is counted.

    `base_folder` is that of the prepared base model; None if it is not on this machine. Without `counts_all` only rows
    that might not fit into the model's context are tokenized, which costs little for a file of any size.
    """

    method: Method = Method.SUPERVISED
    base: BaseModelEntry | None = None
    base_folder: Path | None = None
    counts_all: bool = True

    @property
    def abilities(self) -> frozenset[Ability] | None:
        """What rows may use (tools, ...); None: everything, as no base model is named."""
        return None if self.base is None else self.base.abilities


@dataclass(frozen=True, slots=True)
class Checked:
    """The results for one file; `tokens` is None unless all tokens were counted: the base model is named and on this
    machine, and the rules ask for it. `prompts` are hashes, to find the rows of this file in another one.
    """

    report: Report
    statistics: DatasetStatistics
    tokens: TokenStatistics | None
    prompts: PromptIndex


def check_training(chunks: Iterable[bytes], rules: Rules) -> Checked:
    """Checks a training file, whose chunks are read to the end: too few examples for training are an error."""
    return _check(chunks, rules, validate.MIN_TRAINING_EXAMPLES, None)


def check_validation(chunks: Iterable[bytes], rules: Rules, training: Checked | None) -> Checked:
    """The same for a validation file, of which one example is enough.

    Rows that are also in the training file are warnings; without `training` they are not looked for.
    """
    return _check(chunks, rules, validate.MIN_VALIDATION_EXAMPLES, None if training is None else training.prompts)


def check_unassigned(chunks: Iterable[bytes], rules: Rules) -> Checked:
    """Checks a file that may be for training or for validation: too few rows for training are a warning."""
    checked = _check(chunks, rules, validate.MIN_VALIDATION_EXAMPLES, None)
    if not 0 < checked.report.n_rows < validate.MIN_TRAINING_EXAMPLES:
        return checked
    few = Problem(
        None,
        "",
        "too_few_to_train",
        Severity.WARNING,
        f"the file has {checked.report.n_rows} rows; training needs at least {validate.MIN_TRAINING_EXAMPLES}.",
        "Add examples, unless it is for validation.",
    )
    report = checked.report
    added = replace(
        report,
        problems=(few, *report.problems),
        n_warnings=report.n_warnings + 1,
        groups=(*report.groups, *problem_groups.group_problems([few])),
    )
    return replace(checked, report=added)


def as_dict(checked: Checked, run: object = None) -> dict[str, object]:
    """The report as JSON values: problems and statistics; `run` is the estimate of a run, None if there is none."""
    report, tokens = checked.report, checked.tokens
    counts = {
        "rows": report.n_rows,
        "good_rows": report.good_rows,
        "warned_rows": report.warned_rows,
        "bad_rows": report.bad_rows,
        "errors": report.n_errors,
        "warnings": report.n_warnings,
    }
    return {
        "problems": [_as_dict(problem) for problem in report.problems],
        "statistics": counts
        | asdict(checked.statistics)
        | {"tokens": None if tokens is None else asdict(tokens), "run": run},
    }


def summary_lines(groups: Sequence[ProblemGroup], limit: int, reference: str = "") -> list[str]:
    """The first `limit` kinds of problems as lines of text, and a last line that counts the problems of other kinds,
    with `reference` (where to read them) behind it.
    """
    shown = [f"- {group.sentence()}" for group in groups[:limit]]
    more = sum(group.count for group in groups[limit:])
    return [*shown, f"and {more:,} more of other kinds{reference}."] if more else shown


def _as_dict(problem: Problem) -> dict[str, object]:
    """A problem as JSON values; `key`, a key of the row's own, only if the problem has one."""
    fields = asdict(problem)
    if problem.key is None:
        del fields["key"]
    return fields


def _check(chunks: Iterable[bytes], rules: Rules, min_examples: int, training: PromptIndex | None) -> Checked:
    """What the three checks share. `training` indexes the prompts of the training file; None: no comparison."""
    tokenizer = None if rules.base_folder is None else base_tokenizers.load_tokenizer(rules.base_folder)
    special = None if tokenizer is None else SpecialTokens(tokenizer.controls.texts, tokenizer.end_texts)
    shows_names = (
        None if tokenizer is None else participant_names.template_shows_names(Renderer(tokenizer, sys.maxsize))
    )
    data_set = DatasetChecks(training, shows_names, special)
    counter = None
    if tokenizer is not None and rules.base is not None:
        counter = TokenCounter(tokenizer, rules.base.context_tokens, only_long=not rules.counts_all)
    observers: list[RowObserver] = [data_set] if counter is None else [data_set, counter]
    report = validate.check_file(chunks, rules.abilities, min_examples, rules.method, observers)
    tokens = counter.statistics() if counter is not None and rules.counts_all else None
    return Checked(report, data_set.statistics(), tokens, data_set.prompts)
