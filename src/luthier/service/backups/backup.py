"""A backup of a data folder whose service may run, and its restoration into a new one."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from luthier import __version__
from luthier.atomic_io import disk_full_as_no_space, fsync_path, fsync_tree
from luthier.core.errors import Conflict
from luthier.model_folder import BaseModelFolder
from luthier.process import folder_lock
from luthier.service.backups import backup_archive, backup_contents
from luthier.service.backups.backup_archive import Manifest, OnBytes
from luthier.service.context import Context
from luthier.store import db

logger = logging.getLogger(__name__)

_STAGING, _LOCK = ".backup", "backup.lock"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a backup is to have beside the data folder: `settings` are files by the name that they get.

    `blobs_folder` is the root of the local blob store; None leaves the bytes of an object store out.
    """

    blobs_folder: Path | None
    with_base_models: bool = False
    settings: Mapping[str, Path] | None = None


def create(context: Context, wanted: Wanted, path: Path, begin: Callable[[int], OnBytes]) -> Manifest:
    """Writes a backup of the data folder to a new file; returns its manifest. `begin` gets the bytes that will be read,
    and returns what is told of each part of them.

    Raises Conflict if the file exists or another backup is being made, NoSpace, Unavailable, and OSError.
    """
    if path.exists():
        raise Conflict("backup_exists", f"{path} exists. Name another file; a backup never replaces one.")
    staging = context.data_folder / _STAGING
    lock = folder_lock.acquire(
        context.data_folder / _LOCK, f"{staging}", "Wait until that backup has ended.", command="luthier backup"
    )
    try:
        with disk_full_as_no_space(staging):
            staged = backup_contents.stage(context, wanted.blobs_folder, staging)
        sources = backup_contents.listed(staging)
        for name, source in (wanted.settings or {}).items():
            sources.append((f"{backup_contents.SETTINGS}/{name}", source))
        names = _base_models(context) if wanted.with_base_models else []
        for name in names:
            folder = context.base_folder(name)
            sources += backup_contents.listed(folder, f"{backup_contents.MODELS}/{name}/")
        about = Manifest(
            luthier=__version__,
            schema_revision=staged.revision,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            installation=staged.installation.id,
            has_blobs=wanted.blobs_folder is not None,
            has_database=context.database.path is not None,
            base_models=tuple(names),
            missing=tuple(sorted(staged.missing)),
        )
        on_bytes = begin(sum(source.stat().st_size for _, source in sources))
        return backup_archive.write(path, sources, about, on_bytes)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        lock.release()


def restore(path: Path, data_folder: Path | None, begin: Callable[[int], OnBytes]) -> Manifest:
    """Restores a backup into a data folder that does not exist yet, or is empty; None only verifies the archive.

    Everything is compared with the manifest, and appears at once by a rename. Raises Conflict for a folder that has
    something and for a backup of a newer version, InvalidRequest for a damaged archive, NotFound, NoSpace and OSError;
    then nothing has changed.
    """
    if data_folder is not None and data_folder.exists() and (not data_folder.is_dir() or any(data_folder.iterdir())):
        text = f"{data_folder} is not empty. A backup is only restored into a new folder: name one by --data-dir."
        raise Conflict("folder_not_empty", text)
    manifest = backup_archive.read_manifest(path)
    if not db.has_revision(manifest.schema_revision):
        text = (
            f"{path} is of a newer version of Luthier ({manifest.luthier}, schema {manifest.schema_revision:.20}). "
            "Install that one, or use another backup. Nothing was restored."
        )
        raise Conflict("newer_backup", text)
    on_bytes = begin(manifest.total_bytes)
    if data_folder is None:
        backup_archive.extract(path, manifest, None, on_bytes)
        return manifest
    data_folder.parent.mkdir(parents=True, exist_ok=True)
    backup_archive.check_room(data_folder.parent, manifest.total_bytes)
    temporary = Path(tempfile.mkdtemp(prefix=f".{data_folder.name}.restoring-", dir=data_folder.parent))  # mode 0700
    try:
        with disk_full_as_no_space(temporary, manifest.total_bytes):
            backup_archive.extract(path, manifest, temporary, on_bytes)
            fsync_tree(temporary)
        if data_folder.exists():
            data_folder.rmdir()  # empty, as was seen above; if not any more, this raises
        temporary.rename(data_folder)
        fsync_path(data_folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return manifest


def _base_models(context: Context) -> list[str]:
    """The base models that are prepared on this machine, by the names of their folders."""
    folders = sorted(context.models_folder.iterdir()) if context.models_folder.is_dir() else []
    return [folder.name for folder in folders if BaseModelFolder(folder).is_complete]
