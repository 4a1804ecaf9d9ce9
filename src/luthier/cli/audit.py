"""luthier audit: who changed what, out of audit.jsonl in the data folder."""

import json
from collections import deque
from dataclasses import asdict
from typing import Annotated

import typer

from luthier.cli import local
from luthier.cli.screen import table
from luthier.service import audit as log


def audit(
    resource: Annotated[str | None, typer.Option(help="Only changes in this resource.")] = None,
    who: Annotated[str | None, typer.Option(help="Only changes by this key; 'operator' for commands here.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, e.g. jobs/write.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, as the file has them.")] = False,
) -> None:
    """Show the newest changes, the newest last: when, resource, key, action, route, id, status, request id."""
    with local.reading() as context:
        asked = {"resource": resource, "who": who, "action": action}
        wanted = {name: value for name, value in asked.items() if value is not None}
        lines = map(asdict, log.read(context.audit_file))
        found = deque((line for line in lines if line.items() >= wanted.items()), maxlen=limit)
    if as_json:
        for line in found:
            print(json.dumps(line))
    else:
        columns = ("at", "resource", "who", "action", "route", "id", "status", "request_id")
        table(columns, [[line[column] for column in columns] for line in found])
