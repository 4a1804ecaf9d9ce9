"""luthier supervise: the one supervisor of an installation whose API processes were started without one.

`app.build_supervisor` opens the data folder, `processes.supervise_process` does the work.
"""

import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier import __version__
from luthier.cli.screen import screen
from luthier.process import logs, private_folder

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from socket import socket

    from luthier.processes.shared_parts import SharedParts

logger = logging.getLogger(__name__)


def supervise(
    data_dir: Annotated[Path | None, typer.Option(help="Data folder: database, files, models and keys.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the supervisor for API processes that were started without one.

    Several may run: one works, the others wait. Ctrl-C or SIGTERM stops it.
    """
    import asyncio

    from luthier import app
    from luthier.cli import faults
    from luthier.settings import Settings

    given: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    os.umask(private_folder.UMASK)
    with faults.as_refused_start(given):
        settings = Settings(**given, supervisor=False)
        level = "debug" if verbose else settings.log_level
        logs.configure(logging.getLevelNamesMapping()[level.upper()], as_json=settings.log_format == "json")
        listener = app.supervisor_socket(settings)
        shared = app.build_supervisor(settings)
    if listener is not None:
        host, port = listener.getsockname()[:2]
        _say(f"Answers at http://{f'[{host}]' if ':' in host else host}:{port} (/livez, /readyz, /metrics).")
    logger.info("supervise started version=%s", __version__)
    asyncio.run(_run(shared, listener))
    logger.info("supervise stopped")


async def _run(shared: "SharedParts", listener: "socket | None") -> None:
    """Supervises until SIGTERM or SIGINT."""
    import asyncio

    from luthier.processes import supervise_process

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await supervise_process.supervise(shared, stopping, _say, listener)


def _say(text: str) -> None:
    """Prints a sentence for the operator, and logs it."""
    screen.print(text, highlight=False, markup=False, soft_wrap=True)
    screen.file.flush()
    logger.info("%s", text)
