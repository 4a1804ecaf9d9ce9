"""Models that answer: brings a model's files together, has the engine load it, and proves served = trained once."""

import logging
import shutil
import threading
from collections import defaultdict
from pathlib import Path

from luthier import manifest
from luthier.core.errors import Unavailable, UpstreamFailed
from luthier.core.models import Checkpoint
from luthier.core.ports import Address, Engine, ParityCheck, ParityReport, ServedModel
from luthier.durable import sync_folder
from luthier.service import models
from luthier.service.context import Context
from luthier.service.models import Model

logger = logging.getLogger(__name__)


class Serving:
    """Hands out addresses of models whose proof holds. One lock a model: the first caller loads, the others wait."""

    def __init__(self, context: Context, engine: Engine, check_parity: ParityCheck) -> None:
        self._context = context
        self._engine = engine
        self._check_parity = check_parity
        self._proofs: dict[str, ParityReport] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def address(self, model: Model, proven: bool = False) -> Address:
        """Where the model answers, loading it if need be, and proving it unless it was `proven` when it was deployed.

        Raises Unavailable and UpstreamFailed.
        """
        with self._locks[model.canonical_name]:
            served = self._served(model)
            address = self._engine.ensure(served)
            if not proven and model.canonical_name not in self._proofs:
                report = self._prove(model, served, address)
                if not report.agrees:
                    raise UpstreamFailed(
                        "parity_failed",
                        f"{model.canonical_name} is not served: what the engine answers is not what was trained. "
                        f"{report.reason}",
                    )
            return address

    def prove(self, model: Model) -> ParityReport:
        """Loads the model and asks its probes now, whatever was proven before."""
        with self._locks[model.canonical_name]:
            served = self._served(model)
            return self._prove(model, served, self._engine.ensure(served))

    def release(self, name: str) -> None:
        """Lets the engine forget a model; whoever calls it again has it loaded again."""
        with self._locks[name]:
            self._engine.release(name)
            self._proofs.pop(name, None)

    def discard(self, checkpoint: Checkpoint) -> None:
        """Forgets a deleted model, its files here included."""
        self.release(checkpoint.model)
        shutil.rmtree(self._folder(checkpoint), ignore_errors=True)

    def _prove(self, model: Model, served: ServedModel, address: Address) -> ParityReport:
        report = self._check_parity(address, served.adapter_folder or served.base_folder)
        logger.info(
            "parity model=%s agrees=%s max=%.5f mean=%.5f positions=%d tolerance=%g",
            model.canonical_name,
            report.agrees,
            report.max_difference,
            report.mean_difference,
            report.positions,
            report.tolerance,
        )
        if report.agrees:
            self._proofs[model.canonical_name] = report
        return report

    def _served(self, model: Model) -> ServedModel:
        if not model.ready:
            raise Unavailable(
                "model_not_ready",
                f"The weights of {model.base.name} are not on this machine. Run: luthier models pull {model.base.name}",
            )
        base_folder = self._context.base_folder(model.base.name)
        if model.checkpoint is None:
            return ServedModel(model.canonical_name, model.base.name, base_folder, None)
        folder = self._local_folder(model.checkpoint)
        if manifest.MODEL_FILE in model.checkpoint.files:  # all weights were tuned: it is a base of its own
            return ServedModel(model.canonical_name, model.base.name, folder, None)
        return ServedModel(model.canonical_name, model.base.name, base_folder, folder)

    def _local_folder(self, checkpoint: Checkpoint) -> Path:
        folder = self._folder(checkpoint)
        if not folder.exists():
            bring(self._context, checkpoint, folder)
        return folder

    def _folder(self, checkpoint: Checkpoint) -> Path:
        """One folder for a checkpoint and its copies: the same bytes under the same name are one model to an engine."""
        return self._context.served_folder / (checkpoint.copied_from or checkpoint.id)


def bring(context: Context, checkpoint: Checkpoint, folder: Path) -> None:
    """Copies a checkpoint's files from the blob store into a local folder, which appears whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in checkpoint.files:
        with (temporary / name).open("wb") as stream:
            try:
                stream.writelines(context.blobs.open(models.blob_key(checkpoint.id, name)))
            except FileNotFoundError as error:
                raise models.not_found(checkpoint.model) from error
    temporary.rename(folder)
    sync_folder(folder.parent)
