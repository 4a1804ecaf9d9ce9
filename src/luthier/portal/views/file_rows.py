"""Files as rows of the list, and the verdict on one in a word: the first of the report's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from luthier.core.models import File
from luthier.core.states import FilePurpose, FileStatus

PURPOSE_WORDS = {
    FilePurpose.FINE_TUNE: "training data",
    FilePurpose.FINE_TUNE_RESULTS: "results of a job",
    FilePurpose.BATCH: "input of a batch",
    FilePurpose.BATCH_OUTPUT: "output of a batch",
}
_CAN = "The file can be trained on"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a file: a word, its tone (a class of the style sheet) and a sentence, which may be empty."""

    word: str
    tone: str
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file as the list shows it."""

    id: str
    name: str
    purpose: str
    bytes: int
    verdict: Verdict
    n_jobs: int
    created_at: datetime
    expires_at: datetime | None


def row(file: File, n_jobs: Mapping[str, int]) -> FileRow:
    """The row of a file; `n_jobs` has the number of jobs that use it, by id."""
    return FileRow(
        id=file.id,
        name=file.filename,
        purpose=purpose_words(file.purpose),
        bytes=file.bytes,
        verdict=verdict(file),
        n_jobs=n_jobs.get(file.id, 0),
        created_at=file.created_at,
        expires_at=file.expires_at,
    )


def verdict(file: File) -> Verdict:
    """The verdict on a file, from its status and the first line of its details (`data_reports.details`)."""
    first = (file.status_details or "").partition("\n")[0]
    if file.status is FileStatus.PENDING:
        return Verdict("being imported", "busy")
    if file.status is FileStatus.ERROR:
        return Verdict("import failed", "bad", first)
    if file.purpose is not FilePurpose.FINE_TUNE:
        return Verdict("stored", "neutral")
    if file.status_details is None:
        return Verdict("being checked", "busy")
    if not first:
        return Verdict("ready", "good")
    counts = first.partition(": ")[2].removesuffix(".")
    return (
        Verdict("ready, warnings", "warning", counts) if first.startswith(_CAN) else Verdict("not ready", "bad", counts)
    )


def purpose_words(purpose: FilePurpose) -> str:
    """A purpose for people; one that only stores is called by its own word."""
    return PURPOSE_WORDS.get(purpose, str(purpose).replace("_", " "))
