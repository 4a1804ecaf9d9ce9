"""instructor's command line: `instructor files ...` and `instructor jobs ...`, as one types them."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from drive import HELD_EPOCHS, KEY, MODEL, URL, Drive, report, rest, rows, until
from drive import wanted as want

ENVIRONMENT = {**os.environ, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{URL}/v1", "COLUMNS": "300"}
ENVIRONMENT |= {"PYTHONUNBUFFERED": "1", "TERM": "dumb"}
PROGRAM = [sys.executable, str(Path(sys.executable).parent / "instructor")]


def run(*words: str) -> str:
    done = subprocess.run([*PROGRAM, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    want(done.returncode == 0, (done.stderr or done.stdout)[-250:].strip())
    return done.stdout


def watched(pattern: str, *words: str, limit_s: float = 40) -> str:
    """What a command that watches for ever shows when it is interrupted: at `pattern`, or at the limit."""
    log = Path("watched.txt")
    with log.open("w") as stream:
        process = subprocess.Popen([*PROGRAM, *words], env=ENVIRONMENT, stdout=stream, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + limit_s
    try:
        while not re.search(pattern, log.read_text()) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    want(re.search(pattern, log.read_text()), log.read_text()[-250:])
    return log.read_text()


def main() -> None:
    drive = Drive()
    Path("rows.jsonl").write_bytes(rows())
    with drive.step("files upload"):
        shown = run("files", "upload", "rows.jsonl", "--poll", "1")
        file = re.search(r"file-\w+", shown).group()  # type: ignore[union-attr]
    with drive.step("files list"):
        want(file in run("files", "list"), "not in the list")
    with drive.step("files status"):
        run("files", "status", file)
    with drive.step("files download"):
        run("files", "download", file, "back.jsonl")
        want(Path("back.jsonl").read_bytes() == rows(), "other bytes")
    with drive.step("jobs create-from-id"):
        watched(r"created with ID: ftjob-\w+", "jobs", "create-from-id", file, "--model", MODEL, "--n-epochs", "2")
    with drive.step("jobs create-from-file"):
        line = ["jobs", "create-from-file", "rows.jsonl", "--model", MODEL, "--validation-file", "rows.jsonl"]
        watched(r"created with\s+ID:\s+ftjob-\w+", *line, "--model-suffix", "teach", "--poll", "1")
    with drive.step("jobs list"):
        until(
            lambda: [job["status"] for job in rest("GET", "/v1/fine_tuning/jobs")[1]["data"]],
            lambda found: set(found) == {"succeeded"},
        )
        # Its table is written where there is no terminal only when it ends.
        shown = watched("succeeded", "jobs", "list", "--poll", "1", limit_s=8)
        want(".ft-" in shown and "-teach" in shown, shown[-250:])
    with drive.step("jobs cancel"):
        body = {"model": MODEL, "training_file": file, "hyperparameters": {"n_epochs": HELD_EPOCHS}}
        held = rest("POST", "/v1/fine_tuning/jobs", body)[1]["id"]
        want("cancelled successfully" in run("jobs", "cancel", held), "not cancelled")
        want(rest("GET", f"/v1/fine_tuning/jobs/{held}")[1]["status"] == "cancelled", "not cancelled")
    with drive.step("files delete"):
        want("deleted successfully" in run("files", "delete", file), "not deleted")
    report(metadata.version("instructor"), {"command line": drive})


if __name__ == "__main__":
    main()
