"""luthier reproduce: train a finished job again and compare the bytes."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.screen import errors, fail, screen, table
from luthier.core.errors import LuthierError

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.run_directory import RunDirectory
    from luthier.service.reproduce import Comparison, Kept


def reproduce(
    target: Annotated[str, typer.Argument(metavar="JOB|DIR", help="A job's id, or a folder of `luthier train --out`.")],
    data_dir: Annotated[Path | None, typer.Option(help="The service's data folder, for a job.")] = None,
) -> None:
    """Train again from the stored spec; equal hashes of every kept checkpoint and of results.csv give status 0.

    Works beside a running service, which it only reads from. The threads are those of then, for they decide over bits.
    """
    from luthier import app
    from luthier.cli import follow
    from luthier.run_directory import Failed, RunDirectory
    from luthier.service import reproduce as again

    with tempfile.TemporaryDirectory(prefix="luthier-reproduce-") as folder:
        run = RunDirectory(Path(folder))
        kept = _prepared(target, data_dir, run)
        try:
            verdict = follow.train(app.patient_executor(), run, errors)
        except KeyboardInterrupt:
            verdict = None
        if verdict is None:
            fail("The training ended before its end; nothing was compared.")
        if isinstance(verdict, Failed):
            fail(verdict.message)
        compared = again.compare(kept, run)
    _print(compared)
    if not compared.equal:
        raise typer.Exit(1)


def _prepared(target: str, data_dir: Path | None, run: "RunDirectory") -> "Kept":
    """What is kept of a job or a run directory, which `run` is now ready to train again."""
    from luthier import app
    from luthier.run_directory import RunDirectory
    from luthier.service import reproduce as again
    from luthier.service.keys import DEFAULT_RESOURCE
    from luthier.settings import Settings

    given: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    try:
        settings = Settings(**given)
        if Path(target).is_dir():
            return again.from_directory(RunDirectory(Path(target).absolute()), settings.models_folder.absolute(), run)
        with app.open_data(settings) as context:
            return again.from_job(context, DEFAULT_RESOURCE.id, target, run)
    except LuthierError as error:
        fail(error.message)
    except (ValueError, OSError) as error:
        fail(f"Cannot reproduce {target}: {error}")


def _print(compared: "Comparison") -> None:
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
    screen.print("What was not the same, and may be why:")
    table(("what", "then", "now"), compared.differing)
