"""What luthier import-jobs does: reads the account, shows the plan, asks, imports, reports. A module of its own, so
that the command's help need not import the SDK and `account_import`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import openai
import typer

from luthier.account_import import (
    account_address,
    destination,
    import_plan,
    import_state,
    importer,
    job_archive,
    source_account,
)
from luthier.account_import.account_address import Address
from luthier.account_import.destination import Inventory
from luthier.account_import.import_plan import ImportOptions, Plan
from luthier.account_import.importer import ImportRun, Outcome
from luthier.cli import client, service_address
from luthier.cli.account_import import import_screen
from luthier.cli.screen import confirm, errors, fail, say, waiting
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.process import private_folder
from luthier.settings import Settings

CONTINUE = "Run the same command again to continue: nothing is imported twice."


@dataclass(frozen=True, slots=True)
class Source:
    """The account to import from, as given on the command line. Without `api_key` a variable has it; `api_version` is
    None for the v1 API.
    """

    url: str
    api_key: str | None = field(repr=False)
    api_version: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """Where the archives and the state go (None: the data folder), and whether the report is JSON, or ids alone."""

    folder: Path | None
    state_file: Path | None
    as_json: bool
    is_quiet: bool


def run(source: Source, to: str | None, options: ImportOptions, result: Result, *, dry_run: bool, yes: bool) -> None:
    """Imports an account, or only shows the plan: files and jobs are created at `to`, archives and the state file
    written here. The account is only read.

    Ends with exit code 1 if something could not be imported. Raises LuthierError and OSError, which `errors_as_lines`
    words.
    """
    address = account_address.parse(source.url, source.api_version)
    target = _target(to, source.url)
    key = _key(address, source.api_key)
    folder, state_path = _paths(address, target, result)
    with (
        client.connected(target) as api,
        source_account.opened(address, key) as account,
        import_state.held(state_path.absolute(), address.host, target) as state,
    ):
        with waiting(f"reading {address.host}"):
            inventory = destination.inventory(api, address.host)
            archived = job_archive.archived_jobs(folder)
            plan = import_plan.make_plan(importer.read_account(account), inventory, state, options, archived)
        if not (result.as_json or result.is_quiet):
            import_screen.print_plan(plan, folder)
        if dry_run or not _is_confirmed(plan, yes):
            _report(result, address.host, plan, None, folder)
            return
        with import_screen.bar(plan) as watcher:
            import_run = ImportRun(account, api, state, state_path.absolute(), folder.absolute(), watcher)
            outcome = _import(import_run, plan, inventory)
        _report(result, address.host, plan, outcome, folder)
    if outcome.skipped:
        raise typer.Exit(1)


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """Ends a failed import with one line and exit code 1; what was imported until then stays, at the service and in the
    state file.
    """
    try:
        yield
    except LuthierError as error:
        fail(error.message, code=error.code, param=error.param)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")


def model_map(pairs: Sequence[str]) -> dict[str, str]:
    """Base model by the account's model, from texts SOURCE-MODEL=BASE-MODEL. Raises InvalidRequest for
    any other text.
    """
    parts = [pair.partition("=") for pair in pairs]
    for source_model, sign, base_model in parts:
        if not (source_model and sign and base_model):
            raise InvalidRequest("invalid_map", "--map must be SOURCE-MODEL=BASE-MODEL.", "map")
    return {source_model: base_model for source_model, _, base_model in parts}


def _target(to: str | None, source_url: str) -> str:
    """The address of the service to import into, from `to` or LUTHIER_URL; a vendor's AZURE_OPENAI_ENDPOINT is never
    used, since the target is written to. Raises InvalidRequest if it is the account's own address.
    """
    target = service_address.url() if to is None else service_address.normalized(to)
    if account_address.origin(target) == account_address.origin(source_url):
        raise InvalidRequest(
            "source_is_target",
            f"{source_url} is also the service to import into. Give another one by --to or LUTHIER_URL.",
            "to",
        )
    return target


def _key(address: Address, api_key: str | None) -> str:
    """The account's API key, from the option or the first variable that is set. Raises InvalidRequest without one."""
    key = api_key or next((value for name in address.key_variables if (value := os.environ.get(name))), None)
    if not key:
        raise InvalidRequest(
            "no_source_key",
            f"No API key for {address.host}: set {' or '.join(address.key_variables)}, or give --api-key.",
            "api_key",
        )
    return key


def _paths(address: Address, target: str, result: Result) -> tuple[Path, Path]:
    """The folder of the job archives and the state file. Without both of them named, creates `moving` in the data
    folder, private to its owner.
    """
    _, host, port = account_address.origin(target)
    default = Settings().data_dir / "moving" / f"{address.host.replace(':', '-')}--{host}-{port}"
    if result.folder is None or result.state_file is None:
        private_folder.create(default.parent)
    return result.folder or default, result.state_file or default.with_name(f"{default.name}.json")


def _is_confirmed(plan: Plan, yes: bool) -> bool:
    """Whether the plan is to be carried out: by --yes or the user's answer, for which it asks on the terminal. An empty
    plan is not asked about: without --yes it is not carried out.
    """
    if plan.is_empty:
        return yes  # nothing is left to import, but the state still records what the service has already
    return yes or confirm("Continue?")


def _import(import_run: ImportRun, plan: Plan, inventory: Inventory) -> Outcome:
    """Carries out the plan; tells the user how to continue, and raises again, if it is interrupted or fails."""
    try:
        return importer.run(import_run, plan, inventory)
    except (LuthierError, openai.APIError, httpx2.HTTPError, OSError, KeyboardInterrupt):
        errors.print(CONTINUE, highlight=False)
        raise


def _report(result: Result, source_host: str, plan: Plan, outcome: Outcome | None, folder: Path) -> None:
    """Prints the outcome, None for a plan that was not carried out: as one JSON object, as new ids, or as lines."""
    if result.as_json:
        import_screen.print_json(source_host, plan, outcome, folder)
    elif result.is_quiet:
        for id in [] if outcome is None else [*outcome.files.values(), *outcome.jobs.values()]:
            say(id)
    elif outcome is not None:
        import_screen.print_outcome(outcome, folder)
    else:
        say("Nothing was imported.")
