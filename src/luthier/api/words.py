"""Each vendor's words for our states, levels and purposes; each table names the page it comes from."""

from luthier.core.states import EventLevel, FilePurpose, FileStatus, JobStatus

# OpenAI's words are our own (OpenAI API reference, "The fine-tuning job object"). It has none for a job that is about
# to be paused; `paused` is none of its six either, but stands in its own example, and none of the six would be true.
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

# A1021 `FileState`; OpenAI's file object knows `uploaded`, `processed` and `error` alone.
AZURE_FILE_STATUS = {status: str(status) for status in FileStatus}
OPENAI_FILE_STATUS = AZURE_FILE_STATUS | {FileStatus.PENDING: "uploaded"}

# Of the purposes that each vendor takes (contract section 4) those that are something here: OpenAI's `user_data` says
# of itself that it is for any use, all others name a service that Luthier is not.
AZURE_PURPOSES = frozenset({FilePurpose.FINE_TUNE})
OPENAI_PURPOSES = frozenset({FilePurpose.FINE_TUNE, FilePurpose.USER_DATA})
