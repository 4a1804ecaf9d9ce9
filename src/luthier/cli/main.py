"""The command `luthier`: its commands by section, each loaded when it is called.

`luthier --help` loads none of them; a test compares the summaries here with the commands' own help.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import Annotated, Any, TextIO

import typer

from luthier import __version__
from luthier.cli import command_line

INTERRUPTED = 128 + 2
"""Exit code after Ctrl-C, as a shell reports SIGINT."""

SECTIONS = {
    "Service": {
        "serve": "Run the service: API, supervisor and engines.",
        "supervise": "Run the supervisor for API processes that were started without one.",
        "engine-host": "Load models and answer for API processes.",
        "status": "Show the service: device, memory, disk, queue, models and versions.",
        "engines": "Show which engine serves each installed base model, and why.",
        "demo": "Run the whole workflow on ten rows: serve, upload, fine-tune, deploy and chat.",
    },
    "Models, files, jobs and deployments": {
        "models": "Pull, list and delete base models and fine-tuned models.",
        "files": "Upload, list, download and delete files.",
        "jobs": "Create, watch, list and control fine-tuning jobs.",
        "batches": "Create, list and cancel batches: files of requests, answered into files.",
        "deployments": "Create, list and delete deployments: models that answer under a name.",
        "parity": "Prove again that a model is served as it was trained.",
        "export": "Export a fine-tuned model: an adapter, merged weights, GGUF or Ollama.",
        "webhooks": "Create, list, test and delete webhooks: URLs that events are sent to.",
        "chat": "Chat with a deployment or model: one question, or a conversation.",
        "import-jobs": "Import files, jobs and results from an OpenAI or Azure OpenAI account or another Luthier.",
    },
    "Data and training without a service": {
        "check": "Validate a training file: every problem of every row, with its line and the fix.",
        "show": "Show a row as the model sees it: token by token, with the loss mask.",
        "train": "Fine-tune without a service.",
        "reproduce": "Train a finished job again and compare the bytes.",
    },
    "Administration of the data folder": {
        "resources": "Create, list and delete resources (tenants), and set their quotas.",
        "keys": "Create, list, regenerate and revoke API keys.",
        "storage": "Inspect the blob store and its orphaned blobs (lost-and-found).",
        "audit": "Show the audit log, newest entry last.",
        "backup": "Back up the data folder into one file, also while the service runs and jobs train.",
        "restore": "Restore a backup into a new data folder, every byte compared with its sha256.",
    },
}
"""Summary by command, by section of the help."""
COMMANDS = {
    "serve": "luthier.cli.serve",
    "supervise": "luthier.cli.supervise",
    "engine-host": "luthier.cli.engine_host",
    "status": "luthier.cli.commands.status",
    "engines": "luthier.cli.base_models.engines",
    "parity": "luthier.cli.commands.parity",
    "export": "luthier.cli.exports.export",
    "demo": "luthier.cli.demo",
    "chat": "luthier.cli.commands.chat",
    "import-jobs": "luthier.cli.account_import.import_jobs",
    "check": "luthier.cli.data.check",
    "show": "luthier.cli.data.show",
    "train": "luthier.cli.training.train",
    "reproduce": "luthier.cli.training.reproduce",
    "audit": "luthier.cli.admin.audit",
    "backup": "luthier.cli.admin.backup",
    "restore": "luthier.cli.admin.backup",
}
"""The module of each command without subcommands; its function has the command's name."""
GROUPS = {
    "models": "luthier.cli.commands.models",
    "files": "luthier.cli.commands.files",
    "jobs": "luthier.cli.commands.jobs",
    "batches": "luthier.cli.commands.batches",
    "deployments": "luthier.cli.commands.deployments",
    "webhooks": "luthier.cli.admin.webhooks",
    "resources": "luthier.cli.admin.resources",
    "keys": "luthier.cli.admin.keys",
    "storage": "luthier.cli.admin.storage",
}
"""The module of each command with subcommands, which are in its `app`."""


class Root(command_line.Group):
    """The top of the command line: loads a command when it is called, and words the errors that a user can fix.

    typer calls the methods; each does what typer's own does, from SECTIONS instead of registered commands.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for commands in SECTIONS.values() for name in commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command or group of that name, whose module is imported now; None if there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        function = _function(cmd_name)
        if function is not None:
            return command_line.single_command(cmd_name, function)
        return command_line.group_of(_group(cmd_name))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the summaries of SECTIONS to the formatter, without importing a command."""
        width = max(map(len, self.list_commands(ctx)))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in commands.items()])

    def invoke(self, ctx: Any) -> Any:
        """Runs the command and flushes stdout; an error that a user can fix ends it with one line and an exit code."""
        with _ErrorsAsLines():
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, so that a full disk is still reported
            return result

    def main(self, *args: Any, **more: Any) -> Any:
        """Runs the command line and exits the process with its exit code; replaces a closed stdout or stderr by
        /dev/null, and reports a stdout that cannot be written to.
        """
        if sys.stdout is None:  # closed by the parent process: nobody wants to read it
            sys.stdout = _null()
        if sys.stderr is None:
            sys.stderr = _null()
        try:
            try:
                return super().main(*args, **more)
            finally:
                sys.stdout.flush()
        except OSError as error:  # help is written before any command begins
            from luthier.cli import faults

            if not faults.is_of_stdout(error):
                raise
            sys.exit(faults.stdout_exit_code(error))


class _ErrorsAsLines:
    """Ends a command with one line and an exit code for every error that a user can fix; other errors pass, and so do
    typer's own.
    """

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Raises typer.Exit in place of KeyboardInterrupt and of errors that a user can fix; returns for all others."""
        match error:
            case None | typer.Exit() | typer.Abort() | typer.TyperException():
                return
            case KeyboardInterrupt():
                raise typer.Exit(INTERRUPTED) from None
        from luthier.cli import faults

        faults.end_command(error)


def _null() -> TextIO:
    """/dev/null as a text stream to write to."""
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


app = typer.Typer(
    name="luthier",
    help="Fine-tune open-weight language models behind the Azure OpenAI and OpenAI API.",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=command_line.CONTEXT_SETTINGS,
)


def _print_version(asked: bool) -> None:
    """The callback of --version: prints the version and ends the command with exit code 0."""
    if asked:
        typer.echo(f"luthier {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of `luthier` itself."""


def _function(name: str) -> Callable[..., None] | None:
    """The function of a single command, whose module is imported now; None for the name of a group."""
    if name not in COMMANDS:
        return None
    function: Callable[..., None] = getattr(import_module(COMMANDS[name]), name.replace("-", "_"))
    return function


def _group(name: str) -> typer.Typer:
    """The commands of a group, whose module is imported now. KeyError for another name is an internal fault."""
    app = import_module(GROUPS[name]).app
    assert isinstance(app, typer.Typer)
    return app
