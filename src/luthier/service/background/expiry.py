"""What expires: files, unfinished uploads, stored responses, records of webhooks; blobs without a row, moved to
lost-and-found; and folders that killed processes left unfinished.

The supervisor's storage loop runs it.
"""

import logging
from dataclasses import dataclass, field
from datetime import timedelta

from luthier.core.errors import NoSpace
from luthier.core.states import UploadStatus
from luthier.service.background import installation, orphaned_blobs
from luthier.service.context import Context
from luthier.service.files import files as file_service
from luthier.service.files import uploads as upload_service
from luthier.service.models import whole_folders
from luthier.service.responses import stored_responses
from luthier.service.webhooks import deliveries
from luthier.store import installation as installation_row
from luthier.store.queries import files, imports, uploads

logger = logging.getLogger(__name__)

INTERVAL_S = 60.0
SWEEP_INTERVAL_S = 3600.0
"""Blobs are stored before their row: one without a row at two scans this far apart belongs to no running request."""

ABANDONED_AFTER = timedelta(days=2)
"""Then an unfinished put is what a killed process left: 512 MiB at LUTHIER_BODY_MIN_RATE take a day and a half."""


@dataclass(slots=True)
class Housekeeper:
    """Does by `work` what is due. Durations are those of a monotonic clock, which no clock jump changes.

    `keep` is how long blobs without a row are kept in lost-and-found, zero for ever. `_suspects` had no row at the last
    sweep; `_marked` is the database's age as last written into the marker. One thread at a time.
    """

    context: Context
    keep: timedelta = timedelta(days=30)
    _worked_s: float | None = None
    _swept_s: float | None = None
    _suspects: set[str] = field(default_factory=set)
    _marked: int | None = None

    def work(self) -> None:
        """Once a minute at most: removes what has expired and updates the marker; once an hour it sweeps."""
        now_s = self.context.elapsed_s()
        if self._worked_s is not None and 0 <= now_s - self._worked_s < INTERVAL_S:
            return
        self._worked_s = now_s
        remove_expired(self.context)
        if self._swept_s is None or not 0 <= now_s - self._swept_s < SWEEP_INTERVAL_S:
            self._swept_s = now_s
            whole_folders.remove_leftovers(self.context)
            self.sweep()
        self._update_marker()

    def sweep(self) -> None:
        """Moves away blobs that had no row at the last scan either, restores those that have one, deletes old ones, and
        ends puts that were left unfinished.

        Does nothing in a store whose other files may be somebody else's, in one without the marker of this
        installation, and with a database that is older than the blobs.
        """
        if not self._may_sweep():
            self._suspects.clear()
            return
        self.context.blobs.abort_partial_puts(self.context.deletion_time() - ABANDONED_AFTER)
        orphaned_blobs.restore(self.context)
        orphans = orphaned_blobs.list_orphans(self.context)
        orphaned_blobs.move_to_lost(self.context, [blob for key, blob in orphans.items() if key in self._suspects])
        self._suspects = orphans.keys() - self._suspects
        if self.keep:
            orphaned_blobs.delete_kept_for(self.context, self.keep)

    def _may_sweep(self) -> bool:
        """Whether blobs may be moved: the store is the service's alone, with the marker of this installation, and the
        database is not older than the blobs. Otherwise the reason is logged, unless the store is shared.
        """
        if not self.context.blobs_are_own:
            return False
        own = installation.get(self.context.database)
        marker = installation.read_marker(self.context.blobs)
        if marker is not None and marker.id == own.id and own.behind_since is None:
            return True
        reason = (
            "the store has no marker of this installation" if marker is None else "database is older, or another marker"
        )
        logger.warning("not swept: %s", reason)
        return False

    def _update_marker(self) -> None:
        """Records the state of the clock in the database, and the database's age in the store's marker, by which a
        backup that was restored is recognized. A full disk is logged.
        """
        own = installation.get(self.context.database)
        if self.context.settled is not None:
            settled_at, unsettled_s = self.context.settled.state()
            with self.context.database.writing() as tx:
                installation_row.set_clock(tx, settled_at, unsettled_s)
        if own.behind_since is None and own.blob_prefix is not None:
            try:
                self._marked = installation.update_marker(self.context.database, self.context.blobs, own, self._marked)
            except NoSpace as error:
                logger.error("marker not written: %s", error)


def remove_expired(context: Context) -> None:
    """Removes every file, upload, stored response and webhook's record that has surely expired, row first, then blobs.

    A waiting job finds such a file deleted.
    """
    before = context.deletion_time()
    with context.database.reading() as tx:
        expired, overdue = files.list_expired(tx, before), uploads.list_overdue(tx, before)
    for file in expired:
        with context.database.writing() as tx:
            files.delete(tx, file.resource_id, file.id)
            imports.delete(tx, file.id)
        file_service.delete_bytes(context, file.id)
        logger.info("file expired id=%s resource=%s", file.id, file.resource_id)
    for upload in overdue:
        upload_service.end(context, upload.id, UploadStatus.EXPIRED)
    stored_responses.remove_expired(context)
    deliveries.remove_old(context)
