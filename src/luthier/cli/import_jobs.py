"""luthier import-jobs: bring files, jobs and results of an OpenAI or Azure OpenAI account, or of another Luthier."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx2
import openai
import typer

from luthier.cli import client, moving_screen
from luthier.cli.screen import errors, fail, screen
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.moving import addresses, archive, bring, here, plan, source, state
from luthier.moving.addresses import Address
from luthier.moving.bring import Move, Outcome
from luthier.moving.here import Inventory
from luthier.moving.plan import Plan, Wishes
from luthier.settings import Settings

GO_ON = "Run the same command again to go on: nothing is brought twice."


def import_jobs(
    from_: Annotated[str, typer.Option("--from", help="https://api.openai.com/v1, https://NAME.openai.azure.com/ ...")],
    api_key: Annotated[str | None, typer.Option(help="That account's key; better in LUTHIER_SOURCE_API_KEY.")] = None,
    api_version: Annotated[str | None, typer.Option(help="Azure's dated API version, where v1 is not wanted.")] = None,
    to: Annotated[str | None, typer.Option(help="The service to bring it to; left out: LUTHIER_URL.")] = None,
    recreate_jobs: Annotated[
        bool, typer.Option("--recreate-jobs", help="Train the succeeded jobs again here.")
    ] = False,
    job: Annotated[list[str] | None, typer.Option(help="Re-create this job; bring only its files. Repeatable.")] = None,
    map_: Annotated[list[str] | None, typer.Option("--map", help="MODEL-THERE=MODEL-HERE. Repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="The base model for jobs whose model --map does not name.")] = None,
    results_folder: Annotated[Path | None, typer.Option(help="Where each job's archive folder is made.")] = None,
    state_file: Annotated[Path | None, typer.Option("--state", help="Where it is kept what was brought.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and end.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on without a question.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object on stdout; needs --yes or --dry-run.")] = False,
) -> None:
    """Bring an account's training files and results here; on request train its jobs again. Sends nothing back."""
    if json_ and not (yes or dry_run):
        fail("--json asks no question: give --yes or --dry-run with it.")
    with _readable():
        address = addresses.parse(from_, api_version)
        target = _target(to, from_)
        key = _key(address, api_key)
        wishes = Wishes(recreate_jobs, frozenset(job or ()), _mapped(map_ or ()), model)
        home = Settings().data_dir / "moving" / f"{address.host.replace(':', '-')}--{_name(target)}"
        folder, path = results_folder or home, state_file or home.with_name(f"{home.name}.json")
        with (
            client.connected(target) as api,
            source.opened(address, key) as there,
            state.held(path.absolute(), address.host, target) as known,
        ):
            console = errors if json_ else screen
            with console.status(f"reading {address.host}"):
                inventory = here.inventory(api, address.host)
                planned = plan.make(bring.account(there), inventory, known, wishes, archive.written(folder))
            if not json_:
                moving_screen.print_plan(planned, folder)
            if dry_run or not _agreed(planned, yes):
                _tell(json_, address.host, planned, None, folder)
                return
            with moving_screen.bar(console, planned) as watcher:
                move = Move(there, api, known, path.absolute(), folder.absolute(), watcher)
                outcome = _run(move, planned, inventory)
            _tell(json_, address.host, planned, outcome, folder)
    if outcome.left:
        raise typer.Exit(1)


def _run(move: Move, planned: Plan, inventory: Inventory) -> Outcome:
    try:
        return bring.run(move, planned, inventory)
    except (LuthierError, openai.APIError, KeyboardInterrupt):
        errors.print(GO_ON, highlight=False)
        raise


@contextmanager
def _readable() -> Iterator[None]:
    """What ends a move as one readable line and status 1; what was brought until then stays."""
    try:
        yield
    except LuthierError as error:
        fail(error.message)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    except httpx2.HTTPError:
        fail(f"The connection broke off. {GO_ON}")


def _target(to: str | None, from_: str) -> str:
    """The service that is moved to. A vendor's AZURE_OPENAI_ENDPOINT is never one: it would be written to."""
    target = (to or os.environ.get("LUTHIER_URL") or client.DEFAULT_URL).rstrip("/").removesuffix("/v1")
    if addresses.origin(target) == addresses.origin(from_):
        raise InvalidRequest(
            "source_is_target",
            f"{from_} is the service that would be moved to. Name another one by --to or LUTHIER_URL.",
            "to",
        )
    return target


def _key(address: Address, given: str | None) -> str:
    key = given or next((value for name in address.key_variables if (value := os.environ.get(name))), None)
    if not key:
        raise InvalidRequest(
            "no_source_key",
            f"No key for {address.host}: set {' or '.join(address.key_variables)}, or give --api-key.",
            "api_key",
        )
    return key


def _mapped(given: Sequence[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    for there, sign, name in pairs:
        if not (there and sign and name):
            raise InvalidRequest("invalid_map", "--map is MODEL-THERE=MODEL-HERE.", "map")
    return {there: name for there, _, name in pairs}


def _name(target: str) -> str:
    _, host, port = addresses.origin(target)
    return f"{host}-{port}"


def _agreed(planned: Plan, yes: bool) -> bool:
    if planned.is_empty:
        return yes  # nothing is left to do, but what was found again is still written down
    return yes or typer.confirm("Go on?")


def _tell(json_: bool, source_host: str, planned: Plan, outcome: Outcome | None, folder: Path) -> None:
    if json_:
        moving_screen.print_json(source_host, planned, outcome, folder)
    elif outcome is not None:
        moving_screen.print_outcome(outcome, folder)
    else:
        screen.print("Nothing was brought.", highlight=False)
