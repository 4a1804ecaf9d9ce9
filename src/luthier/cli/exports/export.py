"""luthier export: a fine-tuned model as an adapter, merged weights, GGUF or Ollama, in a local folder or on a hub."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli import client
from luthier.cli.completion import candidates
from luthier.cli.exports import export_download, hub_upload
from luthier.cli.screen import OneAsJson, Quiet, fail, present, say, waiting
from luthier.core.exports import ExportDtype, ExportFormat

_POLL_S = 0.5
_MB = 1e6


def export(
    model: Annotated[
        str, typer.Argument(help="Fine-tuned model, checkpoint or deployment.", autocompletion=candidates.answering)
    ],
    format: Annotated[
        ExportFormat, typer.Option("--format", "-f", help="Files for peft, transformers, llama.cpp (two) or Ollama.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files; a new or an empty one.")],
    dtype: Annotated[
        ExportDtype | None, typer.Option(help="Numbers of the matrices (default: bf16 for merged, f16 for GGUF).")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Also upload the folder to this repository of a hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A repository that --push creates is public.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Use a folder that is not empty; files are replaced.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Export a fine-tuned model: an adapter, merged weights, GGUF or Ollama.

    The service makes the files and checks their parity in their own tool before it hands them over. A download that
    broke off continues when the command is run again. --push takes HF_TOKEN, or the token of `hf auth login`, and
    HF_ENDPOINT, and creates a private repository unless told otherwise.
    """
    if push is not None:
        hub_upload.require_ready(push)
    export_download.require_usable(out, force)
    with client.connected() as api:
        made = _await(api, client.create_export(api, model, format, dtype))
        if made["status"] != "succeeded":
            fail(f"{made['error']['message']} ({made['error']['code']})", code=made["error"]["code"])
        export_download.download(api, made, out)
    if push is not None:
        made["pushed_to"] = hub_upload.upload(push, out, [file["name"] for file in made["files"]], not public)
    present(made, [out], lambda: _report(made, out), json_, quiet)


def _await(api: Any, made: dict[str, Any]) -> dict[str, Any]:
    """The export once it has ended. Ctrl-C leaves it to the service: the same command finds it again."""
    with waiting("") as spinner:
        while made["status"] in ("queued", "running"):
            waited_s = max(0, int(time.time()) - made["created_at"])
            if spinner is not None:
                spinner.update(f"{made['format']} {made['dtype']}: {made['status']}, {waited_s} s")
            time.sleep(_POLL_S)
            made = client.get_export(api, made["id"])
    return made


def _report(made: dict[str, Any], out: Path) -> None:
    """Prints the folder, the figures of the proof and, if it was pushed, the repository."""
    parity = made["parity"]
    say(f"{out}: {len(made['files'])} files, {made['bytes'] / _MB:.1f} MB")
    say(
        f"parity in {parity['tool']}: at most {parity['max_difference']:.4f} nats over {parity['positions']} positions "
        f"(mean {parity['mean_difference']:.4f}), {parity['top_agreement']:.1%} of the likeliest tokens"
    )
    if "pushed_to" in made:
        say(f"pushed to {made['pushed_to']}")
