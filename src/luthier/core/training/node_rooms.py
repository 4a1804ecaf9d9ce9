"""Whether a run fits on a node, and what it leaves there: one rule for placement and for what executors count."""

from dataclasses import replace

from luthier.core.training.executor_port import NodeRoom, RunNeeds

_ROUNDING = 1e-9
"""What sums of fractions of a CPU or GPU may be off by."""


def is_open(room: NodeRoom) -> bool:
    """Whether any run at all could start there now."""
    return (room.runs is None or room.runs > 0) and (room.cpus > _ROUNDING or room.gpus > _ROUNDING)


def fits(room: NodeRoom, needs: RunNeeds) -> bool:
    """Whether a run fits beside what runs there. One of unknown memory fits where no other run is counted."""
    if not is_open(room) or lack(room, needs) != (0.0, 0.0) or not has_labels(room, needs):
        return False
    if room.memory_bytes is None:
        return True
    if room.busy_runs == 0 and (room.takes_any_alone or not needs.memory_bytes):
        return True
    return 0 < needs.memory_bytes <= room.memory_bytes


def without(room: NodeRoom, needs: RunNeeds) -> NodeRoom:
    """The room that is left beside one more run; none if that one's memory is not known and memory counts here."""
    left = None if room.runs is None else max(0, room.runs - 1)
    if room.memory_bytes is not None and not needs.memory_bytes:
        left = 0
    return replace(
        room,
        cpus=room.cpus - needs.cpus,
        gpus=room.gpus - needs.gpus,
        memory_bytes=None if room.memory_bytes is None else room.memory_bytes - needs.memory_bytes,
        runs=left,
        busy_runs=room.busy_runs + 1,
    )


def could_hold(room: NodeRoom, needs: RunNeeds) -> bool:
    """Whether the node could hold the run if it were empty; True if the node does not say what it holds."""
    if room.holds is None:
        return has_labels(room, needs)
    whole = room.holds
    has_memory = room.takes_any_alone or not whole.memory_bytes or needs.memory_bytes <= whole.memory_bytes
    has_cores = needs.cpus <= whole.cpus + _ROUNDING and needs.gpus <= whole.gpus + _ROUNDING
    return has_cores and has_memory and has_labels(room, needs)


def lack(room: NodeRoom, needs: RunNeeds) -> tuple[float, float]:
    """How many GPUs and CPUs the node has too few now."""
    gpus, cpus = needs.gpus - room.gpus, needs.cpus - room.cpus
    return (gpus if gpus > _ROUNDING else 0.0, cpus if cpus > _ROUNDING else 0.0)


def has_labels(room: NodeRoom, needs: RunNeeds) -> bool:
    """Whether the node has every label that the run asks for."""
    return all(room.labels.get(name) == value for name, value in needs.labels.items())
