"""luthier reproduce: train a finished job again, in a temporary run directory, and compare the bytes."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.completion import candidates
from luthier.cli.screen import OneAsJson, Quiet, errors, fail, present, screen, table
from luthier.core.errors import LuthierError

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.run_directory.run_directory import RunDirectory
    from luthier.service.jobs.reproduce import Comparison, Recorded


def reproduce(
    target: Annotated[
        str,
        typer.Argument(
            metavar="JOB|DIR", help="Job id, or run directory of `luthier train`.", autocompletion=candidates.jobs
        ),
    ],
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the service (for a job).")] = None,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a finished job again and compare the bytes.

    Exit code 0 if every kept checkpoint and results.csv have the same hashes. The number of threads is that of the
    job, since it affects rounding. Only reads from the data folder, so the service may run.
    """
    from luthier.cli.training import follow, local_executor
    from luthier.run_directory.run_directory import RunDirectory
    from luthier.run_directory.run_events import Failed
    from luthier.service.jobs import reproduce as again

    with tempfile.TemporaryDirectory(prefix="luthier-reproduce-") as folder:
        run = RunDirectory(Path(folder))
        kept = _prepared(target, data_dir, run)
        try:
            verdict = follow.train(local_executor.patient_executor(), run, errors)
        except KeyboardInterrupt:
            verdict = None
        if verdict is None:
            fail("The training stopped early; nothing was compared.")
        if isinstance(verdict, Failed):
            fail(verdict.message)
        compared = again.compare(kept, run)
    present(_as_dict(compared), [], lambda: _print(compared), json_, quiet)
    if not compared.equal:
        raise typer.Exit(1)


def _prepared(target: str, data_dir: Path | None, run: "RunDirectory") -> "Recorded":
    """What is recorded of a job or a run directory; writes the same inputs and spec into `run`, to train it again. Ends
    the command with exit code 1 if the job did not succeed, or an input was deleted or differs.
    """
    from luthier import data_folder
    from luthier.run_directory.run_directory import RunDirectory
    from luthier.service.jobs import reproduce as again
    from luthier.service.tenants.keys import DEFAULT_RESOURCE
    from luthier.settings import Settings

    options: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    settings = Settings(**options)
    try:
        if Path(target).is_dir():
            return again.from_directory(RunDirectory(Path(target).absolute()), settings.models_folder.absolute(), run)
        with data_folder.open_data(settings) as context:
            return again.from_job(context, DEFAULT_RESOURCE.id, target, run)
    except LuthierError as error:
        fail(error.message, code=error.code, param=error.param)
    except (ValueError, OSError) as error:
        fail(f"Cannot reproduce {target}: {error}")


def _as_dict(compared: "Comparison") -> dict[str, object]:
    """The comparison as a JSON object."""
    outcomes = [
        {"outcome": name, "then": then, "now": now, "equal": then == now} for name, then, now in compared.outcomes
    ]
    differences = [{"what": what, "then": then, "now": now} for what, then, now in compared.differing]
    return {"equal": compared.equal, "outcomes": outcomes, "differences": differences}


def _print(compared: "Comparison") -> None:
    """Prints the hashes then and now and, if they differ, what else differs between the two runs."""
    table(
        ("outcome", "then", "now", ""),
        [(name, then, now, "equal" if then == now else "differs") for name, then, now in compared.outcomes],
    )
    if compared.equal:
        screen.print("Every byte is the same.")
        return
    if not compared.differing:
        screen.print("Inputs, versions, hardware and threads are the same; the bytes are not.")
        return
    screen.print("Differences that may be the cause:")
    table(("what", "then", "now"), compared.differing)
