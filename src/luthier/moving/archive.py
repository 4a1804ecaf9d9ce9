"""A job's own folder: job.json, events.jsonl, checkpoints.json, results.csv, to read once the account has gone dark."""

import base64
import binascii
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from luthier.core.errors import Forbidden, NotFound, UpstreamFailed
from luthier.durable import make_folder, write_durably
from luthier.moving.records import SourceJob
from luthier.moving.source import Source

JOB, EVENTS, CHECKPOINTS, RESULTS = "job.json", "events.jsonl", "checkpoints.json", "results.csv"
MAX_RESULT_BYTES = 512 * 1024 * 1024


def written(folder: Path) -> dict[str, str]:
    """Jobs whose folders are whole, with the status that each had: job.json is written last."""
    found = {}
    for path in sorted(folder.glob(f"*/{JOB}")):
        try:
            told = json.loads(path.read_bytes())
        except ValueError:
            continue  # no file of ours: the folder is written anew
        if isinstance(told, dict):
            found[path.parent.name] = str(told.get("status"))
    return found


def write(source: Source, job: SourceJob, folder: Path, part: Path, moved: Callable[[int], None]) -> list[str]:
    """Writes the folder of a job; returns what could not be had for it, in words.

    What is no more there is missing for good. After any other failure job.json is not written, so that the next run
    tries again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / job.id
    make_folder(place)
    lost: list[str] = []
    again = False
    for name, had in _contents(source, job, part, moved):
        try:
            write_durably(place / name, had())
        except NotFound as error:
            lost.append(f"{name}: {error.message}")
        except (Forbidden, UpstreamFailed) as error:
            lost.append(f"{name}: {error.message}; the next run tries again")
            again = True
        finally:
            part.unlink(missing_ok=True)
    if not again:
        write_durably(place / JOB, _page(job.told))
    return lost


def _contents(
    source: Source, job: SourceJob, part: Path, moved: Callable[[int], None]
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The files of a folder, each with how its bytes are had."""
    yield EVENTS, lambda: b"".join(_line(event) for event in source.events(job.id))
    yield CHECKPOINTS, lambda: _page(source.checkpoints(job.id))
    for number, file_id in enumerate(job.result_files, start=1):
        name = RESULTS if number == 1 else f"results-{number}.csv"
        yield name, functools.partial(_results, source, file_id, part, moved)


def _results(source: Source, file_id: str, part: Path, moved: Callable[[int], None]) -> bytes:
    source.download(file_id, part, MAX_RESULT_BYTES, moved)
    return plain_csv(part.read_bytes())


def plain_csv(content: bytes) -> bytes:
    """OpenAI sends base64 of the CSV, Azure the CSV itself (contract section 10). A CSV's comma is no base64."""
    try:
        decoded = base64.b64decode(b"".join(content.split()), validate=True)
        first_line = decoded.split(b"\n", 1)[0].decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return content
    return decoded if "," in first_line else content


def _line(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"


def _page(told: object) -> bytes:
    return json.dumps(told, ensure_ascii=False, indent=2).encode() + b"\n"
