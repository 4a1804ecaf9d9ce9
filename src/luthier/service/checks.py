"""A data file checked in full: its rows, what shows in all of them together, and their tokens for a base model."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from luthier.catalog import Ability, BaseModelEntry
from luthier.core.states import Method
from luthier.data import validate
from luthier.data.problem import Problem, Severity
from luthier.data.repeats import Prompts
from luthier.data.statistics import Statistics
from luthier.data.token_counts import TokenCounter, TokenStatistics
from luthier.data.validate import Report, Watcher
from luthier.data.whole_set import WholeSet
from luthier.quick_tokenizer import QuickTokenizer

_LOADED = 4
"""Tokenizers that are kept, of some ten megabytes each."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a file is held against. Without a base model every ability is granted and no token is counted.

    `base_folder` is that of the prepared base model; None where it is not on this machine. Without `counts_all` only
    rows are tokenized that might not fit into the model's context: a file of any size then takes little longer.
    """

    method: Method = Method.SUPERVISED
    base: BaseModelEntry | None = None
    base_folder: Path | None = None
    counts_all: bool = True

    @property
    def abilities(self) -> frozenset[Ability] | None:
        return None if self.base is None else self.base.abilities


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of one file; `tokens` is None where the base model is not on this machine, or none was named."""

    report: Report
    statistics: Statistics
    tokens: TokenStatistics | None
    prompts: Prompts


def check_training(chunks: Iterable[bytes], rules: Rules) -> Checked:
    return _check(chunks, rules, validate.MIN_TRAINING_EXAMPLES, None)


def check_validation(chunks: Iterable[bytes], rules: Rules, training: Checked | None) -> Checked:
    """The same for a validation file, rows that the training file has included."""
    return _check(chunks, rules, validate.MIN_VALIDATION_EXAMPLES, None if training is None else training.prompts)


def check_alone(chunks: Iterable[bytes], rules: Rules) -> Checked:
    """A file of which nobody has said yet whether it is for training or for validation."""
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
    return replace(checked, report=replace(report, problems=(few, *report.problems), n_warnings=report.n_warnings + 1))


def as_dict(checked: Checked, run: object = None) -> dict[str, object]:
    """The whole report for programs: problems and statistics, plain JSON values; `run` is what a run comes to."""
    report, tokens = checked.report, checked.tokens
    counts = {
        "rows": report.n_rows,
        "good_rows": report.n_rows - report.bad_rows - report.warned_rows,
        "warned_rows": report.warned_rows,
        "bad_rows": report.bad_rows,
        "errors": report.n_errors,
        "warnings": report.n_warnings,
    }
    return {
        "problems": [asdict(problem) for problem in report.problems],
        "statistics": counts
        | asdict(checked.statistics)
        | {"tokens": None if tokens is None else asdict(tokens), "run": run},
    }


def few_words(report: Report, most: int) -> list[str]:
    """The first problems as lines of text, errors before warnings, and how many more there are."""
    ordered: list[Problem] = sorted(report.problems, key=lambda problem: problem.severity is Severity.WARNING)
    shown = [f"- {problem.sentence()}" for problem in ordered[:most]]
    more = report.n_errors + report.n_warnings - len(shown)
    return [*shown, f"and {more:,} more."] if more else shown


def _check(chunks: Iterable[bytes], rules: Rules, min_examples: int, training: Prompts | None) -> Checked:
    whole = WholeSet(training)
    tokenizer = None if rules.base_folder is None else load_tokenizer(rules.base_folder)
    counter = None
    if tokenizer is not None and rules.base is not None:
        counter = TokenCounter(tokenizer, rules.base.context_tokens, only_long=not rules.counts_all)
    watchers: list[Watcher] = [whole] if counter is None else [whole, counter]
    report = validate.check_file(chunks, rules.abilities, min_examples, rules.method, watchers)
    tokens = counter.statistics() if counter is not None and rules.counts_all else None
    return Checked(report, whole.statistics(), tokens, whole.prompts)


def load_tokenizer(base_folder: Path) -> QuickTokenizer | None:
    """The tokenizer of a prepared base model; None where there is none that can be read without torch."""
    folder = base_folder / "hf"
    return _loaded(folder) if (folder / "tokenizer.json").exists() else None


@lru_cache(maxsize=_LOADED)
def _loaded(folder: Path) -> QuickTokenizer:
    return QuickTokenizer(folder)
