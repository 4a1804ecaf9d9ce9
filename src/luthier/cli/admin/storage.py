"""luthier storage: show, list, restore, empty, adopt, to-postgres: the blob store's owner, orphaned blobs, which have
no database row and were moved to lost-and-found, and the move of the rows to another database.
"""

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.admin import data_folder
from luthier.cli.command_line import CommandGroup
from luthier.cli.screen import (
    AsJson,
    OneAsJson,
    Quiet,
    confirm,
    fail,
    present,
    present_object,
    present_table,
    say,
    waiting,
)
from luthier.core.errors import LuthierError

app = CommandGroup("Inspect the blob store and its orphaned blobs (lost-and-found).")
Before = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only blobs moved there before this day (YYYY-MM-DD).")
]


@app.command()
def show(json_: OneAsJson = False, quiet: Quiet = False) -> None:
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
    present_object(shown, own.id, json_, quiet)


@app.command("list")
def list_lost(json_: AsJson = False, quiet: Quiet = False) -> None:
    """List the blobs in lost-and-found: key, bytes, day of the move."""
    from luthier.service.background import orphaned_blobs

    with data_folder.reading() as context:
        lost = list(orphaned_blobs.list_lost(context))
    rows = [(found.original_key, found.bytes, found.day.isoformat()) for found in lost]
    present_table(("key", "bytes", "moved"), rows, json_, quiet)


@app.command()
def restore(
    to: Annotated[Path | None, typer.Option(help="Copy all of lost-and-found to this new folder instead.")] = None,
    json_: OneAsJson = False,
    quiet: Quiet = False,
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
            with data_folder.reading() as context, waiting(f"copying to {to}"):
                count = orphaned_blobs.copy_out(context, to)
    except OSError as error:
        fail(f"{error.filename or to}: {error.strerror}")
    value = {"restored": count, "to": None if to is None else f"{to}"}
    present(value, [] if to is None else [to], lambda: say(f"restored {count}"), json_, quiet)


@app.command()
def empty(
    before: Before = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Delete the blobs in lost-and-found permanently.

    Asks first; exit code 1, and nothing is deleted, if the answer is no.
    """
    from luthier.service.background import orphaned_blobs

    limit = datetime.combine(before.date() if before else date.max, time(), UTC)
    if not (yes or confirm("Delete permanently?")):
        raise typer.Exit(1)
    with data_folder.changing("storage/write", data_folder.DEFAULT, "lost-and-found") as context:
        count, total = orphaned_blobs.delete_older(context, limit)
    value = {"deleted": count, "bytes": total}
    present(value, [], lambda: say(f"deleted {count} ({total:,} bytes)"), json_, quiet)


@app.command()
def adopt(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make this database the owner of the blob store. Stop every service that uses either first.

    For a database restored from an older backup, and for a blob store that was moved on purpose.
    """
    from luthier import data_folder as service_folder
    from luthier.settings import Settings

    if not (yes or confirm("Blobs without a database row will be moved to lost-and-found. Continue?")):
        raise typer.Exit(1)
    try:
        own = service_folder.adopt(Settings())
    except LuthierError as error:
        fail(error.message)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    # Only now: a database that does not own its blob store yet cannot be opened as others are.
    with data_folder.changing("storage/write", data_folder.DEFAULT, "blob-store"):
        words = f"the blob store belongs to installation {own.id} from now on"
        present({"installation": own.id}, [own.id], lambda: say(words), json_, quiet)


@app.command("to-postgres")
def to_postgres(json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Copy every row of luthier.db into the empty database of LUTHIER_DATABASE_URL. Stop the service first.

    All or nothing; luthier.db stays as it is. Start the service with the same LUTHIER_DATABASE_URL afterwards.
    """
    from luthier import data_folder as service_folder
    from luthier.settings import Settings

    try:
        with waiting("copying rows"):
            counts = service_folder.copy_to_postgres(Settings())
    except LuthierError as error:
        fail(error.message, code=error.code, param=error.param)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    with data_folder.changing("storage/write", data_folder.DEFAULT, "database"):
        n_tables = sum(1 for count in counts.values() if count)
        words = f"copied {sum(counts.values()):,} rows of {n_tables} tables; luthier.db is used no more, and was kept"
        present({"rows": dict(counts)}, [], lambda: say(words), json_, quiet)
