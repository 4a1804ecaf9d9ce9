"""luthier files: upload, list, show, download, delete."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, TransferSpeedColumn

from luthier.cli import client
from luthier.cli.screen import AsJson, fail, print_objects, screen, table

app = typer.Typer(help="Upload, list, read and delete files.", no_args_is_help=True)


@app.command()
def upload(path: Annotated[Path, typer.Argument(help="A JSONL file of chat rows.")]) -> None:
    """Upload a training or validation file; prints its id."""
    with client.connected() as api:
        screen.print(send(api, path).id, highlight=False)


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
    """Show one file as the API tells it."""
    with client.connected() as api:
        screen.print_json(data=api.files.retrieve(file_id).to_dict(mode="json"))


@app.command()
def download(file_id: str, output: Annotated[Path, typer.Option("-o", "--output", help="Where to write it.")]) -> None:
    """Write a file's bytes to disk."""
    with client.connected() as api, api.files.with_streaming_response.content(file_id) as response:
        response.stream_to_file(output)
    screen.print(f"{output}", highlight=False)


@app.command()
def delete(file_ids: list[str]) -> None:
    """Delete files, their bytes included."""
    with client.connected() as api:
        for file_id in file_ids:
            api.files.delete(file_id)
            screen.print(f"deleted {file_id}", highlight=False)


def send(api: Any, path: Path) -> Any:
    """Uploads with a progress bar; returns the SDK's file object."""
    if not path.is_file():
        fail(f"There is no file {path}.")
    with Progress(*Progress.get_default_columns(), TransferSpeedColumn(), console=screen) as progress:
        task = progress.add_task(f"upload {path.name}", total=path.stat().st_size)
        with path.open("rb") as file, progress.wrap_file(file, task_id=task) as stream:
            return api.files.create(file=(path.name, stream), purpose="fine-tune")
