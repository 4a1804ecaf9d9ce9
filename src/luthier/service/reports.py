"""What was found in an uploaded file: made once, kept beside it, told in its status_details.

Why it is made when it is: docs/decisions/0007.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain

from luthier.catalog import BaseModelEntry
from luthier.core.errors import InvalidRequest, TooLarge
from luthier.core.hyperparameters import Hyperparameters
from luthier.core.models import File
from luthier.core.states import Method
from luthier.data.validate import Report
from luthier.service import checks, estimates, files
from luthier.service.checks import Checked, Rules
from luthier.service.context import Context, is_prepared
from luthier.store import files as file_rows

logger = logging.getLogger(__name__)

MAX_ASKED_BYTES = 64 * 1024 * 1024
"""Larger files are checked where nobody waits for the answer: in the background, and when a job begins."""
SHOWN_PROBLEMS = 5
NOTHING_FOUND = ""
"""The details of a file that was checked and is as it should be; the wire shows none."""


def check_next(context: Context) -> bool:
    """Checks the oldest file that nobody has looked at yet; False where there is none."""
    with context.database.reading() as tx:
        file = file_rows.oldest_unchecked(tx)
    if file is None:
        return False
    try:
        content = context.blobs.open(files.blob_key(file.id))
        make(context, file.id, content)
    except FileNotFoundError:  # deleted meanwhile, or its bytes are lost: a job will say so
        _set_details(context, file.id, NOTHING_FOUND)
    return True


def make(context: Context, file_id: str, content: Iterable[bytes]) -> dict[str, object]:
    """Checks a file by the rules of the rows that it begins with, and keeps what was found."""
    method, content = _likely_method(content)
    rules = Rules(method)
    return keep(context, file_id, checks.check_alone(content, rules), rules)


def keep(context: Context, file_id: str, checked: Checked, rules: Rules) -> dict[str, object]:
    """Writes a report down: as JSON beside the file, and in short as its details."""
    told, report = _told(context, file_id, checked, rules), checked.report
    context.blobs.put(files.report_key(file_id), [json.dumps(told, ensure_ascii=False).encode()])
    _set_details(context, file_id, details(report))
    logger.info("file checked id=%s errors=%d warnings=%d", file_id, report.n_errors, report.n_warnings)
    return told


def get(context: Context, file: File, model: str | None, method: Method | None) -> dict[str, object]:
    """The report of a file: the kept one; for a model or method that it was not made for a new one, which is not kept.

    Raises InvalidRequest for a file that is no training data or has no content, and for a model that there is not;
    TooLarge where a new report would take too long to wait for.
    """
    files.check_trainable(file, "file_id")
    base = None if model is None else _base(context, model)
    kept = _kept(context, file.id)
    if kept is not None and (base is None or _is_for(kept, base)) and method in (None, kept["method"]):
        return kept
    if file.bytes > MAX_ASKED_BYTES:
        raise TooLarge(
            "file_too_large_to_ask",
            f"{file.id} is larger than {MAX_ASKED_BYTES // 2**20} MiB, so that its report is made in the background "
            "and when a job begins. Ask again without model and method, or use `luthier check` on your copy.",
            "file_id",
        )
    content: Iterable[bytes] = context.blobs.open(files.blob_key(file.id))
    if base is None and method is None:
        return make(context, file.id, content)
    if method is None:
        method, content = _likely_method(content)
    folder = None if base is None or not is_prepared(context.base_folder(base.name)) else context.base_folder(base.name)
    rules = Rules(method, base, folder)
    return _told(context, file.id, checks.check_alone(content, rules), rules)


def details(report: Report) -> str:
    """The report in a few lines of text."""
    if not report.n_errors and not report.n_warnings:
        return NOTHING_FOUND
    verdict = "can be trained on" if report.valid else "cannot be trained on"
    counts = f"{report.n_errors:,} error(s), {report.n_warnings:,} warning(s)"
    return "\n".join([f"The file {verdict}: {counts}.", *checks.few_words(report, SHOWN_PROBLEMS)])


def _told(context: Context, file_id: str, checked: Checked, rules: Rules) -> dict[str, object]:
    """The report as the wire tells it."""
    run = estimates.estimate(checked, rules, Hyperparameters(), context.data_folder, context.price)
    return {
        "object": "file.report",
        "file_id": file_id,
        "created_at": int(context.now().timestamp()),
        "method": str(rules.method),
        "model": None if rules.base is None else rules.base.name,
        "valid": checked.report.valid,
        **checks.as_dict(checked, None if run is None else asdict(run)),
    }


def _set_details(context: Context, file_id: str, text: str) -> None:
    with context.database.writing() as tx:
        file_rows.set_details(tx, file_id, text)


def _kept(context: Context, file_id: str) -> dict[str, object] | None:
    try:
        kept: dict[str, object] = json.loads(b"".join(context.blobs.open(files.report_key(file_id))))
    except FileNotFoundError:
        return None
    return kept


def _is_for(kept: dict[str, object], base: BaseModelEntry) -> bool:
    """Whether a report was made for a base model, and its tokens counted: it may have come here since."""
    statistics = kept["statistics"]
    return kept["model"] == base.name and isinstance(statistics, dict) and statistics["tokens"] is not None


def _base(context: Context, model: str) -> BaseModelEntry:
    base = context.catalog.find(model)
    if base is None:
        known = ", ".join(context.catalog.entries)
        raise InvalidRequest("model_not_found", f"There is no base model {model!r}. The catalog has: {known}.", "model")
    return base


def _likely_method(content: Iterable[bytes]) -> tuple[Method, Iterator[bytes]]:
    """What the first row looks like it is for; and the content, whole again."""
    chunks = iter(content)
    first = next(chunks, b"")
    is_pair = b'"non_preferred_' in first.partition(b"\n")[0]
    return Method.DPO if is_pair else Method.SUPERVISED, chain([first], chunks)
