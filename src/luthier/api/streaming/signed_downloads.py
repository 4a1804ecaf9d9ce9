"""Downloads that a client gets from the blob store itself: which requests are redirected to a signed URL.

docs/decisions/0028 has the reasons.
"""

import re

from fastapi import Request, Response
from starlette.datastructures import Headers

from luthier.api.intake.byte_ranges import ByteRange
from luthier.core.models import File
from luthier.core.states import FilePurpose
from luthier.service.context import Context
from luthier.service.files import files

STATUS = 302
_PLAIN_RANGE = re.compile(r"bytes=\d{1,18}-\d{0,18}")
"""The ranges that every store knows; Azure has none from the end (its page "Specifying the range header")."""


def redirect(context: Context, request: Request, file: File, part: ByteRange | None) -> Response | None:
    """The redirect of a GET of a file's stored bytes to the blob store; None where the service has to send them.

    `part` is the range that the service would send. Raises Conflict for a file whose import has not succeeded.
    """
    if request.method != "GET" or file.bytes == 0 or not _is_followed_safely(request.headers, part):
        return None
    if file.purpose is FilePurpose.FINE_TUNE_RESULTS:  # small, and its type and encoding are the dialect's
        return None
    url = files.link(context, file)
    if url is None:
        return None
    return Response(status_code=STATUS, headers={"Location": url, "Cache-Control": "no-store"})


def _is_followed_safely(headers: Headers, part: ByteRange | None) -> bool:
    """Whether a client that follows the redirect with the same headers gives nothing away and gets what it asked for.

    HTTP clients drop the header Authorization on the way to another host, but no other: one with `api-key` would show
    the key to the store. The portal's cookie does not ask for a redirect, either: a page may not read another origin.
    What not every store reads as the service does (several ranges, one from the end, our entity tag) is answered here.
    """
    if "api-key" in headers or not headers.get("authorization", "").lower().startswith("bearer "):
        return False
    return "if-range" not in headers and (
        "range" not in headers or (part is not None and _PLAIN_RANGE.fullmatch(headers["range"]) is not None)
    )
