"""The command `luthier` and its groups."""

import typer

from luthier.cli import (
    audit,
    chat,
    check,
    deployments,
    files,
    import_jobs,
    jobs,
    keys,
    models,
    reproduce,
    resources,
    serve,
    show,
    train,
)

app = typer.Typer(
    name="luthier",
    help="Fine-tune open-weight models behind the Azure OpenAI and OpenAI wire.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command("serve")(serve.serve)
app.command("check")(check.check)
app.command("show")(show.show)
app.command("train")(train.train)
app.command("reproduce")(reproduce.reproduce)
app.command("chat")(chat.chat)
app.command("import-jobs")(import_jobs.import_jobs)
app.add_typer(models.app, name="models")
app.add_typer(files.app, name="files")
app.add_typer(jobs.app, name="jobs")
app.add_typer(deployments.app, name="deployments")
app.add_typer(resources.app, name="resources")
app.add_typer(keys.app, name="keys")
app.command("audit")(audit.audit)
