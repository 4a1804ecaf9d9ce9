"""The playground: one prompt to up to four models side by side, through the public API; good answers become rows."""

from starlette.responses import Response

from luthier.core.roles import Action
from luthier.portal.views import playground_form
from luthier.portal.web.page import Page, get
from luthier.portal.web.visit import Visit
from luthier.service.overviews import chat_models

DEFAULTS = {"max_tokens": "256"}
"""What a parameter is before anybody chooses; the others are left to the API."""


def show(visit: Visit) -> Response:
    """The page. Its models and parameters are in the URL; prompts never are."""
    models = chat_models.list_all(visit.context, visit.resource_id)
    asked = visit.query_list("model")
    columns, unknown = playground_form.columns(models, asked or playground_form.first_choice(models))
    tuned = [checkpoint for column in columns if (checkpoint := models.checkpoint(column.name)) is not None]
    may_read_rows = visit.may(Action.FILES_READ) and visit.may(Action.JOBS_READ)
    messages = chat_models.system_messages(visit.context, visit.resource_id, tuned) if may_read_rows else []
    return visit.render(
        "playground.html",
        groups=playground_form.groups(models, [column.name for column in columns]),
        columns=columns,
        unknown=unknown,
        letters=playground_form.LETTERS,
        messages=messages,
        may_read_rows=may_read_rows,
        numbers={
            name: playground_form.number(name, visit.query(name, DEFAULTS.get(name, "")))
            for name in playground_form.NUMBERS
        },
        stop=visit.query("stop")[:256],
        logprobs=visit.query("logprobs") == "1",
    )


PAGES: tuple[Page, ...] = (get("/playground", Action.INFER, show),)
