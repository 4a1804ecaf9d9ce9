"""The report on a training file: an extension, the same in every dialect."""

from typing import Literal

from msgspec import Struct

from luthier.api.dialects.answer import Unix
from luthier.core.states import Method
from luthier.data.problems.problem import Severity


class ReportedProblem(Struct, kw_only=True):
    line: int | None
    path: str
    code: str
    severity: Severity
    message: str
    fix: str


class Spread(Struct, kw_only=True):
    """How one count is distributed over the rows."""

    total: int
    median: int
    p95: int
    longest: int
    longest_line: int | None


class TokenCounts(Struct, kw_only=True):
    tokens: Spread
    supervised: Spread
    context_tokens: int
    too_long: int


class RunEstimate(Struct, kw_only=True):
    """What a job with automatic hyperparameters would take on this machine."""

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
    """Every problem of a file by line, and its statistics."""

    object: Literal["file.report"] = "file.report"
    file_id: str
    created_at: Unix
    method: Method
    model: str | None
    valid: bool
    problems: list[ReportedProblem]
    statistics: FileStatistics
