"""`make demo`: starts the service on a free port, runs the guide's workflow against it, and says how to go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import guide

FOLDER = Path(os.environ.get("LUTHIER_DEMO_DIR", ".luthier/demo")).absolute()
LUTHIER = Path(sys.executable).with_name("luthier")


def main() -> None:
    started = time.monotonic()
    FOLDER.mkdir(parents=True, exist_ok=True)
    guide.heading("Start the service")
    command = [str(LUTHIER), "serve", "--port", "0", "--data-dir", str(FOLDER)]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        os.environ |= read_exports(service)
        job_id = guide.main(FOLDER)
        charts = FOLDER / "charts.svg"
        environment = os.environ | {"LUTHIER_URL": os.environ["AZURE_OPENAI_ENDPOINT"]}
        plot = [str(LUTHIER), "jobs", "plot", job_id, "-o", str(charts)]
        subprocess.run(plot, check=True, stdout=subprocess.DEVNULL, env=environment)
    finally:
        service.send_signal(signal.SIGINT)
        service.wait(60)
    guide.heading(f"Done in {time.monotonic() - started:.0f} seconds. Where things are, and how to go on")
    show = Path(os.path.relpath(FOLDER))
    program = os.path.relpath(LUTHIER)
    guide.screen.print(
        f"results file    {show / 'results.csv'}\n"
        f"charts          {show / 'charts.svg'}\n"
        f"data folder     {show} (database, files, checkpoints, API key)\n"
        f"this workflow   {os.path.relpath(guide.__file__)}\n\n"
        f"start again     LUTHIER_MODELS_DIR={os.path.relpath(os.environ['LUTHIER_MODELS_DIR'])} "
        f"{program} serve --data-dir {show}\n"
        f"then, elsewhere export LUTHIER_API_KEY=$(cat {show / 'api-key'})\n"
        f"chat            {program} chat clippy --system '{guide.SYSTEM}'\n"
        f"your own rows   {program} jobs create --model smollm2-135m-instruct --data rows.jsonl --watch",
        markup=False,
    )


def read_exports(service: subprocess.Popen[str]) -> dict[str, str]:
    """What the service prints to export, once it answers."""
    exports: dict[str, str] = {}
    assert service.stdout is not None
    for line in service.stdout:
        shown = line.rstrip()
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            exports[name] = value
            shown = f"export {name}=..." if name.endswith("KEY") else shown
        guide.screen.print(shown, markup=False)
        if line.startswith("API description"):
            return exports
    raise SystemExit("the service did not start; its message above says why")


if __name__ == "__main__":
    main()
