"""Status for operators: version, machine, free memory and disk, queue. For a route of the API and `luthier status`."""

import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil

from luthier import __version__
from luthier.core.models import Principal
from luthier.core.states import JobStatus
from luthier.model_folder import BaseModelFolder
from luthier.service.context import Context
from luthier.store.queries import deployments, jobs

PACKAGES = ("torch", "transformers", "peft", "xllamacpp", "openai")
"""The packages on which a model's numbers and a client's calls depend."""
GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class Machine:
    """Resources of this machine, in bytes; `gpus` are the driver's names."""

    cores: int
    gpus: tuple[str, ...]
    memory_bytes: int
    memory_free_bytes: int
    disk_bytes: int
    disk_free_bytes: int


def machine(folder: Path) -> Machine:
    """This machine now; the disk is that of `folder`, or of its nearest existing parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(folder)
    cores = psutil.cpu_count() or 1
    return Machine(cores, tuple(_gpus()), memory.total, memory.available, disk.total, disk.free)


def versions() -> dict[str, str]:
    """Versions of Luthier, Python and those of PACKAGES that are installed, without importing them."""
    installed = {"luthier": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def base_models(models_folder: Path, names: list[str]) -> list[str]:
    """Those of the names whose base models have been pulled."""
    return [name for name in names if BaseModelFolder(models_folder / name).is_complete]


def describe(context: Context, caller: Principal, train_device: str) -> dict[str, object]:
    """The status for a caller: its own resource, and of the others only the number of jobs."""
    with context.database.reading() as tx:
        queue = jobs.count_open(tx)
        own = deployments.list_all(tx, caller.resource.id)
    return {
        "object": "luthier.status",
        "key": {"name": caller.key_name, "roles": sorted(caller.roles)},
        "train_device": train_device,
        "machine": asdict(machine(context.data_folder)),
        "queue": {str(status): queue[status] for status in JobStatus if status in queue},
        "deployments": {one.name: str(one.state) for one in own},
        "base_models": base_models(context.models_folder, list(context.catalog.entries)),
        "versions": versions(),
    }


def _gpus() -> list[str]:
    """Names from the driver's proc files: torch or nvidia-smi would take seconds."""
    names = []
    for path in sorted(GPUS.glob("*/information")):
        try:
            lines = dict(line.split(":", 1) for line in path.read_text("utf-8", "replace").splitlines() if ":" in line)
        except OSError:
            continue
        names.append(lines.get("Model", "GPU").strip())
    return names
