"""The new-job assistant: data, report, model, method and settings, estimate, the same as code; and the start."""

from collections.abc import Mapping

from starlette.responses import Response

from luthier.core.errors import LuthierError
from luthier.core.models import File
from luthier.core.roles import Action
from luthier.core.states import FilePurpose, Method
from luthier.core.training.recipe import Schedule
from luthier.portal.views import auto_values, file_rows, job_code, job_form, model_choices, report_view
from luthier.portal.views.job_form import ReadForm
from luthier.portal.views.report_view import ReportView
from luthier.portal.web import addresses
from luthier.portal.web.page import Page, get, post
from luthier.portal.web.visit import MAX_WORD, Visit
from luthier.service.files import data_reports, file_mending, files
from luthier.service.jobs import job_creation
from luthier.service.models import models
from luthier.service.overviews import example_data, file_search, run_preview
from luthier.service.overviews.run_preview import RunPreview

LISTED_FILES = 50
RECIPE_HINTS = (
    ("learning_rate", "Peak learning rate", "in place of the multiplier, such as 2e-4"),
    ("lora_rank", "LoRA rank", "default: the model's own, mostly 16"),
    ("lora_alpha", "LoRA alpha", "default: in proportion to the rank"),
    ("lora_dropout", "LoRA dropout", "0 to 0.9; above 0 training is slower"),
    ("lora_targets", "Modules with an adapter", "such as q_proj,v_proj; default: all linear ones"),
    ("max_tokens", "Longest row in tokens", "default: the model's context"),
    ("warmup", "Warm-up", "steps; below 1 a share of all steps"),
    ("weight_decay", "Weight decay", "0 to 1; default: 0"),
)
"""Name, label and hint of the recipe's fields that are plain inputs."""


def show(visit: Visit) -> Response:
    """The form for the URL's parameters; its script asks for the same again with every change."""
    fields = {name: visit.query(name) for name in job_form.FIELDS}
    fields["model"] = fields["model"] or visit.query("from")
    return _page(visit, _with_method(visit, fields, visit.query("method_for")))


def create(visit: Visit) -> Response:
    """Creates the job as the API does, or shows the form again with each problem at its field."""
    fields = _with_method(visit, _sent(visit), visit.field("method_for"))
    read = job_form.read(fields, Method(fields["method"]))
    preview = _preview(visit, read)
    if read.problems or preview.why_not:
        return _page(visit, fields, read, preview, status=400)
    try:
        job = job_creation.create(visit.context, visit.resource_id, read.request)
    except LuthierError as error:
        preview.problems.append(error)
        return _page(visit, fields, read, preview, status=400)
    visit.services.wake()
    return visit.redirect(f"/jobs/{job.id}", notice="job_created")


def mend(visit: Visit) -> Response:
    """Stores a mended copy of the training file and comes back with that chosen, all else as it was."""
    fields = _sent(visit)
    made = file_mending.create(visit.context, visit.resource_id, fields["training_file"])
    kept = {name: value for name, value in fields.items() if value and name != "method"}
    return visit.redirect("/jobs/new", **(kept | {"training_file": made.id, "notice": "file_chosen"}))


def use_examples(visit: Visit) -> Response:
    """Stores the example files and comes back with them chosen, all else as it was."""
    training, validation = example_data.create(visit.context, visit.resource_id)
    kept = {name: value for name, value in _sent(visit).items() if value and name != "method"}
    chosen = {"training_file": training.id, "validation_file": validation.id, "notice": "examples_chosen"}
    return visit.redirect("/jobs/new", **(kept | chosen))


def _sent(visit: Visit) -> dict[str, str]:
    """The form's fields as they were sent."""
    return {name: visit.field(name) for name in job_form.FIELDS}


def _with_method(visit: Visit, fields: dict[str, str], method_for: str) -> dict[str, str]:
    """The fields with a method and a model: a method that was chosen for other data gives way to what this suggests."""
    is_for_other_data = bool(method_for) and method_for != fields["training_file"]
    if is_for_other_data or fields["method"] not in list(Method):
        fields["method"] = _suggested(visit, fields["training_file"])[0]
    return fields


