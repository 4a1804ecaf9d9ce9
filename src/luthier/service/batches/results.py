"""How a batch ends: lines without an answer get an error, the journal becomes files, and the folder goes.

Every function may be repeated after a kill: bytes are written before rows, under ids that follow from the batch's.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import msgspec

from luthier.core import ids
from luthier.core.inference.batches import Batch
from luthier.core.models import File
from luthier.core.states import TERMINAL_BATCH_STATUSES, BatchStatus, FilePurpose
from luthier.service.batches import input_lines
from luthier.service.batches.batch_folder import BatchFolder
from luthier.service.batches.input_lines import LinePlace
from luthier.service.batches.journal import AnswerKind, Journal, Record
from luthier.service.batches.line_calls import LineAnswer
from luthier.service.context import Context
from luthier.service.files import files as file_service
from luthier.store.queries import files
from luthier.store.queries.inference import batches

logger = logging.getLogger(__name__)

_GROUP = 500
"""So many errors of lines without an answer are synced at a time."""
_MESSAGES = {
    AnswerKind.EXPIRED: "This request could not be executed before the completion window expired.",
    AnswerKind.CANCELLED: "This request could not be executed before the batch was cancelled.",
}
# Where and when the batch has ended, by its last status.
_TIMES = {
    BatchStatus.COMPLETED: "completed_at",
    BatchStatus.EXPIRED: "expired_at",
    BatchStatus.CANCELLED: "cancelled_at",
}


def answered(context: Context, index: int, custom_id: str, answer: LineAnswer) -> Record:
    """The record of an answer: for the output file if its status is 200, else for the error file."""
    response = {"status_code": answer.status, "request_id": context.new_hex(), "body": msgspec.Raw(answer.body)}
    kind = AnswerKind.COMPLETED if answer.status == 200 else AnswerKind.FAILED
    return Record(index, kind, _line(context, custom_id, response, None), answer.usage)


def finish(context: Context, batch: Batch, folder: BatchFolder, journal: Journal, places: Sequence[LinePlace]) -> None:
    """Ends a batch that is cancelled, is answered, or has expired, as its status and journal say.

    Blocks. Raises NoSpace and other OSErrors; a later call continues.
    """
    current = _begin(context, batch)
    if current is None:
        folder.remove()
        return
    is_cancelled = current.status is BatchStatus.CANCELLING
    missing = [index for index in range(len(places)) if index not in journal.entries]
    kind = AnswerKind.CANCELLED if is_cancelled else AnswerKind.EXPIRED
    for start in range(0, len(missing), _GROUP):
        group = missing[start : start + _GROUP]
        journal.append([_unanswered(context, folder, places[index], index, kind) for index in group])
    is_expired = any(entry.kind is AnswerKind.EXPIRED for entry in journal.entries.values())
    status = BatchStatus.EXPIRED if is_expired else BatchStatus.COMPLETED
    _store(context, current, journal, BatchStatus.CANCELLED if is_cancelled else status)
    folder.remove()


def _begin(context: Context, batch: Batch) -> Batch | None:
    """The batch as it is now, moved to finalizing unless it is being cancelled; None if it has ended or is gone."""
    now = context.now()
    with context.database.writing() as tx:
        batches.move(tx, batch.id, [BatchStatus.IN_PROGRESS], BatchStatus.FINALIZING, finalizing_at=now)
        current = batches.get(tx, batch.resource_id, batch.id)
    return None if current is None or current.status in TERMINAL_BATCH_STATUSES else current


def _store(context: Context, batch: Batch, journal: Journal, status: BatchStatus) -> None:
    """Stores the journal as files, those without a line left out; then rows and the last status, in one transaction.

    Deletes the stored bytes again if the batch is gone meanwhile.
    """
    output = _file(context, batch, journal, "output", [AnswerKind.COMPLETED])
    others = [kind for kind in AnswerKind if kind is not AnswerKind.COMPLETED]
    errors = _file(context, batch, journal, "errors", others)
    written = [file for file in (output, errors) if file is not None]
    values: dict[str, Any] = asdict(journal.counts) | {_TIMES[status]: context.now()}
    values |= {"output_file": output and output.id, "error_file": errors and errors.id}
    sources = [BatchStatus.FINALIZING, BatchStatus.CANCELLING]
    with context.database.writing() as tx:
        if moved := batches.move(tx, batch.id, sources, status, **values):
            for file in written:
                files.insert_file(tx, file)
    if not moved:
        for file in written:
            file_service.delete_bytes(context, file.id)
        return
    counts = journal.counts
    logger.info("batch ended id=%s status=%s ok=%d failed=%d", batch.id, status, counts.completed, counts.failed)


def _file(context: Context, batch: Batch, journal: Journal, name: str, kinds: Sequence[AnswerKind]) -> File | None:
    """Stores the answers of these kinds, in the order of the input, as the blob of a file; None if there are none."""
    indexes = sorted(index for index, entry in journal.entries.items() if entry.kind in kinds)
    if not indexes:
        return None

    def lines() -> Iterator[bytes]:
        for index in indexes:
            yield bytes(journal.read(index).line) + b"\n"

    hex32 = hashlib.sha256(f"{batch.id} {name}".encode()).hexdigest()[:32]
    blob = context.blobs.put(file_service.blob_key(ids.file_id(hex32)), lines())
    file = file_service.make_file(
        context,
        batch.resource_id,
        f"{batch.id}_{name}.jsonl",
        FilePurpose.BATCH_OUTPUT,
        blob,
        batch.output_expires_after_s,
    )
    return replace(file, id=ids.file_id(hex32))


def _unanswered(context: Context, folder: BatchFolder, place: LinePlace, index: int, kind: AnswerKind) -> Record:
    """The record of a line that got no answer in time (OpenAI, "Batch API", "Batch expiration")."""
    custom_id = input_lines.parse(place.read(folder.input)).custom_id
    error = {"code": f"batch_{kind}", "message": _MESSAGES[kind]}
    return Record(index, kind, _line(context, custom_id, None, error))


def _line(context: Context, custom_id: str, response: object, error: object) -> msgspec.Raw:
    """A line of an output or error file, without its end."""
    id = ids.batch_request_id(context.new_hex())
    return msgspec.Raw(msgspec.json.encode({"id": id, "custom_id": custom_id, "response": response, "error": error}))
