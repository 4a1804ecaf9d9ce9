"""The list of models: base models, fine-tuned ones and checkpoints, with search and pages."""

from urllib.parse import urlencode

from starlette.responses import Response

from luthier.core.roles import Action
from luthier.portal.views.models import model_rows
from luthier.portal.web.page import Page, get
from luthier.portal.web.visit import Visit
from luthier.service.overviews import model_search

PAGE_ROWS = 50
MOST_OF_OTHERS = 50
SHOWS: dict[str, bool | None] = {"models": True, "checkpoints": False, "all": None}
"""The filters by the word in the URL, the first one if there is none."""


def show(visit: Visit) -> Response:
    """Base models, on the first page without a search; then a page of tuned ones."""
    asked = visit.query("show")
    shows = asked if asked in SHOWS else "models"
    word, after = visit.query("q"), visit.query("after")
    found = model_search.search(visit.context, visit.resource_id, SHOWS[shows], word, after or None, PAGE_ROWS)
    query = {"show": shows} | ({"q": word} if word else {})
    is_first = not word and not after
    others, n_others = model_search.of_others(visit.context, visit.resource_id, MOST_OF_OTHERS) if is_first else ([], 0)
    context, catalog = visit.context, visit.context.catalog
    bases = [model_rows.base_row(catalog, one, context.is_ready) for one in catalog.entries.values()]
    return visit.render(
        "models.html",
        bases=sorted(bases, key=lambda base: not base.ready) if is_first else [],
        rows=[model_rows.tuned_row(one, found.jobs, found.deployments) for one in found.models],
        others=[model_rows.tuned_row(one, {}, found.deployments) for one in others],
        n_others=n_others,
        counts={
            "models": found.finals,
            "checkpoints": found.on_the_way,
            "all": found.finals + found.on_the_way,
        },
        shows=shows,
        word=word,
        is_filtered=bool(word or after),
        first_url=f"?{urlencode(query)}" if after else "",
        next_url=f"?{urlencode(query | {'after': found.models[-1].id})}" if found.has_more else "",
    )


PAGES: tuple[Page, ...] = (get("/models", Action.MODELS_READ, show),)
