"""luthier models: pull, import, list, show and delete models. `pull` and `import` work on this machine's folders, the
others ask the service.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli import client
from luthier.cli.admin import data_folder
from luthier.cli.command_line import CommandGroup
from luthier.cli.completion import candidates
from luthier.cli.completion.names import ModelName, ModelNames
from luthier.cli.screen import (
    AsJson,
    OneAsJson,
    Quiet,
    advise,
    delete_each,
    fail,
    present,
    present_object,
    say,
    table,
)
from luthier.core.errors import LuthierError

app = CommandGroup("Pull, list and delete base models and fine-tuned models.")


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="Catalog name, Hugging Face id (owner/name), folder or .gguf file.")],
    name: Annotated[str | None, typer.Option(help="Name of the model here (default: from the source).")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub (default: main).")] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="A .jinja file to use in place of the model's chat template.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Full fine-tuning: jobs train all weights, not an adapter.")
    ] = False,
    bits: Annotated[
        int | None, typer.Option(help="Quantize the frozen weights to 8 or 4 bits (default: bf16).")
    ] = None,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Download a base model and prepare it for training and serving. Needs no running service.

    HF_TOKEN is sent for gated and private models; HF_ENDPOINT sets another hub. The options are for models that the
    catalog does not list.
    """
    from luthier import catalog
    from luthier.cli.base_models import pull as base_model_pull
    from luthier.cli.base_models import unlisted_models
    from luthier.engines import choice
    from luthier.settings import Settings

    settings = Settings()
    base_models = catalog.load(settings.catalog, settings.models_folder)
    options = unlisted_models.PullOptions(name, revision, chat_template, full, bits)
    try:
        entry = unlisted_models.resolve(model, base_models, options)
        if settings.models_dir is None:  # models may be read by everybody, the rest of the data folder not
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        describe = unlisted_models.complete if unlisted_models.is_draft(entry) else None
        folder = base_model_pull.pull(entry, settings.models_folder.absolute(), describe)
    except LuthierError as error:
        fail(error.message)
    except base_model_pull.PullError as error:
        fail(str(error))
    # Here, so that the first chat does not wait until the decoder is compiled (once a machine).
    served_by = choice.choose(folder, settings.serve_engine)
    value = {"model": entry.name, "engine": served_by.engine, "path": f"{folder}"}
    words = f"served by the engine {served_by.engine}\n{entry.name} is ready: {folder}"
    present(value, [entry.name], lambda: say(words), json_, quiet)


@app.command("import")
def import_run(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a finished `luthier train`.")],
    suffix: Annotated[str | None, typer.Option(help="Suffix of the model's name.")] = None,
    resource: Annotated[
        str,
        typer.Option(help="Resource (tenant) that owns the job and the model.", autocompletion=candidates.resources),
    ] = data_folder.DEFAULT,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Import a run of `luthier train` into the service: a job, its checkpoints and a model to deploy."""
    from luthier.service.jobs import run_import
    from luthier.service.tenants import resources

    with data_folder.changing("fineTunes/write", resource, str(folder)) as context:
        job, model = run_import.import_run(context, resources.get(context, resource).id, folder, suffix)
    lines = (
        f"imported as {job.id}; it is ready within seconds, or when the service next starts",
        f"model: {model}",
        f"next: luthier deployments create NAME --model {model}",
    )
    present({"job_id": job.id, "model": model}, [model], lambda: say("\n".join(lines)), json_, quiet)


@app.command("list")
def list_models(
    aliases: Annotated[
        bool, typer.Option("--aliases", help="Also list the aliases of base models, such as gpt-4o-mini.")
    ] = False,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the service's models: fine-tuned models first, newest first, then base models."""
    with client.connected() as api:
        models: list[dict[str, Any]] = [model.to_dict(mode="json") for model in api.models.list()]
    objects = list(models)
    models.sort(key=lambda m: (m["fine_tune"] is None, -m["created"] if m["fine_tune"] else 0))
    listed = [m for m in models if aliases or not _is_alias(m)]
    rows = [
        (m["id"], m["weights"], ", ".join(m["abilities"]), m.get("model"), "yes" if m["ready"] else "pull")
        for m in listed
    ]
    columns = ("name", "weights", "abilities", "base model", "ready")
    shown = ("name", "ready", "base model", "abilities", "weights")
    present(objects, [row[0] for row in rows], lambda: table(columns, rows, shown), json_, quiet)
    if len(listed) < len(models):
        advise(f"{len(models) - len(listed)} aliases of base models: luthier models list --aliases")


def _is_alias(model: dict[str, Any]) -> bool:
    """Whether it is another name of a base model, such as gpt-4o-mini."""
    return model["fine_tune"] is None and model.get("model") is not None


@app.command()
def show(name: ModelName, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Show a model as JSON."""
    with client.connected() as api:
        model = api.models.retrieve(name)
    present_object(model.to_dict(mode="json"), model.id, json_, quiet)


@app.command("remove", hidden=True)
@app.command()
def delete(names: ModelNames, json_: AsJson = False, quiet: Quiet = False) -> None:
    """Delete fine-tuned models with their checkpoints, or single checkpoints."""
    with client.connected() as api:
        delete_each(names, api.models.delete, json_, quiet)
