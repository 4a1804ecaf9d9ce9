"""The files of docs/deploy: a unit that systemd accepts, and settings that there are."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.settings import Settings
from repository import ROOT

DEPLOY = ROOT / "docs" / "deploy"
UNITS = ("luthier.service", "luthier-supervise.service", "luthier-api@.service")


def test_units_are_accepted_by_systemd(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    # Only the program's path is not of this machine.
    for name in UNITS:
        (tmp_path / name).write_text((DEPLOY / name).read_text().replace("/opt/luthier/bin/luthier", sys.executable))
    units = [str(tmp_path / name.replace("@", "@8000")) for name in UNITS]
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "name",
    [
        *UNITS,
        "nginx.conf",
        "Caddyfile",
        "Dockerfile",
        "helm/luthier/values.yaml",
        "helm/luthier/templates/settings.yaml",
    ],
)
def test_settings_that_a_file_names_exist(name: str) -> None:
    named = re.findall(r"LUTHIER_([A-Z_]+)", (DEPLOY / name).read_text())
    assert {setting.lower() for setting in named} - set(Settings.model_fields) == set()


def test_page_shows_the_same_proxies_as_the_files() -> None:
    """One truth: the page points to the files that were run."""
    page = (ROOT / "docs" / "tls.md").read_text()
    assert "proxy_pass" not in page
    for name in ("deploy/nginx.conf", "deploy/Caddyfile"):
        assert name in page


def test_chart_is_rendered_by_helm_without_a_complaint() -> None:
    if (helm := shutil.which("helm")) is None:
        pytest.skip("helm is not installed")
    chart = str(DEPLOY / "helm" / "luthier")
    for command in (["lint", "--strict", chart], ["template", "test", chart, "--set", "ingress.enabled=true"]):
        done = subprocess.run([helm, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    for component in ("api", "supervisor", "engine-host"):
        assert f"app.kubernetes.io/component: {component}" in done.stdout
