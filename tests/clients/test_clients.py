"""Luthier driven by every client that its users have, each in an environment of its own with pinned packages.

`make test-clients` runs these; the outcomes lie in .cache/clients/outcomes, and table.py makes docs/clients.md of them.
"""

import json
import os
import subprocess
from pathlib import Path

import environments
import expected
import pytest
from expected import PROGRAMS
from recorder import Recorder, astray

from fakes import BASE, KEY
from luthier.api.arm import arm_names
from luthier.service.tenants.keys import DEFAULT_RESOURCE

pytestmark = [pytest.mark.clients, pytest.mark.timeout(2400)]

HERE = Path(__file__).parent
OUTCOMES = environments.CACHE / "outcomes"


@pytest.mark.parametrize("client", PROGRAMS)
def test_client_does_all_that_it_can(
    client: str, running_url: str, recorder: Recorder, embedder: str, tmp_path: Path
) -> None:
    environment, program = environments.of_client(client), HERE / PROGRAMS[client]
    OUTCOMES.mkdir(parents=True, exist_ok=True)
    told = {
        "LUTHIER_URL": running_url,
        "LUTHIER_KEY": KEY,
        "LUTHIER_MODEL": BASE,
        "LUTHIER_EMBEDDER": embedder,
        "LUTHIER_ARM_PATH": arm_names.path_of(DEFAULT_RESOURCE),
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(HERE),
        "LUTHIER_OUTCOMES": str(OUTCOMES / f"{client}.json"),
    }
    line = environments.command(environment, program)
    done = subprocess.run(line, env=told, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((OUTCOMES / f"{client}.json").read_text())
    (OUTCOMES / f"{client}.json").write_text(json.dumps({**found, "sent": recorder.sent}, indent=1) + "\n")
    assert [*expected.surprises(client, found["outcomes"]), *astray(recorder.sent)] == []
