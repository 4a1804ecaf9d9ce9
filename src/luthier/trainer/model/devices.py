"""The device a run computes on: choosing it, its training dtype, moving a batch to it, its free and peak memory."""

import dataclasses
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
import torch

from luthier.core.errors import Unavailable
from luthier.run_directory.run_directory import DEVICE_VARIABLE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CPU = torch.device("cpu")
_CGROUPS = Path("/sys/fs/cgroup")

_Value = TypeVar("_Value", bound="DataclassInstance")


def choose_device() -> torch.device:
    """The device that the executor asks for by DEVICE_VARIABLE; by default a GPU where torch sees one.

    Raises Unavailable (device_missing), for the operator, if the variable has another value, or asks for a GPU where
    torch finds none: a run must not take days by surprise.
    """
    asked = os.environ.get(DEVICE_VARIABLE, "auto")
    if asked not in ("auto", "cpu", "cuda"):
        raise Unavailable("device_missing", f"{DEVICE_VARIABLE} is {asked!r}; it must be auto, cpu or cuda.")
    if asked == "cpu" or not torch.cuda.is_available():
        if asked == "cuda":
            raise Unavailable(
                "device_missing",
                f"{DEVICE_VARIABLE} is cuda, but torch {torch.__version__} finds no GPU on this machine. Install torch "
                "for CUDA and the driver, or set it to auto.",
            )
        return CPU
    local_rank = int(os.environ.get("LOCAL_RANK", torch.cuda.current_device()))
    if local_rank >= torch.cuda.device_count():
        raise Unavailable(
            "device_missing",
            f"Rank {local_rank} of this machine needs a GPU of its own, and torch finds {torch.cuda.device_count()}. "
            "Start as many ranks as there are GPUs.",
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def training_dtype(device: torch.device = CPU) -> torch.dtype:
    """bfloat16 where the device multiplies it natively; else float32, since emulated bfloat16 is slower than that."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16")
    return torch.bfloat16 if fast else torch.float32


def has_amx() -> bool:
    """Whether the CPU has AMX; its matrix products want more rows at once than those of other instructions."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def to_device(value: _Value, device: torch.device) -> _Value:
    """A copy of a frozen dataclass with its tensors on `device`; on a CPU the value itself.

    To a GPU they are copied from pinned memory, so that neither side waits for the other.
    """
    if device.type == "cpu":
        return value
    tensors = {}
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        if isinstance(found, torch.Tensor):
            pinned = found.pin_memory() if device.type == "cuda" else found
            tensors[field.name] = pinned.to(device, non_blocking=True)
    return dataclasses.replace(value, **tensors)


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that the run can still allocate on its device.

    On a GPU: what is free, and what torch holds of it unused. Else what the machine has available, or less if a control
    group's limit leaves less.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    limits = cgroup_bytes(_CGROUPS, Path("/proc/self/cgroup"))
    return int(min(psutil.virtual_memory().available, *limits)) if limits else int(psutil.virtual_memory().available)


def cgroup_bytes(root: Path, membership: Path) -> list[int]:
    """Bytes that are left below each memory limit of this process's control group (version 2) and of those above it.

    Empty where none has a limit; containers set them. Pages of files that nobody used lately count as free, for the
    kernel takes them first. `root` is where the groups are mounted, `membership` /proc/self/cgroup.
    """
    if not membership.exists():
        return []
    own = next((line[3:] for line in membership.read_text().splitlines() if line.startswith("0::")), None)
    if own is None:
        return []
    left = []
    folder = root / own.strip("/")
    for group in (folder, *folder.parents):
        if not group.is_relative_to(root):
            break
        limit, used = group / "memory.max", group / "memory.current"
        if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
            left.append(max(0, int(most) - int(used.read_text()) + _idle_file_bytes(group / "memory.stat")))
    return left


def peak_bytes(device: torch.device) -> int:
    """The most bytes of memory that this process has taken so far: on the GPU, or resident in the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _idle_file_bytes(path: Path) -> int:
    """Bytes of file pages that a control group's memory.stat calls inactive; 0 if the file is missing."""
    if not path.exists():
        return 0
    fields = dict(line.split() for line in path.read_text().splitlines())
    return int(fields.get("inactive_file", 0))
