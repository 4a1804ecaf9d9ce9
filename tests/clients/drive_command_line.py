"""The command line that the Python SDK brings: `openai api ...`, as one types it, against each base path."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from drive import API_VERSION, HELD_EPOCHS, KEY, MODEL, URL, Drive, deploy, report, rows, undeploy, until
from drive import wanted as want


class CommandLine:
    def __init__(self, *options: str) -> None:
        self.options = options

    def __call__(self, *words: str) -> Any:
        """What `openai OPTIONS api WORDS` prints, decoded. Raises AssertionError with what it said if it failed."""
        program = Path(sys.executable).parent / "openai"
        done = subprocess.run(
            [sys.executable, str(program), *self.options, "api", *words], capture_output=True, text=True, timeout=60
        )
        want(done.returncode == 0, done.stderr.strip() or done.stdout.strip())
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError:
            return done.stdout


def walk(drive: Drive, run: CommandLine, azure: bool) -> None:
    Path("rows.jsonl").write_bytes(rows())
    with drive.step("files.create"):
        file = run("files.create", "-f", "rows.jsonl", "-p", "fine-tune")["id"]
    with drive.step("files.retrieve"):
        want(run("files.retrieve", "-i", file)["filename"] == "rows.jsonl", "other name")
    with drive.step("files.list"):
        want(file in str(run("files.list")), "not in the list")
    with drive.step("jobs.create"):
        job = run("fine_tuning.jobs.create", "-m", MODEL, "-F", file, "-H", '{"n_epochs": 2}', "-s", "line")["id"]
    with drive.step("jobs.retrieve until succeeded"):
        done = until(lambda: run("fine_tuning.jobs.retrieve", "-i", job), lambda found: found["status"] == "succeeded")
    with drive.step("jobs.list, pages of 1"):
        want(job in str(run("fine_tuning.jobs.list", "-l", "1")), "not in the list")
    with drive.step("jobs.list_events, pages of 2"):
        want("ftevent-" in str(run("fine_tuning.jobs.list_events", "-i", job, "-l", "2")), "no events")
    with drive.step("jobs.cancel"):
        held = json.dumps({"n_epochs": HELD_EPOCHS})
        long = run("fine_tuning.jobs.create", "-m", MODEL, "-F", file, "-H", held)["id"]
        want(run("fine_tuning.jobs.cancel", "-i", long)["status"] == "cancelled", "not cancelled")
    with drive.step("models.list"):
        want(done["fine_tuned_model"] in str(run("models.list")), "not in the list")
    name = "command-line" if azure else done["fine_tuned_model"]
    if azure:
        with drive.step("deployment"):
            deploy(name, done["fine_tuned_model"])
    with drive.step("chat"):
        want(run("chat.completions.create", "-m", name, "-g", "user", "hi", "-M", "5"), "no answer")
    with drive.step("chat, streamed"):
        want(run("chat.completions.create", "-m", name, "-g", "user", "hi", "-M", "5", "--stream"), "no answer")
    with drive.step("error 409"):
        refused(run, "has already succeeded", "fine_tuning.jobs.cancel", "-i", job)
    with drive.step("error 404"):
        refused(run, "ftjob-none", "fine_tuning.jobs.retrieve", "-i", "ftjob-none")
    if azure:
        undeploy(name)
    with drive.step("models.delete"):
        run("models.delete", "-i", done["fine_tuned_model"])
    with drive.step("files.delete"):
        run("files.delete", "-i", file)


def refused(run: CommandLine, words: str, *asked: str) -> None:
    try:
        run(*asked)
    except AssertionError as error:
        want(re.search(words, str(error)), error)
    else:
        raise AssertionError("not refused")


def main() -> None:
    ways = {
        "openai": ["-b", f"{URL}/v1/", "-k", KEY],
        "azure_v1": ["-b", f"{URL}/openai/v1/", "-k", KEY],
        "azure": ["-t", "azure", "--azure-endpoint", URL, "--api-version", API_VERSION, "-k", KEY],
    }
    scopes = {}
    for name, options in ways.items():
        drive = scopes[name] = Drive()
        with drive.step("(all)"):
            walk(drive, CommandLine(*options), name != "openai")
        if drive.outcomes["(all)"] == "ok":
            del drive.outcomes["(all)"]
    report(metadata.version("openai"), scopes)


if __name__ == "__main__":
    main()
