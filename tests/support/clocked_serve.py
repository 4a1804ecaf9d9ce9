"""`luthier serve` on clocks that a file sets: how far, in seconds, each is ahead of the machine's own.

A process as the command starts it: the same composition root, server and signals.
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from luthier import app
from luthier.cli.http_server import Server
from luthier.settings import Settings


def main(data: Path, offsets: Path) -> None:
    def ahead(clock: str) -> float:
        return float(json.loads(offsets.read_text())[clock])

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=ahead("wall"))

    def steady_s() -> float:
        return time.monotonic() + ahead("steady")

    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    settings = Settings(data_dir=data, port=0)
    service = app.build(settings, app.Clocks(now, steady_s))
    server = Server(
        service.api, service.begin_stop, settings, lambda port: print(f"answers at http://127.0.0.1:{port}", flush=True)
    )
    server.serve_until_stopped()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
