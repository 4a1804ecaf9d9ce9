"""The report on an uploaded file: computed once, stored beside it, summarized in its status_details.

When it is computed, and why: docs/decisions/0007.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import chain

from luthier.catalog import BaseModelEntry
from luthier.core.errors import InvalidRequest, TooLarge
from luthier.core.models import File
from luthier.core.states import Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.data.checks.validate import Report
from luthier.model_folder import BaseModelFolder
from luthier.service import shutdown
from luthier.service.context import Context
from luthier.service.files import data_check, files, training_estimate
from luthier.service.files.data_check import Checked, Rules
from luthier.store.queries import files as file_rows

logger = logging.getLogger(__name__)

MAX_SYNCHRONOUS_BYTES = 64 * 1024 * 1024
"""Larger files are checked only in the background, and when a job starts."""
SHOWN_PROBLEMS = 5
NO_PROBLEMS = ""
"""The details of a file that was checked and has no problem; the wire shows none."""


def check_next(context: Context, stopping: Callable[[], bool] = shutdown.never) -> bool:
    """Checks the oldest training file without details; False if there is none. Raises Stopped if the service stops.

    A file whose bytes are gone gets empty details: a job on it will report that.
    """
    with context.database.reading() as tx:
        file = file_rows.oldest_unchecked(tx)
    if file is None:
        return False
    try:
        content = context.blobs.open(files.blob_key(file.id))
        create(context, file.id, shutdown.until(stopping, content))
    except FileNotFoundError:  # deleted meanwhile, or its blob is lost: a job will report it
        _set_details(context, file.id, NO_PROBLEMS)
    return True


def create(context: Context, file_id: str, content: Iterable[bytes]) -> dict[str, object]:
    """Checks a file by the method that its first row suggests, for no base model; stores and returns the report."""
    method, content = _likely_method(content)
    rules = Rules(method)
    return store(context, file_id, data_check.check_unassigned(content, rules), rules)


def store(context: Context, file_id: str, checked: Checked, rules: Rules) -> dict[str, object]:
    """Stores a report as JSON beside the file, and in short as its status_details; returns the JSON."""
    content, report = _as_wire(context, file_id, checked, rules), checked.report
    context.blobs.put(files.report_key(file_id), [json.dumps(content, ensure_ascii=False).encode()])
    _set_details(context, file_id, details(report))
    logger.info("file checked id=%s errors=%d warnings=%d", file_id, report.n_errors, report.n_warnings)
    return content


def get(context: Context, file: File, model: str | None, method: Method | None) -> dict[str, object]:
    """The report of a file: the stored one, or for another model or method a new one that is not stored.

    One without a report is checked now, and that is stored. Raises InvalidRequest for a file that is not training data
    or has no content, and for an unknown model; TooLarge if a new report would take too long for a request.
    """
    files.check_trainable(file, "file_id")
    base = None if model is None else _base(context, model)
    stored = _stored(context, file.id)
    if stored is not None and (base is None or _is_for(stored, base)) and method in (None, stored["method"]):
        return stored
    if file.bytes > MAX_SYNCHRONOUS_BYTES:
        raise TooLarge(
            "file_too_large_to_ask",
            f"{file.id} is larger than {MAX_SYNCHRONOUS_BYTES // 2**20} MiB, so its report is computed in the "
            "background and when a job starts. Ask without model and method, or run `luthier check` on your copy.",
            "file_id",
        )
    content: Iterable[bytes] = context.blobs.open(files.blob_key(file.id))
    if base is None and method is None:
        return create(context, file.id, content)
    if method is None:
        method, content = _likely_method(content)
    folder = (
        None
        if base is None or not BaseModelFolder(context.base_folder(base.name)).is_complete
        else context.base_folder(base.name)
    )
    rules = Rules(method, base, folder)
    return _as_wire(context, file.id, data_check.check_unassigned(content, rules), rules)


def stored(context: Context, file: File) -> dict[str, object] | None:
    """The report that is stored beside a file; None for one that nobody has checked yet."""
    return _stored(context, file.id)


def likely_method(context: Context, file: File) -> Method:
    """The method that a file's first row suggests. Raises Conflict and NotFound for a file without bytes."""
    return _likely_method(files.content(context, file))[0]


def details(report: Report) -> str:
    """The report as a few lines of text: verdict, counts, first kinds of problems; NO_PROBLEMS if there are none."""
    if not report.n_errors and not report.n_warnings:
        return NO_PROBLEMS
    verdict = "can be trained on" if report.trainable else "cannot be trained on"
    counts = f"{report.n_errors:,} error(s), {report.n_warnings:,} warning(s)"
    return "\n".join([f"The file {verdict}: {counts}.", *data_check.summary_lines(report.groups, SHOWN_PROBLEMS)])


def _as_wire(context: Context, file_id: str, checked: Checked, rules: Rules) -> dict[str, object]:
    """The report as the wire shows it, with the estimate of a run if tokens were counted."""
    run = training_estimate.estimate(checked, rules, Hyperparameters(), context.data_folder, context.price)
    return {
        "object": "file.report",
        "file_id": file_id,
        "created_at": int(context.now().timestamp()),
        "method": str(rules.method),
        "model": None if rules.base is None else rules.base.name,
        "valid": checked.report.trainable,
        **data_check.as_dict(checked, None if run is None else asdict(run)),
    }


def _set_details(context: Context, file_id: str, text: str) -> None:
    """Writes the status_details of a file; does nothing if it was deleted meanwhile."""
    with context.database.writing() as tx:
        file_rows.set_details(tx, file_id, text)


def _stored(context: Context, file_id: str) -> dict[str, object] | None:
    """The stored report of a file; None if it has none yet."""
    try:
        stored: dict[str, object] = json.loads(b"".join(context.blobs.open(files.report_key(file_id))))
    except FileNotFoundError:
        return None
    return stored


def _is_for(stored: dict[str, object], base: BaseModelEntry) -> bool:
    """Whether a report is for a base model with its tokens counted: the model may have been pulled since."""
    statistics = stored["statistics"]
    return stored["model"] == base.name and isinstance(statistics, dict) and statistics["tokens"] is not None


def _base(context: Context, model: str) -> BaseModelEntry:
    """The catalog entry of a base model. Raises InvalidRequest for an unknown name."""
    base = context.catalog.find(model)
    if base is None or base.embeds:  # an embedding model is not trained
        names = ", ".join(name for name, entry in context.catalog.entries.items() if not entry.embeds)
        raise InvalidRequest("model_not_found", f"There is no base model {model!r}. The catalog has: {names}.", "model")
    return base


def _likely_method(content: Iterable[bytes]) -> tuple[Method, Iterator[bytes]]:
    """The method that the first row suggests, dpo if that names a non-preferred output; and the content from its start,
    of which the first chunk is read here.
    """
    chunks = iter(content)
    first = next(chunks, b"")
    is_pair = b'"non_preferred_' in first.partition(b"\n")[0]
    return Method.DPO if is_pair else Method.SUPERVISED, chain([first], chunks)
