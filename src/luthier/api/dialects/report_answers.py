"""The report on a training file: an extension, the same in every dialect.

The types only describe it, for the OpenAPI document: the report is stored and sent as JSON (`data_reports.py`).
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from luthier.api.dialects.answer import Unix
from luthier.core.states import Method
from luthier.data.problems.problem import Severity


class ReportedProblem(Struct, kw_only=True):
    """One finding in a file: its line from 1 (null: the file itself), the path within the row, and how to mend it.

    `key`, a key of the row's own that the finding is about, is left out if there is none.
    """

    line: int | None
    path: str
    code: str
    severity: Severity
    message: str
    fix: str
    key: str | UnsetType = UNSET


class Spread(Struct, kw_only=True):
    """How one count is distributed over the rows: sum, median, 95th percentile, and the longest row with its line."""

    total: int
    median: int
    p95: int
    longest: int
    longest_line: int | None


class TokenCounts(Struct, kw_only=True):
    """Tokens of the rows that fit `context_tokens`, the learned (`supervised`) ones, and how many rows are too long."""

    tokens: Spread
    supervised: Spread
    context_tokens: int
    too_long: int


class RunEstimate(Struct, kw_only=True):
    """What a job with automatic hyperparameters would take on this machine; null where it cannot be estimated.

    `trained_tokens` counts every epoch, `seconds` the trainer from start to end; `basis` says how they were estimated.
    """

    n_epochs: int
    batch_size: int
    n_steps: int
    trained_tokens: int
    supervised_tokens: int
    learning_rate_multiplier: float
    peak_memory_bytes: int | None
    seconds: float | None
    price: float | None
    basis: str | None
    currency: str | None


class FileStatistics(Struct, kw_only=True):
    """Counts over the rows of a file. `tokens` and `run` are null without the base model that they depend on.

    `scripts` counts rows by the script of their answers, such as Latin.
    """

    rows: int
    good_rows: int
    warned_rows: int
    bad_rows: int
    errors: int
    warnings: int
    messages: int
    rows_with_system: int
    rows_with_tools: int
    characters: Spread
    answer_characters: Spread
    scripts: dict[str, int]
    tokens: TokenCounts | None
    run: RunEstimate | None


class FileReport(Struct, kw_only=True):
    """Every problem of a file by line, and its statistics; `valid` is whether a job can be trained on it."""

    object: Literal["file.report"] = "file.report"
    file_id: str
    created_at: Unix
    method: Method
    model: str | None
    valid: bool
    problems: list[ReportedProblem]
    statistics: FileStatistics
