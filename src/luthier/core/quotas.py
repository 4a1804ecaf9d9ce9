"""How much one resource may hold: the quotas by name, with Azure's limits as defaults (contract section 16)."""

from enum import StrEnum


class Quota(StrEnum):
    FILES = "files"
    FILE_BYTES = "file_bytes"
    JOBS = "jobs"
    QUEUED_JOBS = "queued_jobs"
    DEPLOYMENTS = "deployments"
    FINE_TUNED_DEPLOYMENTS = "fine_tuned_deployments"
    JOB_TOKENS = "job_tokens"

    @property
    def is_counted(self) -> bool:
        """Whether a resource uses some of it; the others limit each job by itself."""
        return self is not Quota.JOB_TOKENS


DEFAULTS: dict[Quota, int] = {
    Quota.FILES: 100,
    Quota.FILE_BYTES: 2**30,
    Quota.JOBS: 100,
    Quota.QUEUED_JOBS: 20,
    Quota.DEPLOYMENTS: 32,
    Quota.FINE_TUNED_DEPLOYMENTS: 10,
    Quota.JOB_TOKENS: 2_000_000_000,
}
TITLES: dict[Quota, str] = {
    Quota.FILES: "Files",
    Quota.FILE_BYTES: "Bytes of all files together",
    Quota.JOBS: "Fine-tuning jobs in all",
    Quota.QUEUED_JOBS: "Fine-tuning jobs that wait",
    Quota.DEPLOYMENTS: "Deployments",
    Quota.FINE_TUNED_DEPLOYMENTS: "Deployments of fine-tuned models",
    Quota.JOB_TOKENS: "Tokens x epochs of one job",
}
MAX_LIMIT = 2**62


def by_name(name: str) -> Quota | None:
    return next((quota for quota in Quota if quota == name), None)
