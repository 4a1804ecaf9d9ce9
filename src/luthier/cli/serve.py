"""luthier serve: the whole service in one process."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from luthier.cli.screen import fail, screen

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.app import Service
    from luthier.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 lets the system choose.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of database, files, models and keys.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every request.")] = False,
) -> None:
    """Run the service: API, supervisor and engines. Stop it with Ctrl-C or SIGTERM."""
    from luthier import app
    from luthier.settings import Settings

    given: dict[str, Any] = {"host": host, "port": port, "data_dir": data_dir}
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    # HTTP clients log whole URLs at INFO; ours carry ids alone, but the line says nothing that our own does not.
    for noisy in ("httpx2", "httpcore2", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
        service = app.build(settings)
    except (ValidationError, ValueError, OSError) as error:
        fail(f"Luthier cannot start: {error}")
    server = app.Server(service, settings, lambda port: _announce(service, settings, port))
    try:
        server.serve_until_stopped()
    except SystemExit:
        fail(f"Port {settings.port} of {settings.host} cannot be had. Choose another: luthier serve --port 8001")


def _announce(service: "Service", settings: "Settings", port: int) -> None:
    """Prints what to export, once the port is bound: who reads these lines can call at once."""
    from luthier.api import arm

    url = f"http://{settings.host}:{port}"
    deployments = f"{url}{arm.path_of(service.resource)}/NAME"
    lines = (
        f"Luthier answers at {url}   data: {settings.data_dir}\n",
        f"export AZURE_OPENAI_ENDPOINT={url}",
        f"export AZURE_OPENAI_API_KEY={service.key}",
        f"export OPENAI_BASE_URL={url}/v1",
        f"export OPENAI_API_KEY={service.key}\n",
        f"Deployments: PUT {deployments}",
        f"API description: {url}/docs   stop: Ctrl-C",
    )
    for line in lines:
        screen.print(line, highlight=False, markup=False, soft_wrap=True)
    screen.file.flush()
