"""How a batch begins: its input file is copied and checked. Each function may be repeated after a kill."""

import logging
from collections.abc import Callable
from dataclasses import asdict

from luthier.core.errors import LuthierError, NotFound
from luthier.core.inference.batches import Batch, BatchFault
from luthier.core.states import BatchStatus
from luthier.service import shutdown
from luthier.service.batches import input_lines
from luthier.service.batches.batch_folder import BatchFolder
from luthier.service.batches.input_lines import Checked
from luthier.service.batches.line_calls import LineCalls
from luthier.service.context import Context
from luthier.service.files import files as file_service
from luthier.store.queries.inference import batches

logger = logging.getLogger(__name__)

MAX_CHECKED_MODELS = 1000


def validate(
    context: Context, calls: LineCalls, batch: Batch, folder: BatchFolder, stopping: Callable[[], bool]
) -> None:
    """Copies and checks the input file; moves the batch to in_progress, or to failed with every fault of the file.

    Moves nothing if the batch was cancelled meanwhile. Raises Stopped if the service stops, and NoSpace.
    """
    if not folder.input.exists():
        try:
            file = file_service.get(context, batch.resource_id, batch.input_file)
            folder.store_input(shutdown.until(stopping, file_service.content(context, file)))
        except NotFound:
            text = f"{batch.input_file} was deleted before it was read. Upload it again and create a new batch."
            fail(context, batch, folder, (BatchFault("file_not_found", text, "input_file_id"),))
            return
    checked = input_lines.check(folder.input, batch.endpoint, stopping)
    _check_models(calls, batch, checked)
    if checked.n_faults:
        fail(context, batch, folder, checked.all_faults())
        return
    model = next(iter(checked.models)) if len(checked.models) == 1 else None
    values = {"in_progress_at": context.now(), "total": len(checked.places), "model": model}
    with context.database.writing() as tx:
        batches.move(tx, batch.id, [BatchStatus.VALIDATING], BatchStatus.IN_PROGRESS, **values)
    logger.info("batch in progress id=%s lines=%d", batch.id, len(checked.places))


def fail(context: Context, batch: Batch, folder: BatchFolder, faults: tuple[BatchFault, ...]) -> None:
    """Moves a batch to failed, with its faults, and removes its folder; does nothing to one that was cancelled."""
    values = {"failed_at": context.now(), "faults": [asdict(fault) for fault in faults]}
    sources = [BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING]
    with context.database.writing() as tx:
        failed = batches.move(tx, batch.id, sources, BatchStatus.FAILED, **values)
    if failed:
        folder.remove()
        logger.info("batch failed id=%s faults=%d", batch.id, len(faults))


def _check_models(calls: LineCalls, batch: Batch, checked: Checked) -> None:
    """Adds a fault for each model that does not answer, at the first line that names it."""
    for model, line in list(checked.models.items())[:MAX_CHECKED_MODELS]:
        try:
            calls.check_model(batch, model)
        except LuthierError as error:
            checked.add_fault(BatchFault("model_not_found", error.message, "body.model", line))
