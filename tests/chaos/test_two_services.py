"""Two services on one data folder: one serves, the other says who."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from installed import Install, Installation


def test_second_service_on_a_folder_is_refused_by_name_of_the_first(install: Install, tmp_path: Path) -> None:
    service = install()
    service.start()
    assert service.process is not None
    service.upload()
    (tmp_path / "link").symlink_to(service.data)
    os.kill(service.process.pid, signal.SIGSTOP)  # stopped is not gone
    second = Installation(tmp_path / "link", tmp_path, service.environment)
    said = second.refused()
    assert f"in use by process {service.process.pid} on host {os.uname().nodename}, since 20" in said
    assert "--data-dir" in said
    os.kill(service.process.pid, signal.SIGCONT)
    assert "key1" in service.command("keys", "list"), "an operator's command works beside it"
    with pytest.raises(AssertionError, match="in use by process"):
        service.command("storage", "adopt", "--yes")
    service.upload()
    service.kill()
    service.start()  # the folder is free at once
    assert service.lost() == []


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_services_that_are_killed_and_contend_lose_nothing(install: Install) -> None:
    """At each turn two processes begin together on one folder, files are uploaded to whichever serves, kill -9."""
    service = install()
    for turn in range(20):
        service.start()
        rivals = [
            subprocess.Popen(
                [sys.executable, "-m", "luthier", "serve", "--port", "0", "--data-dir", str(service.data)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | service.environment,
            )
            for _ in range(2)
        ]
        for _ in range(20):
            service.upload(10_000)
        assert [rival.wait(60) for rival in rivals] == [1, 1]
        if turn % 2:
            service.pass_hours(2)
        service.kill()
    service.start()
    assert service.lost() == []
    assert len(service.acknowledged) == 400
