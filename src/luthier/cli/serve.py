"""luthier serve: the whole service in one process, or one of several API processes; `app.build` puts it together,
`http_server.Server` serves it.
"""

import logging
import os
import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier import __version__
from luthier.cli.screen import fail, screen
from luthier.cli.service_address import ANY_ADDRESS
from luthier.process import logs, private_folder

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.app import Service
    from luthier.settings import Settings

logger = logging.getLogger(__name__)

FIRST_MODEL = "smollm2-135m-instruct"


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 chooses a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder: database, files, models and keys.")] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="TLS certificate with its chain (PEM); serves https only.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Private key of the TLS certificate (PEM).")] = None,
    no_supervisor: Annotated[
        bool, typer.Option("--no-supervisor", help="API and portal only, beside `luthier supervise`.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every request.")] = False,
) -> None:
    """Run the service: API, supervisor and engines.

    Ctrl-C or SIGTERM stops it.
    """

    from luthier import app
    from luthier.cli import faults
    from luthier.cli.http_server import Server
    from luthier.settings import Settings

    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "supervisor": False if no_supervisor else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    os.umask(private_folder.UMASK)
    with faults.as_refused_start(given):
        settings = Settings(**given)
        level = "debug" if verbose else settings.log_level
        logs.configure(logging.getLevelNamesMapping()[level.upper()], as_json=settings.log_format == "json")
        service = app.build(settings)
        server = Server(service.api, service.begin_stop, settings, lambda port: _announce(service, settings, port))
    try:
        server.serve_until_stopped()
    except SystemExit:
        fail(
            f"Cannot listen on port {settings.port} of {settings.host}: the port is in use, or this machine "
            f"has no address {settings.host}. Choose another: luthier serve --port 8001, or --host 127.0.0.1"
        )
    logger.info("service stopped")


def address(host: str, port: int, scheme: str = "http") -> str:
    """A URL that reaches the service from its own machine, also where it listens on every address."""
    reached = ANY_ADDRESS.get(host, host)
    return f"{scheme}://{f'[{reached}]' if ':' in reached else reached}:{port}"


def _announce(service: "Service", settings: "Settings", port: int) -> None:
    """Prints addresses and variables to export, once the port is bound, and writes the address into the data folder's
    lock file.

    The key itself is shown only if it was created just now and stdout is a terminal; otherwise the path of its file.
    """
    from luthier.api.arm import arm_names

    url = address(settings.host, port, settings.scheme)
    service.lock.describe(address=url)
    _log_start(service, url)
    is_shown = service.new_key is not None and screen.is_terminal
    key = service.new_key if is_shown else f'"$(cat {shlex.quote(str(settings.key_file.absolute()))})"'
    lines = [
        f"Luthier answers at {url}   data: {settings.data_dir}",
        f"Key: in the file {settings.key_file}{', shown here this once' if is_shown else ''}\n",
        f"export AZURE_OPENAI_ENDPOINT={url}",
        f"export AZURE_OPENAI_API_KEY={key}",
        f"export OPENAI_BASE_URL={url}/v1",
        f"export OPENAI_API_KEY={key}",
        f"export LUTHIER_URL={url}   # this and the next: for the commands of luthier",
        f"export LUTHIER_API_KEY={key}\n",
        f"Portal: {url}/portal   in a browser; sign in with the key",
        f"Deployments: PUT {url}{arm_names.path_of(service.resource)}/NAME",
        f"API description: {url}/docs   stop: Ctrl-C",
    ]
    if settings.host in ANY_ADDRESS:
        lines.insert(1, f"From other machines: {settings.scheme}://{socket.gethostname()}:{port}")
    if not service.base_models:
        lines.insert(1, f"No base model is installed yet. Run: luthier models pull {FIRST_MODEL}")
    for line in lines:
        screen.print(line, highlight=False, markup=False, soft_wrap=True)
    screen.file.flush()


def _log_start(service: "Service", url: str) -> None:
    """Logs version, address and base models, and warns of none and of variables that are nearly a setting's name."""
    models = ",".join(service.base_models)
    logger.info("service started version=%s address=%s base_models=%s", __version__, url, models or "none")
    if not models:
        logger.warning("no base model is installed: run luthier models pull %s", FIRST_MODEL)
    from luthier.cli import faults

    for warning in faults.unknown_variables(os.environ):
        logger.warning("%s", warning)
