"""The doctor's report on a file, shaped for its template: a verdict, problems by kind, figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.problems import problem_groups
from luthier.data.problems.problem import Problem, Severity
from luthier.data.problems.problem_groups import ProblemGroup
from luthier.service.files import data_check
from luthier.service.files.data_check import Checked

SHOWN_GROUPS = 8
"""Kinds of problems that are open at first; the others are folded."""
SHOWN_PROBLEMS = 200
_TONES = {Severity.ERROR: "bad", Severity.WARNING: "warning"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of problem, or one problem: what people read of it. `line` is its first one; None for the file's."""

    line: int | None
    severity: str
    tone: str
    where: str
    path: str
    message: str
    fix: str
    count: int
    keys: str


@dataclass(frozen=True, slots=True)
class ReportView:
    """A report. `findings` are by kind, `lines` one by one; `n_unlisted` is how many of these are left out."""

    is_valid: bool
    tone: str
    verdict: str
    findings: tuple[Finding, ...]
    lines: tuple[Finding, ...]
    n_unlisted: int
    figures: tuple[tuple[str, str], ...]
    tokens: tuple[tuple[str, str], ...]

    @property
    def first(self) -> tuple[Finding, ...]:
        return self.findings[:SHOWN_GROUPS]

    @property
    def further(self) -> tuple[Finding, ...]:
        return self.findings[SHOWN_GROUPS:]


def of_checked(checked: Checked) -> ReportView:
    """The view of a check that was just made."""
    statistics: Any = data_check.as_dict(checked)["statistics"]
    return _view(checked.report.trainable, checked.report.problems, checked.report.groups, statistics)


def of_stored(report: Mapping[str, Any]) -> ReportView:
    """The view of a stored report; of more than a thousand problems it lists, and so groups, the first thousand."""
    problems = [Problem(**{**one, "severity": Severity(one["severity"])}) for one in report["problems"]]
    groups = problem_groups.group_problems(problems)
    groups = tuple(sorted(groups, key=lambda group: group.first.severity is Severity.WARNING))
    return _view(bool(report["valid"]), problems, groups, report["statistics"])


def _view(
    is_valid: bool, problems: Sequence[Problem], groups: Sequence[ProblemGroup], statistics: Mapping[str, Any]
) -> ReportView:
    """What both share; `statistics` is the report's as JSON values."""
    errors, warnings = statistics["errors"], statistics["warnings"]
    shown = sorted(problems, key=lambda one: (one.severity is Severity.WARNING, one.line or 0))[:SHOWN_PROBLEMS]
    return ReportView(
        is_valid=is_valid,
        tone="bad" if not is_valid else "warning" if warnings else "good",
        verdict=_verdict(is_valid, statistics),
        findings=tuple(_kind(group) for group in groups),
        lines=tuple(_single(one) for one in shown) if len(problems) > len(groups) else (),
        n_unlisted=max(0, errors + warnings - len(shown)),
        figures=tuple(_figures(statistics)),
        tokens=tuple(_tokens(statistics["tokens"])) if statistics["tokens"] else (),
    )


def _verdict(is_valid: bool, statistics: Mapping[str, Any]) -> str:
    """The verdict in a sentence, with what to do next."""
    rows, bad, warned = statistics["rows"], statistics["bad_rows"], statistics["warned_rows"]
    n_rows = f"{rows:,} row{'s' * (rows != 1)}"
    if not is_valid:
        errors = statistics["errors"]
        found = f"{errors:,} error{'s' * (errors != 1)}" if errors else "rows that no base model here can learn"
        counts = f"{found}, {bad:,} of {n_rows} affected"
        return f"Not ready to train on: {counts}. Correct them as listed here, then drop the file again."
    if statistics["warnings"]:
        return f"Ready to train on: {n_rows}, {warned:,} with warnings. Warnings stop nothing; read them once."
    return f"Ready to train on: {n_rows}, no problems."


def _kind(group: ProblemGroup) -> Finding:
    """All problems of one kind."""
    first = group.first
    keys = ", ".join(f"{key} ({count:,})" for key, count in group.keys.items())
    where = group.where[:1].upper() + group.where[1:]
    return Finding(
        first.line,
        first.severity,
        _TONES[first.severity],
        where,
        first.path,
        first.message,
        first.fix,
        group.count,
        keys,
    )


def _single(problem: Problem) -> Finding:
    """One problem of one line."""
    where = "The file" if problem.line is None else f"Line {problem.line:,}"
    return Finding(
        problem.line,
        problem.severity,
        _TONES[problem.severity],
        where,
        problem.path,
        problem.message,
        problem.fix,
        1,
        problem.key or "",
    )


def _figures(statistics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Counts over the rows."""
    scripts = ", ".join(f"{name} {count:,}" for name, count in statistics["scripts"].items())
    return [
        ("Rows", f"{statistics['rows']:,}"),
        ("Without problems", f"{statistics['good_rows']:,}"),
        ("Messages", f"{statistics['messages']:,}"),
        ("With a system message", f"{statistics['rows_with_system']:,}"),
        ("With tools", f"{statistics['rows_with_tools']:,}"),
        ("Characters a row", _spread(statistics["characters"])),
        ("Characters of an answer", _spread(statistics["answer_characters"])),
        ("Scripts of the answers", scripts or "–"),
    ]


def _tokens(tokens: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Token counts of one epoch for a base model."""
    return [
        ("Tokens an epoch", f"{tokens['tokens']['total']:,}"),
        ("of them learned", f"{tokens['supervised']['total']:,}"),
        ("Tokens a row", _spread(tokens["tokens"])),
        ("Rows too long for the model", f"{tokens['too_long']:,} (context: {tokens['context_tokens']:,} tokens)"),
    ]


def _spread(spread: Mapping[str, Any]) -> str:
    """Median and longest of a count, with the line of the longest."""
    line = spread["longest_line"]
    return f"median {spread['median']:,}, longest {spread['longest']:,}" + (f" (line {line:,})" if line else "")
