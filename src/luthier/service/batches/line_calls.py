"""The port through which a batch has its lines answered: `api` implements it, with what the live routes are made of."""

from dataclasses import dataclass
from typing import Protocol

from luthier.core.errors import LuthierError
from luthier.core.inference.batches import Batch
from luthier.core.inference.generation import Usage


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """What the live route would have sent: its status and its body as JSON; `usage` is None for an error."""

    status: int
    body: bytes
    usage: Usage | None = None


class LineCalls(Protocol):
    """Answers lines of batches as the live routes would, in the background of those."""

    async def answer(self, batch: Batch, body: bytes) -> LineAnswer:
        """The complete answer to a line's body, on the event loop. Raises LuthierError where the route would."""
        ...

    def refusal(self, batch: Batch, error: LuthierError) -> LineAnswer:
        """The answer that the route would send for an error: its status, in the envelope of the batch's dialect."""
        ...

    def check_model(self, batch: Batch, model: str) -> None:
        """Raises LuthierError if no deployment or model of this name answers now. Reads the database."""
        ...
