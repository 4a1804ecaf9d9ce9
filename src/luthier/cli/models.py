"""luthier models: pull base models, list and show what there is, delete tuned ones."""

from typing import Any

import typer

from luthier.cli import client
from luthier.cli.pull import PullError
from luthier.cli.pull import pull as bring
from luthier.cli.screen import AsJson, fail, print_objects, screen, table

app = typer.Typer(help="Base models and tuned ones.", no_args_is_help=True)


@app.command()
def pull(name: str) -> None:
    """Bring a base model's weights to this machine; needs no running service."""
    from luthier import catalog
    from luthier.settings import Settings

    settings = Settings()
    known = catalog.load(settings.catalog)
    entry = known.find(name)
    if entry is None:
        fail(f"There is no base model {name!r}. The catalog has: {', '.join(known.entries)}")
    try:
        folder = bring(entry, settings.models_folder.absolute())
    except PullError as error:
        fail(str(error))
    screen.print(f"{entry.name} is ready: {folder}", highlight=False)


@app.command("list")
def list_models(json_: AsJson = False) -> None:
    """List base models, aliases, fine-tuned models and checkpoints of the service."""
    with client.connected() as api:
        found: list[dict[str, Any]] = [model.to_dict(mode="json") for model in api.models.list()]
    if json_:
        print_objects(found)
        return
    table(
        ("name", "weights", "abilities", "base model", "ready"),
        [
            (m["id"], m["weights"], ", ".join(m["abilities"]), m.get("model"), "yes" if m["ready"] else "pull")
            for m in found
        ],
    )


@app.command()
def show(name: str) -> None:
    """Show one model as the API tells it."""
    with client.connected() as api:
        screen.print_json(api.models.retrieve(name).model_dump_json())


@app.command()
def delete(name: str) -> None:
    """Delete a fine-tuned model with its checkpoints, or one checkpoint."""
    with client.connected() as api:
        api.models.delete(name)
    screen.print(f"deleted {name}", highlight=False)
