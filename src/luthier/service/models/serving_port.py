"""What requests and housekeeping need of models that are served: by this process's engines, or by hosts."""

from collections.abc import Sequence
from typing import Protocol

from luthier.core.engine_ports import Address, EngineState
from luthier.core.models import Checkpoint
from luthier.service.models.models import Model
from luthier.service.models.proofs import Proof


class ServedModels(Protocol):
    """Implemented by `serving.Serving` and `hosted_serving.HostedServing`. Safe from several threads."""

    async def address_when_loaded(self, model: Model, proven: bool = False) -> Address:
        """Where the model answers, once it is loaded and has passed the parity check; `proven` by its deployment.

        Raises Unavailable, NotFound for deleted files, UpstreamFailed if there is no parity, and NoSpace.
        """
        ...

    def faults(self) -> Sequence[str]:
        """Why models that should answer do not, a sentence each; never waits."""
        ...

    def prove(self, model: Model, beside_all: bool = False) -> Proof:
        """Loads the model and checks parity now. Blocks meanwhile; raises as `address_when_loaded`."""
        ...

    async def prove_beside_all(self, model: Model) -> Proof:
        """As `prove` with all models beside it, for callers on the event loop."""
        ...

    def state(self, model: Model) -> EngineState:
        """What serves the model and whether it is loaded; loads nothing. May block for two seconds."""
        ...

    def release(self, name: str) -> None:
        """Unloads a model, by its canonical name, and forgets its parity."""
        ...

    def discard(self, checkpoint: Checkpoint) -> None:
        """Unloads a deleted model and removes its local files."""
        ...
