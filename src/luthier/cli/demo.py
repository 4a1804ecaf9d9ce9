"""luthier demo: starts a service on a free port, runs the guide's workflow against it, and says how to continue. The
service and the commands that it needs run as child processes.
"""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.screen import fail, screen

BASE_MODEL = "smollm2-135m-instruct"
STOP_TIMEOUT_S = 60
_EXTRAS = {"torch": "train", "xllamacpp": "serve-cpu", "matplotlib": "plot"}
_LUTHIER = (sys.executable, "-m", "luthier")


def demo(
    data_dir: Annotated[
        Path, typer.Option(envvar="LUTHIER_DEMO_DIR", help="Data folder of the demo's service.")
    ] = Path(".luthier/demo"),
) -> None:
    """Run the whole workflow on ten rows: serve, upload, fine-tune, deploy and chat."""
    from luthier.examples import guide

    _require_extras()
    _pull_base_model()
    started_s = time.monotonic()
    folder = data_dir.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    guide.heading("Start the service")
    service = subprocess.Popen(
        [*_LUTHIER, "serve", "--port", "0", "--data-dir", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=_service_environment(),
    )
    try:
        url = _url_once_ready(service)
        key = (folder / "api-key").read_text().strip()
        job_id = guide.run(url, key, folder)
        _draw_charts(url, key, job_id, folder / "charts.svg")
    finally:
        service.send_signal(signal.SIGINT)
        service.wait(STOP_TIMEOUT_S)
    guide.heading(f"Done in {time.monotonic() - started_s:.0f} seconds. Where the results are, and how to continue")
    _print_next_steps(folder)


def _require_extras() -> None:
    """Ends the command with exit code 1, and the pip command, if packages of an extra are missing. Imports none of
    them.
    """
    missing = [extra for module, extra in _EXTRAS.items() if find_spec(module) is None]
    if missing:
        fail(f"The demo needs further packages. Run: pip install 'luthier[{','.join(missing)}]'")


def _pull_base_model() -> None:
    """Pulls the demo's base model by `luthier models pull` unless it is installed; ends the command with that one's
    exit code if it fails.
    """
    from luthier.model_folder import BaseModelFolder
    from luthier.settings import Settings

    if not BaseModelFolder(Settings().models_folder / BASE_MODEL).is_complete:
        pull = subprocess.run([*_LUTHIER, "models", "pull", BASE_MODEL], check=False)
        if pull.returncode != 0:
            raise typer.Exit(pull.returncode)


def _service_environment() -> dict[str, str]:
    """The environment of the service: models are read from the folder that they were pulled to, not from the demo's own
    data folder, and LUTHIER_API_KEY, the key of some other service, is left out.
    """
    from luthier.settings import Settings

    environment = os.environ | {"LUTHIER_MODELS_DIR": str(Settings().models_folder.absolute())}
    environment.pop("LUTHIER_API_KEY", None)  # the key of some other service
    environment.setdefault("LUTHIER_LOG_LEVEL", "warning")  # the workflow itself is what is shown
    return environment


def _url_once_ready(service: subprocess.Popen[str]) -> str:
    """The service's address, once it answers; reads and prints the service's stdout until then. Ends the command if the
    service ends before.
    """
    url = ""
    assert service.stdout is not None
    for line in service.stdout:
        screen.print(line.rstrip(), highlight=False)
        if line.startswith("export LUTHIER_URL="):
            url = line.partition("=")[2].split()[0]
        if line.startswith("API description"):
            break
    else:
        fail("The service did not start; its message above says why.")
    return url


def _draw_charts(url: str, key: str, job_id: str, output: Path) -> None:
    """Draws the job's charts into `output` by `luthier jobs plot`. Raises CalledProcessError if that fails."""
    plot = [*_LUTHIER, "jobs", "plot", job_id, "-o", str(output)]
    environment = os.environ | {"LUTHIER_URL": url, "LUTHIER_API_KEY": key}
    subprocess.run(plot, check=True, stdout=subprocess.DEVNULL, env=environment)


def _print_next_steps(folder: Path) -> None:
    """Prints where the demo's results are and the commands by which to continue, with paths relative to here."""
    from luthier.examples import guide
    from luthier.settings import Settings

    shown = Path(os.path.relpath(folder))
    models = f"LUTHIER_MODELS_DIR={os.path.relpath(Settings().models_folder)} "
    program = _program()
    lines = (
        f"results file     {shown / 'results.csv'}",
        f"charts           {shown / 'charts.svg'}",
        f"data folder      {shown} (database, files, checkpoints, API key)",
        f"this workflow    {os.path.relpath(guide.__file__)}\n",
        f"start again      {models}{program} serve --data-dir {shown}",
        f"in another shell export LUTHIER_API_KEY=$(cat {shown / 'api-key'})",
        f"chat             {program} chat clippy --system '{guide.SYSTEM}'",
        f"your own rows    {program} jobs create --model {BASE_MODEL} --data rows.jsonl --watch",
    )
    for line in lines:
        screen.print(line, highlight=False)


def _program() -> str:
    """How to call this installation's `luthier`: by its name if PATH has it, else by its path."""
    program = Path(sys.executable).with_name("luthier")
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return "luthier" if str(program.parent) in folders else os.path.relpath(program)
