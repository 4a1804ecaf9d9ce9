"""A batch's folder while it is open: its own copy of the input file, and the journal of its answers."""

import secrets
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from luthier.atomic_io import disk_full_as_no_space, fsync_path
from luthier.process import private_folder
from luthier.service.context import Context


@dataclass(frozen=True, slots=True)
class BatchFolder:
    """The paths of one open batch, in the data folder."""

    path: Path

    @property
    def input(self) -> Path:
        """The copy of the input file: whole, or not there."""
        return self.path / "input.jsonl"

    @property
    def journal(self) -> Path:
        return self.path / "answers.journal"

    def store_input(self, chunks: Iterator[bytes]) -> None:
        """Writes the copy of the input file, which is there once it is whole and on disk. Raises NoSpace, and whatever
        the chunks raise.
        """
        private_folder.create(self.path.parent)
        private_folder.create(self.path)
        # Of its own name: a supervisor that was paused may still write one beside the next supervisor.
        temporary = self.path / f".input.{secrets.token_hex(4)}.tmp"
        with disk_full_as_no_space(self.input):
            try:
                with temporary.open("wb") as stream:
                    stream.writelines(chunks)
                fsync_path(temporary)
                temporary.replace(self.input)
                fsync_path(self.path)
                fsync_path(self.path.parent)
            except OSError:
                temporary.unlink(missing_ok=True)  # what was written of it is in the way of everything else
                raise

    def remove(self) -> None:
        """Removes the folder; one that is not there is no error."""
        shutil.rmtree(self.path, ignore_errors=True)


def of_batch(context: Context, batch_id: str) -> BatchFolder:
    """The folder of a batch, which may not be there."""
    return BatchFolder(_root(context) / batch_id)


def list_ids(context: Context) -> set[str]:
    """The batches that have a folder now."""
    root = _root(context)
    return {path.name for path in root.iterdir()} if root.is_dir() else set()


def remove(context: Context, batch_ids: Collection[str]) -> None:
    """Removes the folders of these batches: of ended ones, whose removal a kill had interrupted."""
    for batch_id in batch_ids:
        of_batch(context, batch_id).remove()


def _root(context: Context) -> Path:
    return context.data_folder / "batches"
