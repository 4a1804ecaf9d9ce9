"""luthier audit: prints the audit log (audit.jsonl) of the data folder; reads only."""

from collections import deque
from dataclasses import asdict
from typing import Annotated

import typer

from luthier.cli.admin import data_folder
from luthier.cli.completion import candidates
from luthier.cli.screen import AsJson, Quiet, present, table


def audit(
    resource: Annotated[
        str | None, typer.Option(help="Only changes in this resource.", autocompletion=candidates.resources)
    ] = None,
    who: Annotated[str | None, typer.Option(help="Only changes by this key; 'operator' for these commands.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as jobs/write.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of newest entries.")] = 50,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show the audit log, newest entry last.

    Columns: time, resource, key, action, route, id, status, request id.
    """
    from luthier.service.tenants import audit as log

    with data_folder.reading() as context:
        filters = {"resource": resource, "who": who, "action": action}
        wanted = {name: value for name, value in filters.items() if value is not None}
        entries = map(asdict, log.read_entries(context.audit_file))
        newest = list(deque((entry for entry in entries if entry.items() >= wanted.items()), maxlen=limit))
    columns = ("at", "resource", "who", "action", "route", "id", "status", "request_id")
    rows = [[entry[column] for column in columns] for entry in newest]
    present(newest, [entry["id"] for entry in newest], lambda: table(columns, rows), json_, quiet)
