"""Notices batches that another process has created or cancelled, for the process that runs them."""

from dataclasses import dataclass

from luthier.core.states import BatchStatus
from luthier.service.context import Context
from luthier.store.queries.inference import batches


@dataclass(slots=True)
class BatchWatch:
    """Compares the open batches with those at the last look. One thread at a time."""

    context: Context
    _version: int = -1
    _seen: frozenset[tuple[str, BatchStatus]] = frozenset()

    def has_news(self) -> bool:
        """Whether an open batch is new or has another status; without any commit since, microseconds."""
        version = self.context.database.version()
        if version == self._version:
            return False
        self._version = version
        with self.context.database.reading() as tx:
            now = frozenset((batch.id, batch.status) for batch in batches.list_open(tx))
        has_news = bool(now - self._seen)
        self._seen = now
        return has_news
