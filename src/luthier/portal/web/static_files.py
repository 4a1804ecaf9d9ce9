"""The portal's style, scripts and vendored library, at addresses that change with their content."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

_FOREVER = {
    "cache-control": "public, max-age=31536000, immutable",
    "x-content-type-options": "nosniff",
    "vary": "Accept-Encoding",
}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}


@dataclass(frozen=True, slots=True)
class StaticFolder:
    """Every static file in memory by its path below the folder, and compressed; `digest` is of all of them together."""

    files: dict[str, bytes]
    compressed: dict[str, bytes]
    digest: str

    def address(self, base: str, path: str) -> str:
        """The URL path of a file, `base` being the portal's. A path of no file is a fault of a template: KeyError."""
        assert self.files[path] is not None
        return f"{base}/static/{self.digest}/{path}"

    async def respond(self, request: Request) -> Response:
        """A file, for ever: another content has another address. 404 for a path of none."""
        path = str(request.path_params["path"])
        content = self.files.get(path)
        if content is None:
            return Response("no such file", 404, media_type="text/plain")
        kind = next((kind for end, kind in _TYPES.items() if path.endswith(end)), None)
        media_type = kind or mimetypes.guess_type(path)[0] or "application/octet-stream"
        headers = dict(_FOREVER)
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            content, headers["content-encoding"] = self.compressed[path], "gzip"
        return Response(content, media_type=media_type, headers=headers)


def load() -> StaticFolder:
    """Reads the files of this package, about 100 kB, and compresses them once."""
    files = dict(_files(resources.files("luthier.portal") / "static", ""))
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.encode() + b"\0" + files[path] + b"\0")
    compressed = {path: gzip.compress(content, 9, mtime=0) for path, content in files.items()}
    return StaticFolder(files, compressed, digest.hexdigest()[:12])


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header names gzip, with a weight above zero (RFC 9110, 12.5.3)."""
    for part in accepted.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _files(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    """Path and content of every file below a folder."""
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _files(entry, f"{prefix}{entry.name}/")
        else:
            found.append((prefix + entry.name, entry.read_bytes()))
    return found
