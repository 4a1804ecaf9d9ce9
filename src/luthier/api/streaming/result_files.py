"""results.csv in OpenAI's dialect: base64 for OpenAI's SDKs, plain CSV for everyone else.

Why, and how they are distinguished: docs/decisions/0012.
"""

from base64 import b64encode

from fastapi import Request

from luthier.api.dialects.dialects import Dialect
from luthier.core.models import File
from luthier.core.states import FilePurpose, ResultsAs
from luthier.run_directory.run_directory import RESULTS_FILE

_OPENAI_SDKS = "application/binary"
"""The Accept header of `files.content` in OpenAI's SDKs, and of no other client."""


def is_results(file: File) -> bool:
    """Whether it is a job's results.csv, a file that the vendors have too: only that one may be base64.

    Luthier's losses of each row are always CSV.
    """
    return file.purpose is FilePurpose.FINE_TUNE_RESULTS and file.filename == RESULTS_FILE


def are_encoded(dialect: Dialect, file: File, request: Request, setting: ResultsAs) -> bool:
    """Whether this request gets base64: by dialect, file, `setting` and Accept; never if it accepts text/csv."""
    if not dialect.encodes_results or not is_results(file):
        return False
    accepted = request.headers.get("accept", "").lower()
    if "text/csv" in accepted or setting is ResultsAs.CSV:
        return False
    return setting is ResultsAs.BASE64 or _OPENAI_SDKS in accepted


def encoded(content: bytes) -> bytes:
    """The content as base64, without line breaks."""
    return b64encode(content)
