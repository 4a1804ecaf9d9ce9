"""Candidates for shell completion: what the service has, asked in one request within a second; nothing, and no word
about it, if the service or its key is not there.

The openai SDK takes half a second to import, so the answers are read by the standard library.
"""

import contextlib
import io
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from luthier.cli import service_address
from luthier.process import printable

DEADLINE_S = 0.75
"""For the answer of the service; starting the program takes a tenth of a second."""
_NEWEST = 100
"""So many of the newest things are offered."""
_SILENT = (OSError, HTTPException, ValueError, KeyError, TypeError, typer.Exit)
"""No service, no key, a server that is not Luthier, an invalid setting: nothing is offered."""
Candidates = list[tuple[str, str]]
"""Each with its help, which zsh and fish show."""


def jobs(incomplete: str) -> Candidates:
    """Ids of jobs, newest first, each with status and model."""
    return _offer(incomplete, lambda: [(j["id"], f"{j['status']} {j['model']}") for j in _list("fine_tuning/jobs")])


def files(incomplete: str) -> Candidates:
    """Ids of files, newest first, each with its name."""
    return _offer(incomplete, lambda: [(f["id"], f["filename"]) for f in _list("files")])


def training_data(incomplete: str) -> Candidates:
    """Paths here, and ids of files to train on: a shell adds no paths of its own to what a program offers."""
    paths = _paths(incomplete)
    if not "file-".startswith(incomplete[:5]):
        return paths
    return paths + _offer(incomplete, lambda: [(f["id"], f["filename"]) for f in _list("files", "&purpose=fine-tune")])


def batches(incomplete: str) -> Candidates:
    """Ids of batches, newest first, each with its status."""
    return _offer(incomplete, lambda: [(b["id"], b["status"]) for b in _list("batches")])


def models(incomplete: str) -> Candidates:
    """Names of fine-tuned models and of base models; aliases are left out."""
    return _offer(incomplete, lambda: list(_models()))


def deployments(incomplete: str) -> Candidates:
    """Names of the deployments of the key's resource, each with its state."""
    return _offer(incomplete, lambda: list(_get("/luthier/status")["deployments"].items()))


def answering(incomplete: str) -> Candidates:
    """Names of deployments and of models: what a chat can be held with."""
    return _offer(incomplete, lambda: [*_get("/luthier/status")["deployments"].items(), *_models()])


def resources(incomplete: str) -> Candidates:
    """The name of the key's resource: no route lists those of others."""
    return _offer(incomplete, lambda: [(_get("/luthier/status")["resource"]["name"], "resource of your key")])


def keys(incomplete: str) -> Candidates:
    """The two keys that every resource has, and the name of the one that is used here."""
    own = _offer("", lambda: [(_get("/luthier/status")["key"]["name"], "the key used here")])
    return [key for key in {"key1": "", "key2": "", **dict(own)}.items() if key[0].startswith(incomplete)]


def _offer(incomplete: str, find: Callable[[], Candidates]) -> Candidates:
    """What `find` gives within DEADLINE_S and begins with `incomplete`; nothing of it is printed, whatever it raises of
    _SILENT.
    """
    found: Candidates = []

    def look() -> None:
        """In a thread of its own, which no timeout of a look-up or a slow answer can hold the shell up by."""
        with contextlib.suppress(*_SILENT):
            found.extend(find())

    with contextlib.redirect_stderr(io.StringIO()):
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(DEADLINE_S)
    return [(name, printable.escape_line(help)) for name, help in found if name.startswith(incomplete)]


def _paths(incomplete: str) -> Candidates:
    """Files and folders here that begin so, hidden ones left out."""
    folder, slash, beginning = incomplete.rpartition("/")
    try:
        entries = sorted(Path(folder + slash or ".").iterdir())
    except OSError:
        return []
    shown = [entry for entry in entries if entry.name.startswith(beginning) and not entry.name.startswith(".")]
    return [(f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}", "") for entry in shown]


def _models() -> Iterator[tuple[str, str]]:
    """Fine-tuned models before base models, without other names of base models."""
    listed = [m for m in _get("/v1/models")["data"] if m["fine_tune"] is not None or m.get("model") is None]
    listed.sort(key=lambda m: m["fine_tune"] is None)
    return ((m["id"], m["weights"]) for m in listed)


def _list(path: str, query: str = "") -> list[Any]:
    """The newest things that a route of the API lists."""
    listed: list[Any] = _get(f"/v1/{path}?limit={_NEWEST}{query}")["data"]
    return listed


def _get(path: str) -> Any:
    """A JSON answer of the service. Raises one of _SILENT."""
    root, key = urlsplit(service_address.url()), service_address.stored_key()
    if key is None or root.hostname is None:
        raise KeyError(service_address.KEY_VARIABLE)
    connection = (
        HTTPSConnection(root.hostname, root.port, timeout=DEADLINE_S, context=ssl.create_default_context())
        if root.scheme == "https"
        else HTTPConnection(root.hostname, root.port, timeout=DEADLINE_S)
    )
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Bearer {key.text}", "Accept": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(response.status, response.reason)
        return json.loads(response.read())
