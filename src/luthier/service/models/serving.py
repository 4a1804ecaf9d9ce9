"""Models in an engine: copies a model's files, has the engine load it, and checks parity (served = trained) once."""

import asyncio
import logging
import shutil
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from luthier import model_folder
from luthier.atomic_io import disk_full_as_no_space
from luthier.core.engine_ports import Address, Engine, EngineState, ParityCheck, ServedModel
from luthier.core.errors import Unavailable, UpstreamFailed
from luthier.core.models import Checkpoint
from luthier.service.context import Context
from luthier.service.models import models, whole_folders
from luthier.service.models.models import Model
from luthier.service.models.proofs import Proof, Proofs
from luthier.store.queries import copies

logger = logging.getLogger(__name__)

LOADS_AT_ONCE = 8
"""Concurrent loads for waiting callers; models on one base are loaded one after another anyway."""


class Serving:
    """Gives addresses of models that passed the parity check. One lock per model: the first caller loads, others wait.

    Safe from several threads; what was proven is kept in memory, until `release` or the end of the process.
    """

    def __init__(self, context: Context, engine: Engine, check_parity: ParityCheck) -> None:
        self._context = context
        self._engine = engine
        self._proofs = Proofs(engine, check_parity)
        self._loads: dict[tuple[str, bool], asyncio.Future[Address]] = {}
        self._threads = ThreadPoolExecutor(LOADS_AT_ONCE, "load")
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def address(self, model: Model, proven: bool = False) -> Address:
        """Where the model answers; loads it if needed, and checks parity unless `proven` by its deployment.

        Blocks meanwhile. Raises Unavailable, NotFound for deleted files, UpstreamFailed if there is no parity, and
        NoSpace for a disk that has no room for the model's files or its engine's.
        """
        with self._locks[model.canonical_name], disk_full_as_no_space(self._context.served_folder):
            served = self._served(model)
            address = self._engine.ensure(served)
            if not proven and not self._proofs.holds(model.canonical_name):
                report = self._proofs.prove(served, address, model.logged_id).report
                if not report.agrees:
                    raise UpstreamFailed(
                        "parity_failed",
                        f"{model.canonical_name} is not served: {differs(model)} {report.reason}",
                    )
            return address

    async def address_when_loaded(self, model: Model, proven: bool = False) -> Address:
        """As `address`, for callers on the event loop: at once for a loaded model, else all its callers await one load,
        which runs in a thread and goes on if they leave.
        """
        address = self._address_now(model, proven)
        if address is not None:
            return address
        key = (model.canonical_name, proven)
        load = self._loads.get(key)
        if load is None or load.get_loop() is not asyncio.get_running_loop():
            load = asyncio.wrap_future(self._threads.submit(self.address, model, proven))
            self._loads[key] = load
            load.add_done_callback(partial(self._loaded, key))
        return await asyncio.shield(load)

    def faults(self) -> Sequence[str]:
        """Why models that should answer do not, a sentence each."""
        return self._engine.faults()

    def prove(self, model: Model, beside_all: bool = False) -> Proof:
        """Loads the model and checks parity now, whatever was checked before; `beside_all` as in `Proofs.prove`.

        Blocks meanwhile. Raises Unavailable, and NotFound for deleted files; a report that does not agree is a result.
        """
        with self._locks[model.canonical_name], disk_full_as_no_space(self._context.served_folder):
            served = self._served(model)
            return self._proofs.prove(served, self._engine.ensure(served), model.logged_id, beside_all)

    async def prove_beside_all(self, model: Model) -> Proof:
        """As `prove` with all models beside it, for callers on the event loop: in a thread of the loads."""
        return await asyncio.wrap_future(self._threads.submit(self.prove, model, True))

    def state(self, model: Model) -> EngineState:
        """What serves the model and whether it is loaded; loads nothing."""
        return self._engine.state(self._as_served(model))

    def release(self, name: str) -> None:
        """Unloads a model, by its canonical name, and forgets its parity; the next call loads it again."""
        with self._locks[name]:
            self._engine.release(name)
            self._proofs.forget(name)

    def discard(self, checkpoint: Checkpoint) -> None:
        """Unloads a deleted model and removes its local files."""
        self.remove(checkpoint.model, self._folder(checkpoint).name)

    def remove(self, name: str, folder: str) -> None:
        """Unloads a model by its canonical name, and removes the local files in the folder of that name, an id."""
        self.release(name)
        shutil.rmtree(self._context.served_folder / Path(folder).name, ignore_errors=True)

    def _address_now(self, model: Model, proven: bool) -> Address | None:
        """Where a loaded model answers that passed the check, else None; takes no lock that a load holds."""
        if not proven and not self._proofs.holds(model.canonical_name):
            return None
        if model.checkpoint is not None and not self._folder(model.checkpoint).exists():
            return None
        return self._engine.loaded(self._served(model))

    def _loaded(self, key: tuple[str, bool], load: "asyncio.Future[Address]") -> None:
        """Forgets a load that is done."""
        self._loads.pop(key, None)
        if not load.cancelled():
            load.exception()  # retrieved, if every caller has left

    def _served(self, model: Model) -> ServedModel:
        """The model as an engine takes it; its files are copied to a local folder if they are not there.

        Raises Unavailable if the base weights are not on this machine.
        """
        if not model.ready:
            raise Unavailable(
                "model_not_ready",
                f"The weights of {model.base.name} are not on this machine. Run: luthier models pull {model.base.name}",
            )
        if model.checkpoint is not None:
            self._copy_files(model.checkpoint)
        return self._as_served(model)

    def _as_served(self, model: Model) -> ServedModel:
        """The model as an engine takes it, whether its files are there or not."""
        base_folder = self._context.base_folder(model.base.name)
        if model.checkpoint is None:
            return ServedModel(model.canonical_name, model.base.name, base_folder, None, embeds=model.base.embeds)
        folder = self._folder(model.checkpoint)
        if model_folder.WEIGHTS in model.checkpoint.files:  # all weights were tuned: it is a base of its own
            return ServedModel(model.canonical_name, model.base.name, folder, None)
        return ServedModel(model.canonical_name, model.base.name, base_folder, folder)

    def _copy_files(self, checkpoint: Checkpoint) -> None:
        """Copies a checkpoint's files into its local folder, unless they are there. Raises NotFound."""
        folder = self._folder(checkpoint)
        if not folder.exists():
            copy_files(self._context, checkpoint, folder)

    def _folder(self, checkpoint: Checkpoint) -> Path:
        """One folder for a checkpoint and its copies: the same bytes under the same name are one model to an engine."""
        return self._context.served_folder / (checkpoint.copied_from or checkpoint.id)


def differs(model: Model) -> str:
    """The sentence for a model without parity, before the figures of its report."""
    if model.base.embeds:
        return "the engine's vectors differ from the stored ones."
    return "the engine's log-probabilities differ from the trainer's."


def copy_files(context: Context, checkpoint: Checkpoint, folder: Path) -> None:
    """Copies a checkpoint's files from the blob store into a new local folder, atomically.

    Another process may do the same at the same time: the first one's folder stays, the files are equal. Raises NotFound
    if one was deleted.
    """

    def fill(empty: Path) -> None:
        """Writes the files."""
        for name in checkpoint.files:
            with (empty / name).open("wb") as stream:
                try:
                    stream.writelines(context.blobs.open(models.blob_key(checkpoint.id, name)))
                except FileNotFoundError as error:
                    raise models.not_found(checkpoint.model) from error

    whole_folders.make(context, folder, fill)


def remove_gone(context: Context) -> None:
    """Removes the local files of models that were deleted while this process was not there to be told."""
    if not context.served_folder.exists():
        return
    folders = [path for path in context.served_folder.iterdir() if not path.name.startswith(".")]
    with context.database.reading() as tx:
        kept = copies.existing_bytes(tx, [path.name for path in folders])
    for path in folders:
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
