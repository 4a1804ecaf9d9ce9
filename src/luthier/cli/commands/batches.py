"""luthier batches: create, list, show, cancel, download."""

from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli import client
from luthier.cli.command_line import CommandGroup
from luthier.cli.commands import files
from luthier.cli.completion.names import BatchId
from luthier.cli.screen import AsJson, OneAsJson, Quiet, fail, present, present_object, say, stamp, table

app = CommandGroup("Create, list and cancel batches: files of requests, answered into files.")


@app.command()
def create(
    requests: Annotated[
        str, typer.Argument(help="A JSONL file of requests: a local one, or the id of an uploaded one.")
    ],
    endpoint: Annotated[str, typer.Option(help="Endpoint that all requests are for.")] = "/v1/chat/completions",
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Create a batch and print its id. A local file is uploaded first."""
    with client.connected() as api:
        is_id = requests.startswith("file-") and not Path(requests).exists()
        file_id = requests if is_id else files.upload_file(api, Path(requests), "batch").id
        asked: Any = endpoint
        batch = api.batches.create(input_file_id=file_id, endpoint=asked, completion_window="24h")
    present(batch.to_dict(mode="json"), [batch.id], lambda: say(batch.id), json_, quiet)


@app.command("list")
def list_batches(json_: AsJson = False, quiet: Quiet = False) -> None:
    """List batches, newest first."""
    with client.connected() as api:
        found = list(api.batches.list(limit=100))
    rows = [(batch.id, batch.status, _progress(batch), batch.model, stamp(batch.created_at)) for batch in found]
    columns = ("id", "status", "answered", "model", "created")
    objects = [batch.to_dict(mode="json") for batch in found]
    present(objects, [batch.id for batch in found], lambda: table(columns, rows), json_, quiet)


@app.command()
def show(batch_id: BatchId, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Show a batch as JSON, with every fault of its file if it has failed."""
    with client.connected() as api:
        batch = api.batches.retrieve(batch_id)
    present_object(batch.to_dict(mode="json"), batch.id, json_, quiet)


@app.command()
def cancel(batch_id: BatchId, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Cancel a batch; what is answered can be downloaded."""
    with client.connected() as api:
        batch = api.batches.cancel(batch_id)
    present(batch.to_dict(mode="json"), [batch.id], lambda: say(f"{batch.id} {batch.status}"), json_, quiet)


@app.command()
def download(
    batch_id: BatchId,
    output: Annotated[Path, typer.Option("-o", "--output", help="Output path; - is stdout.")],
    errors: Annotated[bool, typer.Option("--errors", help="The requests that have failed, not the answers.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Download the answers of a batch that has ended, and print the path."""
    files.check_output(output, json_)
    with client.connected() as api:
        batch = api.batches.retrieve(batch_id)
        file_id = batch.error_file_id if errors else batch.output_file_id
        if file_id is None:
            what = "errors" if errors else "answers"
            fail(f"{batch_id} is {batch.status} and has no file of {what}.")
        files.save(api, file_id, output)
    files.present_output(file_id, output, json_, quiet)


def _progress(batch: Any) -> str:
    """How many requests have an answer, errors included, of how many."""
    counts = batch.request_counts
    return f"{counts.completed + counts.failed}/{counts.total}"
