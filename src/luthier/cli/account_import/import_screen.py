"""Output of import-jobs: the plan, a progress bar, the outcome; as text or JSON. Names from the account are escaped."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from luthier.account_import.import_plan import FilePlan, JobPlan, Plan
from luthier.account_import.importer import Outcome, Skipped
from luthier.cli import screen as terminal
from luthier.cli.screen import screen, table
from luthier.process import printable


class Bar:
    """One bar over the bytes of the current import, with the number of imports done: the importer's Watcher."""

    def __init__(self, progress: Progress, task: TaskID, total: int) -> None:
        self._progress, self._task, self._total, self._done = progress, task, total, 0

    def begin(self, what: str, n_bytes: int | None) -> None:
        """The next file or job begins: resets the bar; `n_bytes` is None if its size is not known."""
        label = f"{self._done + 1}/{self._total} {printable.escape_line(what)}"
        self._progress.reset(self._task, total=n_bytes, description=label)

    def progress(self, n_bytes: int) -> None:
        """Sets how many bytes of the current import have been moved so far, not how many more."""
        self._progress.update(self._task, completed=n_bytes)

    def done(self) -> None:
        """Counts the current import as done; only the next `begin` shows it."""
        self._done += 1


@contextmanager
def bar(planned: Plan) -> Iterator[Bar]:
    """A bar for the imports of the plan, drawn on stderr for the block and removed after it; only in a terminal."""
    with terminal.bytes_progress(transient=True) as progress:
        total = len(planned.files_to_import) + len(planned.jobs_to_archive) + len(planned.jobs_to_create)
        yield Bar(progress, progress.add_task("", total=None), total)


def print_plan(planned: Plan, folder: Path) -> None:
    """Prints a row per file and job with what will be done, and one line of totals."""
    rows = [("file", f.file.id, f.file.name, _size(f.file.bytes), _file_words(f)) for f in planned.files]
    rows += [("job", j.job.id, j.job.model, j.job.status, _job_words(j)) for j in planned.jobs]
    table(("what", "id", "name or model", "bytes or status", "plan"), rows)
    n_bytes = sum(max(f.file.bytes, 0) for f in planned.files_to_import)
    screen.print(
        f"To import: {len(planned.files_to_import)} files ({n_bytes} bytes), {len(planned.jobs_to_archive)} jobs to "
        f"archive in {folder}, {len(planned.jobs_to_create)} jobs to train again.",
        highlight=False,
        markup=False,
    )


def print_outcome(outcome: Outcome, folder: Path) -> None:
    """Prints which jobs are trained again, a line for each import that failed, and totals."""
    for there, here in outcome.jobs.items():
        screen.print(f"{there} is trained again as {here}", highlight=False, markup=False)
    for left in outcome.skipped:
        name, reason = printable.escape_line(left.name), printable.escape_line(left.reason)
        line = f"not imported: {left.kind} {left.id} {name}: {reason}"
        screen.print(line, highlight=False, markup=False)
    line = (
        f"Imported: {len(outcome.files)} files, {len(outcome.archived)} archives in {folder}, {len(outcome.jobs)} jobs."
    )
    screen.print(line, highlight=False, markup=False)


def print_json(source: str, planned: Plan, outcome: Outcome | None, folder: Path) -> None:
    """Prints one JSON object on stdout: the plan, and if it was carried out (`outcome` is not None) what was imported.
    `left` holds what cannot be imported and, after a run, what failed.
    """
    left = [Skipped("file", f.file.id, f.file.name, f.reason) for f in planned.files if f.reason]
    left += [
        Skipped("job", j.job.id, j.job.fine_tuned_model or j.job.model, j.reason) for j in planned.jobs if j.reason
    ]
    left += outcome.skipped if outcome else []
    report: dict[str, Any] = {
        "source": source,
        "results_folder": str(folder),
        "plan": {
            "files": [
                {"id": f.file.id, "filename": f.file.name, "bytes": f.file.bytes} for f in planned.files_to_import
            ],
            "archive": [j.job.id for j in planned.jobs_to_archive],
            "jobs": [{"id": j.job.id, "model": j.model, "notes": list(j.notes)} for j in planned.jobs_to_create],
        },
        "here_already": {f.file.id: f.target_id for f in planned.files if f.target_id}
        | {j.job.id: j.target_id for j in planned.jobs if j.target_id},
        "left": [{"kind": x.kind, "id": x.id, "name": x.name, "reason": x.reason} for x in left],
    }
    if outcome is not None:
        report["imported"] = {"files": outcome.files, "archived": outcome.archived, "jobs": outcome.jobs}
    terminal.print_json(report)


def _file_words(planned: FilePlan) -> str:
    """What will be done with the file, in words."""
    if planned.target_id:
        return f"imported already: {planned.target_id}"
    return f"skip: {planned.reason}" if planned.reason else "import"


def _job_words(planned: JobPlan) -> str:
    """What will be done with the job, in words, control characters escaped."""
    words = ["archive"] if planned.archive else ["archived already"]
    if planned.target_id:
        words.append(f"trained already: {planned.target_id}")
    if planned.model:
        words += [f"train again on {planned.model}", *planned.notes]
    if planned.reason:
        words.append(f"skip: {planned.reason}")
    return printable.escape_line("; ".join(words))


def _size(n_bytes: int) -> str:
    """The size in bytes as text; empty where it is not known, which is below 0."""
    return "" if n_bytes < 0 else str(n_bytes)
