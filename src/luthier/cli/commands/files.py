"""luthier files: upload, list, show, download, delete."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli import client
from luthier.cli import screen as terminal
from luthier.cli.command_line import CommandGroup
from luthier.cli.completion.names import FileId, FileIds
from luthier.cli.screen import AsJson, OneAsJson, Quiet, delete_each, fail, present, present_object, say, screen, table
from luthier.process import printable

_STDOUT = "-"
app = CommandGroup("Upload, list, download and delete files.")


@app.command()
def upload(
    path: Annotated[Path, typer.Argument(help="A JSONL file.")], json_: OneAsJson = False, quiet: Quiet = False
) -> None:
    """Upload a training or validation file and print its id."""
    with client.connected() as api:
        file = upload_file(api, path)
    present(file.to_dict(mode="json"), [file.id], lambda: say(file.id), json_, quiet)


@app.command("list")
def list_files(json_: AsJson = False, quiet: Quiet = False) -> None:
    """List files, newest first."""
    with client.connected() as api:
        found = list(api.files.list())
    rows = [(f.id, f.filename, f.bytes, f.purpose, f.status) for f in found]
    columns = ("id", "name", "bytes", "purpose", "status")
    objects = [file.to_dict(mode="json") for file in found]
    present(objects, [file.id for file in found], lambda: table(columns, rows), json_, quiet)


@app.command()
def show(file_id: FileId, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Show a file's metadata as JSON."""
    with client.connected() as api:
        file = api.files.retrieve(file_id)
    present_object(file.to_dict(mode="json"), file.id, json_, quiet)


@app.command()
def download(
    file_id: FileId,
    output: Annotated[Path, typer.Option("-o", "--output", help="Output path; - is stdout.")],
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Download a file and print its path.

    An existing file is replaced once the download is complete.
    """
    check_output(output, json_)
    with client.connected() as api:
        save(api, file_id, output)
    present_output(file_id, output, json_, quiet)


def check_output(output: Path, json_: bool) -> None:
    """Ends the command with exit code 1 if no file can be written there; JSON and a file do not share stdout."""
    if json_ and str(output) == _STDOUT:
        fail("--json and -o - both print to stdout: give only one of them.", code="usage")
    if not output.parent.is_dir():
        fail(f"There is no folder {output.parent} to write {output.name} to.")
    if output.is_dir():
        fail(f"{output} is a folder. Name a file in it.")


def save(api: Any, file_id: str, output: Path) -> None:
    """Writes a file of the service to `output`, which `check_output` has passed, with a progress bar; - is stdout."""
    with content(api, file_id, is_shown=str(output) != _STDOUT or not screen.is_terminal) as chunks:
        if str(output) == _STDOUT:
            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
        elif output.exists() and (output.is_symlink() or not output.is_file()):
            _write_through(chunks, output)
        else:
            _write_atomically(chunks, output)


def present_output(file_id: str, output: Path, json_: bool, quiet: bool) -> None:
    """Prints the path of a file that was downloaded; nothing where the file itself went to stdout."""
    if str(output) != _STDOUT:
        present({"file_id": file_id, "path": f"{output}"}, [output], lambda: say(f"{output}"), json_, quiet)


@contextmanager
def content(api: Any, file_id: str, is_shown: bool = True) -> Iterator[Iterator[bytes]]:
    """The bytes of a file in pieces, with a progress bar if `is_shown`; a result file is CSV, never base64 of it."""
    with (
        api.files.with_streaming_response.content(file_id, extra_headers=client.AS_CSV) as response,
        terminal.bytes_progress(transient=True) as progress,
    ):
        length = response.headers.get("content-length", "")
        task = progress.add_task(f"download {printable.escape_line(file_id)}", total=int(length) if length else None)
        progress.update(task, visible=is_shown)

        def counted() -> Iterator[bytes]:
            """Moves the bar with each piece."""
            for chunk in response.iter_bytes():
                progress.advance(task, len(chunk))
                yield chunk

        yield counted()


def read_text(api: Any, file_id: str) -> str:
    """A whole file of the service as text, with a progress bar."""
    with content(api, file_id) as chunks:
        return b"".join(chunks).decode()


def _write_through(chunks: Iterator[bytes], output: Path) -> None:
    """Writes the bytes to a device, a pipe or the target of a link, which a rename would replace by a plain file. What
    was written stays if they break off.
    """
    with output.open("wb") as stream:
        for chunk in chunks:
            stream.write(chunk)


def _write_atomically(chunks: Iterator[bytes], output: Path) -> None:
    """Writes the bytes to a file beside `output`, renamed once it is complete; nothing is left if they break off."""
    partial = output.with_name(f".{output.name}.part")
    try:
        _write_through(chunks, partial)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


@app.command()
def delete(file_ids: FileIds, json_: AsJson = False, quiet: Quiet = False) -> None:
    """Delete files.

    They are deleted one by one; the first that cannot be ends the command with exit code 1.
    """
    with client.connected() as api:
        delete_each(file_ids, api.files.delete, json_, quiet)


def upload_file(api: Any, path: Path, purpose: str = "fine-tune") -> Any:
    """Uploads a local file, with a progress bar; returns the SDK's file object. Ends the command if there is no such
    file; errors of the service pass to `client.connected`.
    """
    require_exists(path)
    with terminal.bytes_progress() as progress:
        task = progress.add_task(f"upload {printable.escape_line(path.name)}", total=path.stat().st_size)
        with path.open("rb") as file, progress.wrap_file(file, task_id=task) as stream:
            return api.files.create(file=(path.name, stream), purpose=purpose)


def require_exists(path: Path) -> None:
    """Ends the command with exit code 1 if there is no such local file."""
    if not path.is_file():
        fail(f"There is no file {path}.")
