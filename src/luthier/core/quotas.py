"""Limits: what one file and one job may hold, and a resource's quotas by name with Azure's as defaults.

The defaults and their sources are in docs/wire-contract.md section 16; limits that an operator has set are rows.
"""

from enum import StrEnum

from luthier.core import ids

MAX_FILE_BYTES = 512 * 1024 * 1024
"""Of a file to train on: the guide says "less than 512 MB" (wire-contract.md section 16); 512 MiB are taken as well."""
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_CHARACTERS = 64
MAX_METADATA_VALUE_CHARACTERS = 512
MAX_SUFFIX_CHARACTERS = 64
"""Of the suffix of a model's name. A dialect may take less (wire-contract.md section 16)."""


class Quota(StrEnum):
    """What a resource may hold only so much of. The values are the names that operators type and rows carry."""

    FILES = "files"
    FILE_BYTES = "file_bytes"
    JOBS = "jobs"
    QUEUED_JOBS = "queued_jobs"
    RUNNING_JOBS = "running_jobs"
    """Nothing is refused for it: jobs above it wait."""
    DEPLOYMENTS = "deployments"
    FINE_TUNED_DEPLOYMENTS = "fine_tuned_deployments"
    JOB_TOKENS = "job_tokens"

    @property
    def is_counted(self) -> bool:
        """Whether usage adds up over a resource's objects; False for a limit on each job by itself."""
        return self is not Quota.JOB_TOKENS


DEFAULTS: dict[Quota, int] = {
    Quota.FILES: 100,
    Quota.FILE_BYTES: 2**30,
    Quota.JOBS: 100,
    Quota.QUEUED_JOBS: 20,
    Quota.RUNNING_JOBS: 3,
    Quota.DEPLOYMENTS: 32,
    Quota.FINE_TUNED_DEPLOYMENTS: 10,
    Quota.JOB_TOKENS: 2_000_000_000,
}
OWN_DEFAULTS: dict[Quota, int] = DEFAULTS | {
    Quota.FILES: 10**6,
    Quota.FILE_BYTES: 2**40,
    Quota.JOBS: 10**6,
    Quota.RUNNING_JOBS: 10**6,
}
"""Of the resource that every installation has. Azure's counts divide a vendor's machine among tenants, and a job leaves
three files: on a machine of one's own they would end the work after 33 jobs. There the disk is the limit."""
TITLES: dict[Quota, str] = {
    Quota.FILES: "Files",
    Quota.FILE_BYTES: "Bytes of all files together",
    Quota.JOBS: "Fine-tuning jobs in all",
    Quota.QUEUED_JOBS: "Fine-tuning jobs that wait",
    Quota.RUNNING_JOBS: "Fine-tuning jobs that run",
    Quota.DEPLOYMENTS: "Deployments",
    Quota.FINE_TUNED_DEPLOYMENTS: "Deployments of fine-tuned models",
    Quota.JOB_TOKENS: "Tokens x epochs of one job",
}
MAX_LIMIT = 2**62


def default(resource_id: str, quota: Quota) -> int:
    """The limit where an operator has set none: a count, bytes or tokens; the default resource has its own."""
    return (OWN_DEFAULTS if resource_id == ids.DEFAULT_RESOURCE else DEFAULTS)[quota]


def by_name(name: str) -> Quota | None:
    """The quota of a name, compared exactly; None for an unknown one."""
    return next((quota for quota in Quota if quota == name), None)
