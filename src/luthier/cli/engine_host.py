"""luthier engine-host: loads models and answers for API processes that were started with LUTHIER_ENGINES=hosts.

`processes.engine_host_process` puts it together, `http_server.Server` serves it.
"""

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier import __version__
from luthier.cli.screen import fail, screen
from luthier.cli.service_address import ANY_ADDRESS
from luthier.process import logs, private_folder

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.processes.engine_host_process import EngineHostProcess
    from luthier.settings import Settings

logger = logging.getLogger(__name__)

PORT = 8100


def engine_host(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 chooses a free one.")] = PORT,
    engine_host_url: Annotated[
        str | None, typer.Option(help="Where API processes reach it, if not by that address.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder: copies of models and engines' files.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Load models and answer for API processes.

    Those find it in the database. Ctrl-C or SIGTERM stops it once its answers have ended.
    """
    from luthier.cli import faults
    from luthier.cli.http_server import Server
    from luthier.processes import engine_host_process
    from luthier.settings import Settings

    options: dict[str, Any] = {"host": host, "port": port, "engine_host_url": engine_host_url, "data_dir": data_dir}
    given = {name: value for name, value in options.items() if value is not None}
    os.umask(private_folder.UMASK)
    with faults.as_refused_start(given):
        settings = Settings(**given, supervisor=False)
        level = "debug" if verbose else settings.log_level
        logs.configure(logging.getLevelNamesMapping()[level.upper()], as_json=settings.log_format == "json")
        process = engine_host_process.build(settings)
        # Callers are a few processes, which ask for many answers each.
        as_host = {"stop_grace_s": settings.engine_drain_s, "connections_per_address": 0}
        served = settings.model_copy(update=as_host)
        server = Server(process.app, process.begin_stop, served, lambda bound: _announce(process, settings, bound))
    try:
        server.serve_until_stopped()
    except SystemExit:
        fail(f"Cannot listen on port {settings.port} of {settings.host}. Choose another: luthier engine-host --port 0")
    logger.info("engine host stopped")


def reached_at(settings: "Settings", port: int) -> str:
    """The URL by which API processes reach this host: the setting, else its address, else the machine's name."""
    if settings.engine_host_url is not None:
        return settings.engine_host_url
    name = socket.gethostname() if settings.host in ANY_ADDRESS else settings.host
    return f"{settings.scheme}://{f'[{name}]' if ':' in name else name}:{port}"


def _announce(process: "EngineHostProcess", settings: "Settings", port: int) -> None:
    """Makes the host known, once its port is bound, and says so."""
    url = reached_at(settings, port)
    process.registration.begin(url)
    text = f"Engine host at {url}   data: {settings.data_dir}"
    screen.print(text, highlight=False, markup=False, soft_wrap=True)
    screen.file.flush()
    logger.info("engine host started version=%s url=%s", __version__, url)
