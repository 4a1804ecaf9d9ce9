"""Many models by name at once, for lists: one transaction, and each name looked up once."""

from collections.abc import Iterable, Mapping

from luthier.core.errors import NotFound
from luthier.service.context import Context
from luthier.service.models import models
from luthier.service.models.models import Model


def find(context: Context, resource_id: str, names: Iterable[str]) -> Mapping[str, Model]:
    """The models of these names, as the resource may use them; a name of none, or without its base, has no entry."""
    found: dict[str, Model] = {}
    with context.database.reading() as tx:
        for name in set(names):
            try:
                model = models.resolve(context, tx, resource_id, name)
            except NotFound:  # its base model is no longer in the catalog
                continue
            if model is not None:
                found[name] = model
    return found
