"""Ids and names as the wire spells them (docs/wire-contract.md section 3). Randomness is an argument: 32 hex digits."""

import re
from collections.abc import Callable

HexSource = Callable[[], str]
"""Gives 32 fresh lower-case hex digits at each call."""

_ACCOUNT = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.CognitiveServices/accounts/([^/]+)/?", re.I
)
DEFAULT_RESOURCE = "default"
"""The id of the resource that every installation has: the tenant of one's own machine."""
CHECKPOINT_MARK = ":ckpt-step-"


def file_id(hex32: str) -> str:
    return f"file-{hex32}"


def upload_id(hex32: str) -> str:
    return f"upload_{hex32}"


def part_id(hex32: str) -> str:
    return f"part_{hex32}"


def batch_id(hex32: str) -> str:
    return f"batch_{hex32}"


def batch_request_id(hex32: str) -> str:
    return f"batch_req_{hex32}"


def job_id(hex32: str) -> str:
    return f"ftjob-{hex32}"


def event_id(hex32: str) -> str:
    return f"ftevent-{hex32}"


def attempt_id(hex32: str) -> str:
    return f"ftattempt-{hex32}"


def checkpoint_id(hex32: str) -> str:
    return f"ftchkpt-{hex32}"


def permission_id(hex32: str) -> str:
    return f"cp_{hex32}"


def webhook_endpoint_id(hex32: str) -> str:
    return f"whe_{hex32}"


def deployment_name(hex32: str) -> str:
    """The name that the data plane of 2022 gives a deployment (wire-contract.md section 14)."""
    return f"deployment-{hex32}"


def account_parts(id: str) -> tuple[str, str, str] | None:
    """Subscription, resource group and account in the control plane's id of a resource; None if it is no such id."""
    match = _ACCOUNT.fullmatch(id)
    return None if match is None else (match[1], match[2], match[3])


def fine_tuned_model(base_model: str, job: str, suffix: str | None) -> str:
    """`{base}.ft-{hex of the job}[-{suffix}]`: Azure's own form, seen live (wire-contract.md section 3)."""
    name = f"{base_model}.ft-{job.removeprefix('ftjob-')}"
    return f"{name}-{suffix}" if suffix else name


def checkpoint_model(tuned_model: str, step: int) -> str:
    """The model name of a job's checkpoint: `{fine-tuned model}:ckpt-step-{step}`; the last one has the plain name."""
    return f"{tuned_model}{CHECKPOINT_MARK}{step}"
