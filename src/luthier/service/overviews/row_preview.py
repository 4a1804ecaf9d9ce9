"""Some rows of a training file as a base model reads them, for people to look at."""

from dataclasses import dataclass

from luthier.core.errors import InvalidRequest
from luthier.core.models import File
from luthier.core.states import Method
from luthier.service.context import Context
from luthier.service.files import data_reports, shown_rows
from luthier.service.files.data_check import Rules
from luthier.service.files.shown_rows import ShownRow


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows in order; `next_after` is the line to go on after, None at the end."""

    model: str
    method: Method
    rows: list[ShownRow]
    next_after: int | None


def rows(context: Context, file: File, model: str, method: Method | None, after: int = 0, limit: int = 5) -> RowPage:
    """The rows behind line `after`. Without a method the one that the first row suggests.

    Raises InvalidRequest for a file that is no training data and for a model that is no base model here, and TooLarge
    for rows too far in the file.
    """
    base = context.catalog.find(model)
    if base is None or base.embeds or not context.is_ready(base.name):
        raise InvalidRequest("model_not_ready", f"{model} is no base model on this machine to show rows for.", "model")
    method = method or data_reports.likely_method(context, file)
    rules = Rules(method, base, context.base_folder(base.name))
    shown, has_more = shown_rows.page(context, file, rules, after, limit)
    return RowPage(base.name, method, shown, shown[-1].line if shown and has_more else None)
