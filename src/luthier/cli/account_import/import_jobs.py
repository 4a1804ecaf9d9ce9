"""luthier import-jobs: import files, jobs and results of an OpenAI or Azure OpenAI account, or of another Luthier."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.screen import OneAsJson, Quiet, fail


def import_jobs(
    from_: Annotated[str, typer.Option("--from", help="https://api.openai.com/v1, https://NAME.openai.azure.com/ ...")],
    api_key: Annotated[
        str | None, typer.Option(help="API key of that account; better set LUTHIER_SOURCE_API_KEY.")
    ] = None,
    api_version: Annotated[
        str | None, typer.Option(help="Dated API version of Azure OpenAI (default: the v1 API).")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Address of the importing service (default: LUTHIER_URL).")] = None,
    recreate_jobs: Annotated[
        bool, typer.Option("--recreate-jobs", help="Train the account's succeeded jobs again here.")
    ] = False,
    job: Annotated[
        list[str] | None, typer.Option(help="Id of a job to train again; only its files are imported. Repeatable.")
    ] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="SOURCE-MODEL=BASE-MODEL to train on. Repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Base model for jobs whose model no --map names.")] = None,
    results_folder: Annotated[
        Path | None, typer.Option(help="Folder for one archive folder per job (default: in the data folder).")
    ] = None,
    state_file: Annotated[
        Path | None, typer.Option("--state", help="File that records what was imported (default: in the data folder).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and exit.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Import files, jobs and results from an OpenAI or Azure OpenAI account or another Luthier.

    Only reads from that account. With --recreate-jobs or --job, its jobs are trained again here. --json needs --yes or
    --dry-run.
    """
    if json_ and not (yes or dry_run):
        fail("--json cannot ask for confirmation: give --yes or --dry-run with it.", code="usage")
    from luthier.account_import.import_plan import ImportOptions
    from luthier.cli.account_import import import_account

    with import_account.errors_as_lines():
        options = ImportOptions(recreate_jobs, frozenset(job or ()), import_account.model_map(map_ or ()), model)
        source = import_account.Source(from_, api_key, api_version)
        result = import_account.Result(results_folder, state_file, json_, quiet)
        import_account.run(source, to, options, result, dry_run=dry_run, yes=yes)
