"""luthier files: upload, list, show, download, delete."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli import client
from luthier.cli import screen as terminal
from luthier.cli.command_line import CommandGroup
from luthier.cli.screen import AsJson, OneAsJson, fail, print_json, print_objects, screen, table
from luthier.process import printable

app = CommandGroup("Upload, list, download and delete files.")


@app.command()
def upload(path: Annotated[Path, typer.Argument(help="A JSONL file.")], json_: OneAsJson = False) -> None:
    """Upload a training or validation file and print its id."""
    with client.connected() as api:
        file = upload_file(api, path)
    if json_:
        print_json(file.to_dict(mode="json"))
    else:
        screen.print(file.id, highlight=False)


@app.command("list")
def list_files(json_: AsJson = False) -> None:
    """List files, newest first."""
    with client.connected() as api:
        found = list(api.files.list())
    if json_:
        print_objects(file.to_dict(mode="json") for file in found)
        return
    table(
        ("id", "name", "bytes", "purpose", "status"), [(f.id, f.filename, f.bytes, f.purpose, f.status) for f in found]
    )


@app.command()
def show(file_id: str) -> None:
    """Show a file's metadata as JSON."""
    with client.connected() as api:
        print_json(api.files.retrieve(file_id).to_dict(mode="json"))


@app.command()
def download(
    file_id: str,
    output: Annotated[Path, typer.Option("-o", "--output", help="Output path; - is stdout.")],
) -> None:
    """Download a file and print its path.

    An existing file is replaced once the download is complete.
    """
    check_output(output)
    with client.connected() as api:
        save(api, file_id, output)


def check_output(output: Path) -> None:
    """Ends the command with exit code 1 if no file can be written there."""
    if not output.parent.is_dir():
        fail(f"There is no folder {output.parent} to write {output.name} to.")
    if output.is_dir():
        fail(f"{output} is a folder. Name a file in it.")


def save(api: Any, file_id: str, output: Path) -> None:
    """Writes a file of the service to `output`, which `check_output` has passed, and prints its path; - is stdout."""
    with api.files.with_streaming_response.content(file_id, extra_headers=client.AS_CSV) as response:
        if str(output) == "-":
            for chunk in response.iter_bytes():
                sys.stdout.buffer.write(chunk)
            return
        if output.exists() and (output.is_symlink() or not output.is_file()):
            _write_through(response, output)
        else:
            _write_atomically(response, output)
    screen.print(f"{output}", highlight=False)


def _write_through(response: Any, output: Path) -> None:
    """Writes the response to a device, a pipe or the target of a link, which a rename would replace by a plain file.
    What was written stays if it breaks off.
    """
    with output.open("wb") as stream:
        for chunk in response.iter_bytes():
            stream.write(chunk)


def _write_atomically(response: Any, output: Path) -> None:
    """Writes the response to a file beside `output`, renamed once it is complete; nothing is left if it breaks off."""
    partial = output.with_name(f".{output.name}.part")
    try:
        response.stream_to_file(partial)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


@app.command()
def delete(file_ids: list[str]) -> None:
    """Delete files.

    They are deleted one by one; the first that cannot be ends the command with exit code 1.
    """
    with client.connected() as api:
        for file_id in file_ids:
            api.files.delete(file_id)
            screen.print(f"deleted {file_id}", highlight=False)


def upload_file(api: Any, path: Path, purpose: str = "fine-tune") -> Any:
    """Uploads a local file, with a progress bar; returns the SDK's file object. Ends the command if there is no such
    file; errors of the service pass to `client.connected`.
    """
    from rich.progress import Progress, TextColumn, TransferSpeedColumn

    require_exists(path)
    columns = (
        TextColumn("{task.description}", markup=False),
        *Progress.get_default_columns()[1:],
        TransferSpeedColumn(),
    )
    with terminal.progress(*columns) as progress:
        task = progress.add_task(f"upload {printable.escape_line(path.name)}", total=path.stat().st_size)
        with path.open("rb") as file, progress.wrap_file(file, task_id=task) as stream:
            return api.files.create(file=(path.name, stream), purpose=purpose)


def require_exists(path: Path) -> None:
    """Ends the command with exit code 1 if there is no such local file."""
    if not path.is_file():
        fail(f"There is no file {path}.")
