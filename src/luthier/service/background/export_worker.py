"""Makes the exports that were asked for, one after another, and removes those whose time or whose model is over."""

import logging
import shutil
import threading
from dataclasses import dataclass, field
from datetime import timedelta

from luthier import model_folder
from luthier.atomic_io import disk_full_as_no_space
from luthier.core.errors import LuthierError, NoSpace, NotFound, Unavailable
from luthier.core.exports import Export, Exporter, ExportError, ExportSpec, ExportStatus
from luthier.core.states import Tuning
from luthier.service.context import Context
from luthier.service.exports import export_records, exports
from luthier.service.models import models, serving
from luthier.store.db import Connection
from luthier.store.queries import checkpoints

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Starts of an export's process that end without a word, before the export fails."""
STOP_S = 2.0
_CHECKPOINT = "checkpoint"


@dataclass(slots=True)
class ExportWorker:
    """Works by `tick`; `start` runs it in a thread until `stop`. `keep` is how long an ended export is kept.

    One worker for a data folder: an export that is `running` when a tick begins was left by a service that died.
    """

    context: Context
    exporter: Exporter
    keep: timedelta = timedelta(hours=24)
    tick_s: float = 0.5
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def tick(self) -> None:
        """Removes what is over, then makes the oldest export that waits; blocks until that has ended."""
        remove_over(self.context)
        waiting = (ExportStatus.QUEUED, ExportStatus.RUNNING)
        for export in export_records.read_all(self.context):
            if export.status in waiting and not self._stopping.is_set():
                self._make(export)
                return

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="exports", daemon=True)
        self._thread.start()

    def begin_stop(self) -> None:
        """Ends the export under way, whose work is thrown away: the next start makes it anew. Returns at once."""
        self._stopping.set()

    def stop(self) -> None:
        """As `begin_stop`, and waits for the thread, STOP_S at most."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        """The thread's loop. What a pass raises is logged."""
        while not self._stopping.is_set():
            try:
                self.tick()
            except NoSpace as error:
                logger.error("disk full loop=exports %s", error)
            except Unavailable as error:  # as when the database's server is away
                logger.error("tick delayed loop=exports %s", error)
            except Exception:
                if not self._stopping.is_set():
                    logger.exception("tick failed loop=exports")
            self._stopping.wait(self.tick_s)

    def _make(self, export: Export) -> None:
        """Makes one export and writes how that ended. A stop of the service leaves it queued."""
        if export.attempts >= MAX_ATTEMPTS:
            text = f"The export's process ended {MAX_ATTEMPTS} times without a result. The operator has its log."
            self._end(export, error=ExportError("export_died", text))
            return
        running = exports.move(self.context, export, status=ExportStatus.RUNNING, attempts=export.attempts + 1)
        if running is None:
            return
        logger.info("export started id=%s attempt=%d", running.id, running.attempts)
        folder = export_records.folder(self.context, running.id)
        try:
            shutil.rmtree(folder / export_records.FILES, ignore_errors=True)
            spec = self._spec(running)
            result = self.exporter.run(spec, folder / export_records.FILES, lambda: self._is_wanted(running))
        except Unavailable as error:
            logger.error("export interrupted id=%s %s", running.id, error)
            exports.move(self.context, running, status=ExportStatus.QUEUED)
        except LuthierError as error:
            self._end(running, error=ExportError(error.code, error.message))
        else:
            if result is not None:
                self._end(running, result=result)
            elif self._stopping.is_set():  # which is no fault of the export
                exports.move(self.context, running, status=ExportStatus.QUEUED, attempts=export.attempts)

    def _end(self, export: Export, **outcome: object) -> None:
        """Writes the outcome, `result` or `error`, and removes what only the making needed."""
        folder = export_records.folder(self.context, export.id)
        if not self._is_ours(export):
            export_records.remove_leftovers(self.context)
            return
        for name in (_CHECKPOINT, *([] if "result" in outcome else [export_records.FILES])):
            shutil.rmtree(folder / name, ignore_errors=True)
        now = self.context.now()
        status = ExportStatus.SUCCEEDED if "result" in outcome else ExportStatus.FAILED
        expires_at = self.context.lifetime_start(now) + self.keep
        ended = exports.move(self.context, export, status=status, finished_at=now, expires_at=expires_at, **outcome)
        if ended is None:
            export_records.remove_leftovers(self.context)
        else:
            code = "" if ended.error is None else f" code={ended.error.code}"
            logger.info("export ended id=%s status=%s%s", export.id, status, code)

    def _is_wanted(self, export: Export) -> bool:
        """Whether the service goes on, and the export was not deleted meanwhile."""
        return not self._stopping.is_set() and self._is_ours(export)

    def _is_ours(self, export: Export) -> bool:
        """Whether the export is still that one, and this attempt at it the newest: not if another supervisor has taken
        over while this one was paused.
        """
        known = export_records.read(self.context, export.id)
        return known is not None and exports.is_same_attempt(known, export)

    def _spec(self, export: Export) -> ExportSpec:
        """What the process is told; copies the checkpoint's files into the export's folder.

        Raises NotFound for a model that was deleted, LuthierError for a base that is not on this machine, NoSpace.
        """
        model = models.get(self.context, export.resource_id, export.checkpoint_id)
        if model.checkpoint is None:
            raise models.not_found(export.model)
        if not model.ready:
            text = f"The weights of {model.base.name} are not on this machine. Run: luthier models pull"
            raise NotFound("model_not_ready", f"{text} {model.base.name}")
        folder = export_records.folder(self.context, export.id) / _CHECKPOINT
        if not folder.exists():
            with disk_full_as_no_space(folder):
                serving.copy_files(self.context, model.checkpoint, folder)
        is_full = model_folder.WEIGHTS in model.checkpoint.files
        lora = model.base.lora
        return ExportSpec(
            format=export.format,
            dtype=export.dtype,
            tuning=Tuning.FULL if is_full else Tuning.LORA,
            quantization=None if is_full or lora is None else lora.quantization,
            model=export.model,
            base_model=model.base.name,
            base_repository=model.base.hub_id or model.base.name,
            licence=model.base.licence,
            context_tokens=model.base.context_tokens,
            base_folder=self.context.base_folder(model.base.name),
            checkpoint_folder=folder,
        )


def remove_over(context: Context) -> None:
    """Removes exports whose time is surely over, whose model is gone, and what a crash left of others."""
    before = context.deletion_time()
    kept = list(export_records.read_all(context))
    with context.database.reading() as tx:
        gone = {export.id for export in kept if not _has_model(tx, export)}
    for export in kept:
        is_expired = export.expires_at is not None and export.expires_at < before
        if is_expired or export.id in gone:
            with context.exports_lock:
                export_records.remove(context, export.id)
            logger.info("export removed id=%s reason=%s", export.id, "expired" if is_expired else "model gone")
    with context.exports_lock:
        export_records.remove_leftovers(context)


def _has_model(tx: Connection, export: Export) -> bool:
    """Whether the exported model is still the resource's own."""
    checkpoint = checkpoints.find(tx, export.resource_id, export.checkpoint_id)
    return checkpoint is not None and checkpoint.resource_id == export.resource_id
