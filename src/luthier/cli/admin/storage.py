"""luthier storage: show, list, restore, empty, adopt: the blob store's owner, and orphaned blobs, which have no
database row and were moved to lost-and-found.
"""

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.admin import data_folder
from luthier.cli.command_line import CommandGroup
from luthier.cli.screen import AsJson, fail, print_json, screen, table_or_json
from luthier.core.errors import LuthierError

app = CommandGroup("Inspect the blob store and its orphaned blobs (lost-and-found).")
Before = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only blobs moved there before this day (YYYY-MM-DD).")
]


@app.command()
def show() -> None:
    """Show as JSON the installation, its blob store and the size of lost-and-found."""
    from luthier.service.background import installation, orphaned_blobs

    with data_folder.reading() as context:
        own = installation.get(context.database)
        lost = list(orphaned_blobs.list_lost(context))
    shown = {
        "installation": own.id,
        "created_at": own.created_at.isoformat(),
        "prefix": own.blob_prefix,
        "swept": context.blobs_are_own and own.behind_since is None,
        "database_is_older_since": None if own.behind_since is None else own.behind_since.isoformat(),
        "lost_and_found": {"count": len(lost), "bytes": sum(found.bytes for found in lost)},
    }
    print_json(shown)


@app.command("list")
def list_lost(json_: AsJson = False) -> None:
    """List the blobs in lost-and-found: key, bytes, day of the move."""
    from luthier.service.background import orphaned_blobs

    with data_folder.reading() as context:
        lost = list(orphaned_blobs.list_lost(context))
    table_or_json(
        json_, ("key", "bytes", "moved"), [(found.original_key, found.bytes, found.day.isoformat()) for found in lost]
    )


@app.command()
def restore(
    to: Annotated[Path | None, typer.Option(help="Copy all of lost-and-found to this new folder instead.")] = None,
) -> None:
    """Restore blobs that a database row refers to again; the service does so every hour.

    With --to nothing is restored: the copies are written to a folder that must not exist yet.
    """
    from luthier.service.background import orphaned_blobs

    try:
        if to is None:
            with data_folder.changing("storage/write", data_folder.DEFAULT, "lost-and-found") as context:
                count = orphaned_blobs.restore(context)
        else:
            with data_folder.reading() as context:
                count = orphaned_blobs.copy_out(context, to)
    except OSError as error:
        fail(f"{error.filename or to}: {error.strerror}")
    screen.print(f"restored {count}", highlight=False, markup=False)


@app.command()
def empty(
    before: Before = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete the blobs in lost-and-found permanently.

    Asks first; exit code 1, and nothing is deleted, if the answer is no.
    """
    from luthier.service.background import orphaned_blobs

    limit = datetime.combine(before.date() if before else date.max, time(), UTC)
    if not (yes or typer.confirm("Delete permanently?")):
        raise typer.Exit(1)
    with data_folder.changing("storage/write", data_folder.DEFAULT, "lost-and-found") as context:
        count, total = orphaned_blobs.delete_older(context, limit)
    screen.print(f"deleted {count} ({total:,} bytes)", highlight=False, markup=False)


@app.command()
def adopt(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Make this database the owner of the blob store. Stop every service that uses either first.

    For a database restored from an older backup, and for a blob store that was moved on purpose.
    """
    from luthier import data_folder as service_folder
    from luthier.settings import Settings

    if not (yes or typer.confirm("Blobs without a database row will be moved to lost-and-found. Continue?")):
        raise typer.Exit(1)
    try:
        own = service_folder.adopt(Settings())
    except LuthierError as error:
        fail(error.message)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    # Only now: a database that does not own its blob store yet cannot be opened as others are.
    with data_folder.changing("storage/write", data_folder.DEFAULT, "blob-store"):
        screen.print(f"the blob store belongs to installation {own.id} from now on", highlight=False, markup=False)
