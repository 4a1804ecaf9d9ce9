"""The list of files, one file with its report and rows, and what its buttons do."""

from urllib.parse import urlencode

from starlette.responses import Response

from luthier.core.errors import LuthierError
from luthier.core.models import File
from luthier.core.roles import Action
from luthier.core.states import FilePurpose, FileStatus
from luthier.portal.views import file_rows, model_choices, report_view
from luthier.portal.web.page import Page, get, post
from luthier.portal.web.visit import Visit
from luthier.service.files import data_reports, file_mending, files
from luthier.service.files.data_check import Rules
from luthier.service.files.file_mending import Mending
from luthier.service.models import models
from luthier.service.overviews import file_search, row_preview
from luthier.service.overviews.row_preview import RowPage

PAGE_ROWS = 50
PREVIEW_ROWS = 5
HEAD_BYTES = 4000
GROUPS: dict[str, tuple[FilePurpose, ...]] = {
    "training": (FilePurpose.FINE_TUNE,),
    "results": (FilePurpose.FINE_TUNE_RESULTS,),
    "batches": (FilePurpose.BATCH, FilePurpose.BATCH_OUTPUT),
    "other": (FilePurpose.USER_DATA, FilePurpose.ASSISTANTS, FilePurpose.EVALS, FilePurpose.VISION),
}
"""The filters by purpose, by the word in the URL."""


def show(visit: Visit) -> Response:
    """The list."""
    return visit.render("files.html", **_list_values(visit))


def show_rows(visit: Visit) -> Response:
    """The table alone, for the script that polls it."""
    return visit.live("files_rows.html", lambda: _list_values(visit))


def show_file(visit: Visit) -> Response:
    """One file: facts, report, rows."""
    used = file_search.get_used(visit.context, visit.resource_id, visit.path_value("file_id"))
    file = used.file
    chosen = visit.query("model")
    names = model_choices.ready_bases(models.list_bases(visit.context))
    is_data = file.purpose is FilePurpose.FINE_TUNE and file.status is FileStatus.PROCESSED
    return visit.render(
        "file.html",
        used=used,
        file=file,
        purpose=file_rows.purpose_words(file.purpose),
        verdict=file_rows.verdict(file),
        is_data=is_data,
        models=names,
        model=chosen,
        head="" if is_data else _head(visit, file),
        **(_report_values(visit, file) if is_data else {}),
        **(_row_values(visit, file, chosen or (names[0] if names else "")) if is_data else {}),
    )


def show_report(visit: Visit) -> Response:
    """The report alone, for the script that waits for it."""
    file = files.get(visit.context, visit.resource_id, visit.path_value("file_id"))
    about = {"file": file, "model": visit.query("model")}
    return visit.live("file_report.html", lambda: about | _report_values(visit, file))


def delete(visit: Visit) -> Response:
    """The file is deleted, unless a job waits to read it."""
    file_search.delete_unused(visit.context, visit.resource_id, visit.path_value("file_id"))
    return visit.redirect("/files", notice="file_deleted")


def mend(visit: Visit) -> Response:
    """Stores the mended copy and shows it."""
    made = file_mending.create(visit.context, visit.resource_id, visit.path_value("file_id"))
    return visit.redirect(f"/files/{made.id}", notice="file_mended")


def _list_values(visit: Visit) -> dict[str, object]:
    """What both templates of the list need."""
    group, word, after = visit.query("purpose"), visit.query("q"), visit.query("after")
    purposes = GROUPS.get(group, ())
    found = file_search.search(visit.context, visit.resource_id, purposes, word, after or None, PAGE_ROWS)
    query = {name: value for name, value in (("purpose", group), ("q", word)) if value}
    counts = {name: sum(found.counts.get(one, 0) for one in kinds) for name, kinds in GROUPS.items()}
    return {
        "rows": [file_rows.row(file, found.n_jobs) for file in found.files],
        "counts": {"": sum(found.counts.values()), **counts},
        "group": group if group in GROUPS else "",
        "word": word,
        "is_filtered": bool(query),
        "after": after,
        "first_url": f"/files?{urlencode(query)}" if after else "",
        "next_url": f"/files?{urlencode(query | {'after': found.files[-1].id})}" if found.has_more else "",
        "rows_url": f"/files/rows?{urlencode(query | ({'after': after} if after else {}))}",
    }


def _report_values(visit: Visit, file: File) -> dict[str, object]:
    """The report, for the base model in the URL if there is one; None while the file is being checked."""
    context, checks, chosen = visit.context, visit.services.file_checks, visit.query("model")
    report, mending, problem = None, None, ""
    try:
        if chosen:
            method = data_reports.likely_method(context, file)
            base = model_choices.require_ready_base(models.get(context, visit.resource_id, chosen))
            rules = Rules(method, base, context.base_folder(base.name))
            report = report_view.of_checked(checks.of_upload(context, file, rules))
        else:
            stored = data_reports.stored(context, file)
            report = None if stored is None else report_view.of_stored(stored)
        if report is not None and report.findings:
            mending = checks.of_mending(context, file, Rules(data_reports.likely_method(context, file)))
    except LuthierError as error:
        problem = error.message
    return {"report": report, "mending": _useful(mending), "problem": problem}


def _useful(mending: Mending | None) -> Mending | None:
    """The mending if there is something to say of it: changes, that they are not known, or why there can be none."""
    return mending if mending is not None and (mending.changes or mending.after is None) else None


def _row_values(visit: Visit, file: File, model: str) -> dict[str, object]:
    """Some rows as the base model reads them, and the way to the next ones."""
    after = visit.query("after")
    page, problem = None, ""
    try:
        page = _rows(visit, file, model, visit.query_number("after"))
    except LuthierError as error:
        problem = error.message
    own = {"model": visit.query("model")} if visit.query("model") else {}
    beyond = page.next_after if page is not None else None
    return {
        "page": page,
        "rows_problem": problem,
        "first_rows_url": f"?{urlencode(own)}#rows" if after else "",
        "next_rows_url": f"?{urlencode(own | {'after': beyond})}#rows" if beyond is not None else "",
    }


def _rows(visit: Visit, file: File, model: str, after: int) -> RowPage:
    """One page of rows. The one place that asks for them."""
    return row_preview.rows(visit.context, file, model, None, after, PREVIEW_ROWS)


def _head(visit: Visit, file: File) -> str:
    """The beginning of a file that is no training data, as text; empty if it has no bytes yet, or no text."""
    if file.status is not FileStatus.PROCESSED:
        return ""
    content = files.content(visit.context, file, 0, min(HEAD_BYTES, file.bytes)) if file.bytes else iter(())
    text = b"".join(content).decode("utf-8", "replace")
    return "" if "\x00" in text else text


PAGES: tuple[Page, ...] = (
    get("/files", Action.FILES_READ, show),
    get("/files/rows", Action.FILES_READ, show_rows),
    get("/files/{file_id}", Action.FILES_READ, show_file),
    get("/files/{file_id}/report", Action.FILES_READ, show_report),
    post("/files/{file_id}/delete", Action.FILES_WRITE, delete),
    post("/files/{file_id}/mend", Action.FILES_WRITE, mend),
)
