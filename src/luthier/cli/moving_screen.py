"""What import-jobs shows: the plan as a table, the bar, what was brought and what was left, the same as JSON."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from luthier.cli.screen import screen, table
from luthier.moving.bring import Left, Outcome
from luthier.moving.plan import FilePlan, JobPlan, Plan


class Bar:
    """One bar over the bytes of what is brought now, with how many things are done before it."""

    def __init__(self, progress: Progress, task: TaskID, total: int) -> None:
        self._progress, self._task, self._total, self._done = progress, task, total, 0

    def begin(self, what: str, n_bytes: int | None) -> None:
        label = f"{self._done + 1}/{self._total} {_shown(what)}"
        self._progress.reset(self._task, total=n_bytes, description=label)

    def moved(self, n_bytes: int) -> None:
        self._progress.update(self._task, completed=n_bytes)

    def done(self) -> None:
        self._done += 1


@contextmanager
def bar(console: Console, planned: Plan) -> Iterator[Bar]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        total = len(planned.files_to_bring) + len(planned.jobs_to_archive) + len(planned.jobs_to_create)
        yield Bar(progress, progress.add_task("", total=None), total)


def print_plan(planned: Plan, folder: Path) -> None:
    rows = [("file", f.file.id, _shown(f.file.name), _size(f.file.bytes), _file_words(f)) for f in planned.files]
    rows += [("job", j.job.id, _shown(j.job.model), j.job.status, _job_words(j)) for j in planned.jobs]
    table(("what", "id", "name or model", "bytes or status", "plan"), rows)
    n_bytes = sum(max(f.file.bytes, 0) for f in planned.files_to_bring)
    screen.print(
        f"To do: {len(planned.files_to_bring)} files ({n_bytes} bytes), {len(planned.jobs_to_archive)} jobs to "
        f"archive under {folder}, {len(planned.jobs_to_create)} jobs to re-create.",
        highlight=False,
        markup=False,
    )


def print_outcome(outcome: Outcome, folder: Path) -> None:
    for there, here in outcome.jobs.items():
        screen.print(f"{there} is {here} here", highlight=False, markup=False)
    for left in outcome.left:
        line = f"left: {left.kind} {left.id} {_shown(left.name)}: {_shown(left.reason)}"
        screen.print(line, highlight=False, markup=False)
    line = (
        f"Brought: {len(outcome.files)} files, {len(outcome.archived)} archives in {folder}, {len(outcome.jobs)} jobs."
    )
    screen.print(line, highlight=False, markup=False)


def print_json(source: str, planned: Plan, outcome: Outcome | None, folder: Path) -> None:
    """`left` holds what cannot be brought and, after a run, what could not."""
    left = [Left("file", f.file.id, f.file.name, f.reason) for f in planned.files if f.reason]
    left += [Left("job", j.job.id, j.job.tuned_model or j.job.model, j.reason) for j in planned.jobs if j.reason]
    left += outcome.left if outcome else []
    told: dict[str, Any] = {
        "source": source,
        "results_folder": str(folder),
        "plan": {
            "files": [
                {"id": f.file.id, "filename": f.file.name, "bytes": f.file.bytes} for f in planned.files_to_bring
            ],
            "archive": [j.job.id for j in planned.jobs_to_archive],
            "jobs": [{"id": j.job.id, "model": j.model, "notes": list(j.notes)} for j in planned.jobs_to_create],
        },
        "here_already": {f.file.id: f.here for f in planned.files if f.here}
        | {j.job.id: j.here for j in planned.jobs if j.here},
        "left": [{"kind": x.kind, "id": x.id, "name": x.name, "reason": x.reason} for x in left],
    }
    if outcome is not None:
        told["brought"] = {"files": outcome.files, "archived": outcome.archived, "jobs": outcome.jobs}
    print(json.dumps(told, indent=2))


def _file_words(planned: FilePlan) -> str:
    if planned.here:
        return f"here already: {planned.here}"
    return f"left: {planned.reason}" if planned.reason else "bring"


def _job_words(planned: JobPlan) -> str:
    words = ["archive"] if planned.archive else ["archived already"]
    if planned.here:
        words.append(f"here already: {planned.here}")
    if planned.model:
        words += [f"re-create on {planned.model}", *planned.notes]
    if planned.reason:
        words.append(f"left: {planned.reason}")
    return _shown("; ".join(words))


def _size(n_bytes: int) -> str:
    return "" if n_bytes < 0 else str(n_bytes)


def _shown(text: str) -> str:
    """Text of the source without the control characters that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
