"""luthier backup, luthier restore: a data folder into one file, while its service runs, and back into a new folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli import screen as terminal
from luthier.cli.admin import data_folder
from luthier.cli.screen import OneAsJson, Quiet, errors, fail, print_json, screen
from luthier.core.errors import LuthierError
from luthier.process import private_folder

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.service.backups.backup_archive import Manifest, OnBytes
    from luthier.settings import Settings


def backup(
    dest: Annotated[Path, typer.Argument(help="New file, or a folder, where it gets a name with the time.")],
    with_base_models: Annotated[
        bool, typer.Option("--with-base-models", help="Also the base models' weights, which can be pulled again.")
    ] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Back up the data folder into one file, also while the service runs and jobs train.

    The file has keys and users' data: only its owner can read it. Exports are left out, and the bytes in an object
    store.
    """
    from luthier.service.backups import backup as backups
    from luthier.settings import Settings

    os.umask(private_folder.UMASK)
    settings = Settings()
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    path = dest / f"luthier-{stamp}.tar" if dest.is_dir() else dest
    if not path.absolute().parent.is_dir():
        fail(f"There is no folder {path.absolute().parent}.")
    wanted = backups.Wanted(
        settings.blobs_folder if settings.blobs_url is None else None, with_base_models, _settings_files(settings)
    )
    with data_folder.changing("backups/write", data_folder.DEFAULT, stamp) as context, _bar("backup", quiet) as begin:
        manifest = backups.create(context, wanted, path.absolute(), begin)
    if not manifest.has_blobs:
        errors.print(
            "The bytes of files and checkpoints are in an object store (LUTHIER_BLOBS_URL) and not in the backup.",
            highlight=False,
        )
    if not manifest.has_database:
        errors.print(
            "The database is on a PostgreSQL server (LUTHIER_DATABASE_URL) and not in the backup: back it up by "
            "pg_dump before each `luthier backup` (docs/postgres.md).",
            highlight=False,
        )
    if manifest.missing:
        n_missing = len(manifest.missing)
        errors.print(
            f"{n_missing} files that the database names are not in the data folder, so not in the backup; --json lists "
            "them.",
            style="yellow",
            highlight=False,
        )
    _report(manifest, path, json_, quiet, f"backed up {len(manifest.files):,} files to {path}")


def restore(
    src: Annotated[Path, typer.Argument(help="File of `luthier backup`.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder to make; must be new or empty. Default: LUTHIER_DATA_DIR.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only verify the file; nothing is written.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Restore a backup into a new data folder, every byte compared with its sha256.

    The folder appears at once, when all is right. Exit code 1, and no folder, for a damaged backup or one of a newer
    version.
    """
    from luthier.service.backups import backup as backups
    from luthier.settings import Settings

    os.umask(private_folder.UMASK)
    folder = None if check else (data_dir or Settings().data_dir).absolute()
    try:
        with _bar("check" if check else "restore", quiet) as begin:
            manifest = backups.restore(src, folder, begin)
    except LuthierError as error:
        fail(error.message)
    if folder is not None and not manifest.has_database:
        errors.print(
            "The rows are not in this backup: restore the database by pg_restore (docs/postgres.md) before the start.",
            highlight=False,
        )
    told = f"{src} is whole" if folder is None else f"restored {len(manifest.files):,} files to {folder}"
    _report(manifest, src, json_, quiet, f"{told}; of {manifest.created_at}, Luthier {manifest.luthier}")


def _settings_files(settings: "Settings") -> dict[str, Path]:
    """The files of settings by the names that they get in a backup: luthier.toml, and the operator's catalog."""
    from luthier.settings import FILE

    files = {FILE.name: FILE, "catalog.toml": settings.catalog}
    return {name: path for name, path in files.items() if path is not None and path.is_file()}


@contextmanager
def _bar(words: str, quiet: bool) -> "Iterator[Callable[[int], OnBytes]]":
    """A function that shows a bar for so many bytes, on a terminal, and returns what moves it."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with terminal.progress(*columns, transient=True) as progress:
        progress.disable = progress.disable or quiet

        def begin(n_bytes: int) -> "OnBytes":
            task = progress.add_task(words, total=n_bytes)
            return lambda count: progress.advance(task, count)

        yield begin


def _report(manifest: "Manifest", path: Path, as_json: bool, quiet: bool, words: str) -> None:
    """Prints what was done: a sentence, or the manifest but for its list of files."""
    if as_json:
        about = manifest.model_dump(exclude={"files"}) | {
            "path": str(path.absolute()),
            "n_files": len(manifest.files),
            "bytes": manifest.total_bytes,
        }
        print_json(about)
    elif not quiet:
        screen.print(f"{words} ({manifest.total_bytes / 1e6:,.1f} MB)", highlight=False, markup=False)
