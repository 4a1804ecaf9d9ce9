"""Sentences and tones that templates look up by a word: notices after a change, and the colour of each state."""

from luthier.core.states import BatchStatus, DeploymentState, FileStatus, JobStatus

NOTICES = {
    "job_created": "The job is created. This page follows it.",
    "job_cancelled": "The job is cancelled.",
    "job_pausing": "The job pauses after the step in progress; its state is saved.",
    "job_resumed": "The job is back in the queue and continues where it stopped.",
    "job_deleted": "The job, its events, checkpoints and model are deleted. Its files are kept.",
    "file_deleted": "The file is deleted.",
    "file_mended": "The mended copy is stored as this new file. The old file is unchanged.",
    "file_chosen": "The mended copy is stored as a new file and chosen here. The old file is unchanged.",
    "row_edited": "The corrected copy is stored as this new file. The old file is unchanged.",
    "row_chosen": "The corrected copy is stored as a new file and chosen here. The old file is unchanged.",
    "examples_chosen": "Ten example chats and their validation data are stored as files and chosen here.",
    "model_deleted": "The model is deleted.",
    "deployment_created": "The deployment is being created: its model is loaded and proven before it answers.",
    "deployment_deleted": "The deployment is deleted. Its model remains.",
    "key_revoked": "The key opens nothing any more.",
    "quota_set": "The quota is changed.",
    "rows_kept": "The rows are stored as a new file.",
    "export_created": "The export is being made. Its files appear here.",
    "export_deleted": "The export and its files are deleted. The model remains.",
}
"""By the word in the URL's `notice`: a word that is not here says nothing."""

TONES: dict[str, str] = {
    JobStatus.VALIDATING_FILES: "busy",
    JobStatus.QUEUED: "busy",
    JobStatus.RUNNING: "busy",
    JobStatus.PAUSING: "busy",
    JobStatus.PAUSED: "warning",
    JobStatus.SUCCEEDED: "good",
    JobStatus.FAILED: "bad",
    JobStatus.CANCELLED: "neutral",
    FileStatus.PROCESSED: "good",
    FileStatus.ERROR: "bad",
    FileStatus.PENDING: "busy",
    **{str(state): "good" for state in DeploymentState if state.lower() == "succeeded"},
    **{str(state): "bad" for state in DeploymentState if state.lower() == "failed"},
    **{str(state): "busy" for state in DeploymentState if state.lower() not in ("succeeded", "failed")},
    BatchStatus.COMPLETED: "good",
}
