"""An installation under attack: a real service process over one data folder, its clocks, its files, its end."""

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI
from typer.testing import CliRunner

from luthier import app
from luthier.cli import main
from luthier.core.errors import LuthierError
from luthier.settings import Settings
from waiting import until

KEY = "chaos-key-0123456789abcdef"


@dataclass
class Installation:
    """Starts, kills and starts again one service. `acknowledged` are the files that it said it has, and their bytes.

    `notes` is a folder beside it for its log and its clocks.
    """

    data: Path
    notes: Path
    environment: dict[str, str] = field(default_factory=dict)
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    process: subprocess.Popen[str] | None = None
    ahead: dict[str, float] = field(default_factory=lambda: {"wall": 0.0, "steady": 0.0})
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def log(self) -> Path:
        return self.notes / f"{self.data.name}.log"

    @property
    def offsets(self) -> Path:
        return self.notes / f"{self.data.name}.clocks"

    def start(self) -> None:
        """Starts the service and returns when it answers."""
        self.set_clocks()
        script = Path(__file__).with_name("clocked_serve.py")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script), str(self.data), str(self.offsets)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment(),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("answers at "), self.log.read_text()
        self.url = line.split()[-1]

    def refused(self) -> str:
        """Runs the command `luthier serve`, which must end by itself with status 1 and one line; returns that."""
        command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--data-dir", str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment(), timeout=60, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1, said
        assert len(said.splitlines()) == 1, said
        return said

    def refusal(self) -> str:
        """What the service says that refuses to start, asked in this process."""
        with pytest.raises((LuthierError, OSError)) as refused:
            app.build(self.settings())
        return str(refused.value)

    def settings(self) -> Settings:
        own = {name.removeprefix("LUTHIER_").lower(): value for name, value in self.environment.items()}
        return Settings.model_validate(own | {"data_dir": self.data, "server_key": KEY})

    def command(self, *arguments: str) -> str:
        """Runs an operator's command on the data folder; it must succeed."""
        done = CliRunner().invoke(main.app, list(arguments), env=self._environment())
        assert done.exit_code == 0, done.output
        return done.stdout

    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0)

    def upload(self, n_bytes: int = 1000) -> str:
        """Uploads a file and notes that it was acknowledged."""
        data = f"{self.data.name} {next(self._numbers)} ".encode() * (n_bytes // 8)
        with self.client() as client:
            id = client.files.create(file=("a.txt", data), purpose="user_data").id
        self.acknowledged[id] = data
        return id

    def lost(self) -> list[str]:
        """The acknowledged files that it does not give back byte for byte."""
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx2.Client(base_url=f"{self.url}/v1", headers=headers, timeout=60) as client:
            return [id for id, data in self.acknowledged.items() if client.get(f"/files/{id}/content").content != data]

    def set_clocks(self, *, wall: float | None = None, steady: float | None = None) -> None:
        """Sets how many seconds each clock is ahead, at once for a service that runs."""
        self.ahead |= {name: s for name, s in (("wall", wall), ("steady", steady)) if s is not None}
        fresh = self.offsets.with_suffix(".fresh")
        fresh.write_text(json.dumps(self.ahead))
        fresh.replace(self.offsets)

    def pass_hours(self, hours: int, jump: float = 0.0) -> None:
        """Has so many hours pass and housekeeping done in each; first the machine's clock is set by `jump` seconds."""
        self.ahead["wall"] += jump
        for _ in range(hours):
            is_done = partial(self._kept_house_since, self._kept_house_at())
            self.set_clocks(wall=self.ahead["wall"] + 3600, steady=self.ahead["steady"] + 3600)
            until(is_done, 20)

    def _kept_house_since(self, before: int | None) -> bool:
        return self._kept_house_at() != before

    def _kept_house_at(self) -> int | None:
        """When housekeeping was done last, as it writes down itself; waits for the first time."""
        with closing(sqlite3.connect(self.data / "luthier.db", timeout=20)) as database:
            until(lambda: database.execute("SELECT settled_at FROM installation").fetchone()[0] is not None, 20)
            settled_at: int | None = database.execute("SELECT settled_at FROM installation").fetchone()[0]
            return settled_at

    def kill(self) -> None:
        """kill -9, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        assert self._end(signal.SIGTERM) == 0, self.log.read_text()

    def close(self) -> None:
        if self.process is not None:
            self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def _environment(self) -> dict[str, str]:
        own = {"LUTHIER_SERVER_KEY": KEY, "LUTHIER_DATA_DIR": str(self.data), "LUTHIER_TICK_S": "0.1"}
        return os.environ | own | self.environment


Install = Callable[..., Installation]

__all__ = ["KEY", "Install", "Installation", "until"]
