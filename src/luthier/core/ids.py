"""Ids and names as the wire spells them (contract section 3). Randomness is an argument: 32 hex digits."""

from collections.abc import Callable

HexSource = Callable[[], str]
"""Gives 32 fresh lower-case hex digits at each call."""

CHECKPOINT_MARK = ":ckpt-step-"


def file_id(hex32: str) -> str:
    return f"file-{hex32}"


def upload_id(hex32: str) -> str:
    return f"upload_{hex32}"


def part_id(hex32: str) -> str:
    return f"part_{hex32}"


def job_id(hex32: str) -> str:
    return f"ftjob-{hex32}"


def event_id(hex32: str) -> str:
    return f"ftevent-{hex32}"


def attempt_id(hex32: str) -> str:
    return f"ftattempt-{hex32}"


def checkpoint_id(hex32: str) -> str:
    return f"ftchkpt-{hex32}"


def fine_tuned_model(base_model: str, job: str, suffix: str | None) -> str:
    """`{base}.ft-{hex of the job}[-{suffix}]`: Azure's own form, seen live (contract section 3)."""
    name = f"{base_model}.ft-{job.removeprefix('ftjob-')}"
    return f"{name}-{suffix}" if suffix else name


def checkpoint_model(tuned_model: str, step: int) -> str:
    return f"{tuned_model}{CHECKPOINT_MARK}{step}"
