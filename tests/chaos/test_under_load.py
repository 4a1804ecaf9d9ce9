"""kill -9 and SIGSTOP of service and engine under load: what was acknowledged stays, and no answer is wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from chaos_load import DEPLOYMENT, Load, ask, differences, text_of
from running import Running
from waiting import until

BASE = "smollm2-135m-instruct"
pytestmark = [pytest.mark.story, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("chaos") / "data", base_folder.parent)
    running.data.mkdir()
    running.start()
    quota = [sys.executable, "-m", "luthier", "resources", "quota", "luthier"]
    limits = ["--set", "files=100000", "--set", "file_bytes=100000000000"]
    environment = running.environment | {"LUTHIER_DATA_DIR": str(running.data)}
    subprocess.run([*quota, *limits], check=True, env=environment, stdout=subprocess.DEVNULL)
    assert running.deploy(DEPLOYMENT, BASE)["provisioningState"] == "Succeeded"
    yield running
    running.close()


def engine_of(service: Running) -> psutil.Process:
    for child in psutil.Process(service.pid).children(recursive=True):
        if any(word.startswith("luthier.engines.") for word in child.cmdline()):
            return child
    raise AssertionError("no engine runs")


def kill_service(service: Running) -> None:
    service.kill()
    service.start()


def stop_service_for_a_while(service: Running) -> None:
    os.kill(service.pid, signal.SIGSTOP)
    time.sleep(2.0)  # the fault itself: how long the world stands still
    os.kill(service.pid, signal.SIGCONT)


def kill_engine(service: Running) -> None:
    engine_of(service).kill()


def stop_engine(service: Running) -> None:
    engine_of(service).suspend()


FAULTS = (kill_service, kill_engine, stop_service_for_a_while, stop_engine)


def _is_ahead(load: Load, answered: int, uploaded: int) -> bool:
    return load.count("answered") > answered and load.count("uploaded") > uploaded


def shot_at(service: Running, rounds: int) -> Load:
    """The load after each fault came so many times, each when the load went on again."""
    until(lambda: ask(service.url).status_code == 200, 60)
    load = Load(service, text_of(ask(service.url)))
    load.start()
    try:
        for fault in FAULTS * rounds:
            answered, uploaded = load.count("answered"), load.count("uploaded")
            until(partial(_is_ahead, load, answered + 2, uploaded + 2), 90)
            fault(service)
        answered = load.count("answered")
        until(lambda: load.count("answered") > answered + 2, 90)
    finally:
        load.stop()
    return load


def test_service_under_load_with_kills_and_stops_loses_nothing_acknowledged(service: Running) -> None:
    load = shot_at(service, 1)
    assert load.told.wrong == []
    assert len(load.told.files) > 10
    assert differences(service, load.told) == []


@pytest.mark.nightly
def test_service_under_load_with_many_kills_and_stops_loses_nothing_acknowledged(service: Running) -> None:
    load = shot_at(service, 15)
    assert load.told.wrong == []
    assert differences(service, load.told) == []
