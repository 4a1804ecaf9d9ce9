"""Each vendor's words for states and levels of jobs, files and events; each table names the page that it comes from."""

from luthier.core.states import EventLevel, FileStatus, JobStatus

# OpenAI's words are those of JobStatus (OpenAI API reference, "The fine-tuning job object"). It has none for a job that
# is about to be paused. `paused` is not one of its six either, but is in its own example, and none of the six fits.
OPENAI_STATUS = {status: str(status) for status in JobStatus} | {JobStatus.PAUSING: "running"}
# Azure, dated versions: `FineTuningState` of A1021, and of A2504 for pausing and paused; live replies of v1 say
# `pending` too (spec/examples).
AZURE_STATUS = {status: str(status) for status in JobStatus} | {
    JobStatus.VALIDATING_FILES: "pending",
    JobStatus.QUEUED: "pending",
}

# OpenAI API reference, "The fine-tuning job event object"; AV1 agrees. A1021 `LogLevel` writes `warning` out.
OPENAI_LEVEL = {EventLevel.INFO: "info", EventLevel.WARNING: "warn", EventLevel.ERROR: "error"}
AZURE_LEVEL = {level: str(level) for level in EventLevel}

# A1021 `FileState`; OpenAI's file object has only `uploaded`, `processed` and `error`.
AZURE_FILE_STATUS = {status: str(status) for status in FileStatus}
OPENAI_FILE_STATUS = AZURE_FILE_STATUS | {FileStatus.PENDING: "uploaded"}
