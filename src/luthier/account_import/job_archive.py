"""Archive folder of a job: job.json, events.jsonl, checkpoints.json, results.csv; readable without the account."""

import base64
import binascii
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from luthier.account_import.source_account import Source
from luthier.account_import.source_records import SourceJob
from luthier.atomic_io import make_folder, write_durably
from luthier.core.errors import Forbidden, NotFound, UpstreamFailed
from luthier.run_directory.run_directory import RESULTS_FILE

JOB, EVENTS, CHECKPOINTS = "job.json", "events.jsonl", "checkpoints.json"
MAX_RESULT_BYTES = 512 * 1024 * 1024


def archived_jobs(folder: Path) -> dict[str, str]:
    """Status by job id, of the jobs with a complete folder: job.json is written last.

    A job.json that is no JSON counts as missing: the folder is written again.
    """
    statuses = {}
    for path in sorted(folder.glob(f"*/{JOB}")):
        try:
            job = json.loads(path.read_bytes())
        except ValueError:
            continue  # not our file: the folder is written again
        if isinstance(job, dict):
            statuses[path.parent.name] = str(job.get("status"))
    return statuses


def write(source: Source, job: SourceJob, folder: Path, part: Path, progress: Callable[[int], None]) -> list[str]:
    """Writes the archive folder of a job; returns the files that could not be downloaded, with the reason.

    `part` is where results are downloaded to; `progress` gets the bytes so far. Files deleted at the source are missing
    for good. After any other failure of one file job.json is not written, so that the next run tries again. Raises
    errors that concern everything: a refused key, an unreachable source, a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job_folder = folder / job.id
    make_folder(job_folder)
    missing: list[str] = []
    is_complete = True
    for name, download in _contents(source, job, part, progress):
        try:
            write_durably(job_folder / name, download())
        except NotFound as error:
            missing.append(f"{name}: {error.message}")
        except (Forbidden, UpstreamFailed) as error:
            missing.append(f"{name}: {error.message}; the next run tries again")
            is_complete = False
        finally:
            part.unlink(missing_ok=True)
    if is_complete:
        write_durably(job_folder / JOB, _json(job.payload))
    return missing


def _contents(
    source: Source, job: SourceJob, part: Path, progress: Callable[[int], None]
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name and download of each file of a folder but job.json; the downloads raise the source's errors."""
    yield EVENTS, lambda: b"".join(_line(event) for event in source.events(job.id))
    yield CHECKPOINTS, lambda: _json(source.checkpoints(job.id))
    for number, file_id in enumerate(job.result_files, start=1):
        name = RESULTS_FILE if number == 1 else f"results-{number}.csv"
        yield name, functools.partial(_results, source, file_id, part, progress)


def _results(source: Source, file_id: str, part: Path, progress: Callable[[int], None]) -> bytes:
    """Downloads a results file to `part` and returns it as CSV. Raises UpstreamFailed beyond MAX_RESULT_BYTES."""
    source.download(file_id, part, MAX_RESULT_BYTES, progress)
    return plain_csv(part.read_bytes())


def plain_csv(content: bytes) -> bytes:
    """The CSV of a results file: OpenAI sends base64 of it, Azure the CSV itself (docs/wire-contract.md section 10).

    A CSV's comma is no base64; what is neither is returned as it is.
    """
    try:
        decoded = base64.b64decode(b"".join(content.split()), validate=True)
        first_line = decoded.split(b"\n", 1)[0].decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return content
    return decoded if "," in first_line else content


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
