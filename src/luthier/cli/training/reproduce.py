"""luthier reproduce: train a finished job again, in a temporary run directory, and compare the bytes."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.screen import errors, fail, screen, table
from luthier.core.errors import LuthierError

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.run_directory.run_directory import RunDirectory
    from luthier.service.jobs.reproduce import Comparison, Recorded


def reproduce(
    target: Annotated[str, typer.Argument(metavar="JOB|DIR", help="Job id, or run directory of `luthier train`.")],
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the service (for a job).")] = None,
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
    _print(compared)
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
        fail(error.message)
    except (ValueError, OSError) as error:
        fail(f"Cannot reproduce {target}: {error}")


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