def _suggested(visit: Visit, file_id: str) -> tuple[Method, str]:
    """The method that the data suggests, and why, in a sentence."""
    if not file_id:
        return Method.SUPERVISED, "The usual choice: the model learns to write the answers of your chats."
    try:
        method = data_reports.likely_method(visit.context, files.get(visit.context, visit.resource_id, file_id))
    except LuthierError:
        return Method.SUPERVISED, ""
    if method is Method.DPO:
        return method, "Suggested by your data: its rows are preference pairs, so the method is DPO."
    return method, "Suggested by your data: its rows are chats, so the method is supervised."


def _preview(visit: Visit, read: ReadForm) -> RunPreview:
    """The job of the form, before it is created."""
    return run_preview.preview(visit.context, visit.services.file_checks, visit.resource_id, read.request)


def _page(
    visit: Visit,
    fields: dict[str, str],
    read: ReadForm | None = None,
    preview: RunPreview | None = None,
    status: int = 200,
) -> Response:
    """The form, filled with `fields`."""
    listed = models.list_all(visit.context, visit.resource_id)
    choices = model_choices.choices(listed, visit.resource_id, fields["model"])
    if not fields["model"]:
        fields["model"] = choices.first
        read = preview = None
    read = read or job_form.read(fields, Method(fields["method"]))
    preview = preview or _preview(visit, read)
    problems = _problems(read, preview)
    url = f"{visit.request.url.scheme}://{visit.request.headers.get('host', '')}{addresses.api(visit.request)}"
    answer = visit.render(
        "new_job.html",
        fields=fields,
        problems=problems,
        why_not=next(iter(read.problems.values()), "") or preview.why_not,
        preview=preview,
        training=_training_report(preview),
        validation=None if preview.validation is None else report_view.of_checked(preview.validation),
        mending=_useful_mending(preview),
        suggestion=_suggested(visit, fields["training_file"])[1],
        notes=auto_values.notes(preview),
        choices=choices,
        model_facts=[] if preview.model is None else model_choices.facts(preview.model),
        model_sentence="" if preview.model is None else model_choices.sentence(preview.model),
        recipe_hints=RECIPE_HINTS,
        schedules=list(Schedule),
        has_recipe=any(fields[name] or problems.get(name) for name in job_form.RECIPE),
        azure_code=job_code.azure_python(read.body, url),
        openai_code=job_code.openai_python(read.body, url),
        command=job_code.command(read.body),
        url=url,
        **_file_values(visit, fields),
    )
    answer.status_code = status
    return answer


def _training_report(preview: RunPreview) -> ReportView | None:
    """The report on the training data: for the model, or what is stored of a file that is not read here."""
    if preview.training is not None:
        return report_view.of_checked(preview.training)
    return None if preview.stored is None else report_view.of_stored(preview.stored)


def _problems(read: ReadForm, preview: RunPreview) -> Mapping[str, str]:
    """A sentence by field, "" for what belongs to none; of two for one field the first."""
    found = dict(read.problems)
    for error in preview.problems:
        if error.code == "model_not_found" and not preview.request.model:
            continue  # there is no base model on this machine: the list of models says what to do
        found.setdefault(job_form.field_of(error.param), error.message)
    return found


def _useful_mending(preview: RunPreview) -> object:
    """The mending if the file needs it, and there is something to say of it."""
    made = preview.mending
    return (
        made if made is not None and (made.changes or (made.after is None and not preview.training_is_valid)) else None
    )


def _file_values(visit: Visit, fields: Mapping[str, str]) -> dict[str, object]:
    """The newest training files for the lists, those that are chosen in any case."""
    word = visit.query("find") or visit.field("find")[:MAX_WORD]
    purposes = (FilePurpose.FINE_TUNE,)
    found = file_search.search(visit.context, visit.resource_id, purposes, word, None, LISTED_FILES)
    listed: list[File] = list(found.files)
    for name in ("training_file", "validation_file"):
        if fields[name] and fields[name] not in {file.id for file in listed}:
            try:
                listed.append(files.get(visit.context, visit.resource_id, fields[name]))
            except LuthierError:
                continue  # the field says that there is no such file
    return {
        "listed": [file_rows.row(file, {}) for file in listed],
        "listed_ids": {file.id for file in listed},
        "has_more_files": found.has_more,
        "find": word,
    }


PAGES: tuple[Page, ...] = (
    get("/jobs/new", Action.JOBS_WRITE, show),
    post("/jobs/new", Action.JOBS_WRITE, create),
    post("/jobs/new/mend", Action.FILES_WRITE, mend),
    post("/jobs/new/examples", Action.FILES_WRITE, use_examples),
)
