"""A module `trackio` that keeps a run's rows as lines of a file, after a while, as the library does; and an interpreter
that finds it.
"""

import json
import sys
from pathlib import Path

_INIT = """
import json, os, pathlib
from trackio import sqlite_storage

class Run:
    def __init__(self, path):
        self.path, self.rows = path, []
    def log(self, figures, step):
        if os.environ.get("HANG") or pathlib.Path(os.environ["TRACKIO_DIR"], "hang").exists():
            import time
            time.sleep(60)
        self.rows.append({**figures, "step": step, "timestamp": "t"})
        if len(self.rows) == 5:
            self._write()
    def finish(self):
        self._write()
        print("a text for nobody")
    def _write(self):
        with self.path.open("a") as file:
            file.writelines(json.dumps(row) + "\\n" for row in self.rows)
        self.rows.clear()

def init(project, name, config, resume, **others):
    path = sqlite_storage.path_of(project, name)
    path.with_suffix(".config").write_text(json.dumps(config))
    return Run(path)
"""
_STORAGE = """
import json, os, pathlib

def path_of(project, name):
    return pathlib.Path(os.environ["TRACKIO_DIR"], f"{project}-{name}.jsonl")

class SQLiteStorage:
    @staticmethod
    def get_logs(project, name):
        path = path_of(project, name)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
"""


def interpreter(folder: Path) -> str:
    """The path of a command that runs Python with the module."""
    package = folder / "site" / "trackio"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_INIT)
    (package / "sqlite_storage.py").write_text(_STORAGE)
    command = folder / "python"
    command.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={package.parent} exec {sys.executable} -S "$@"\n')
    command.chmod(0o700)
    return str(command)


def rows(folder: Path, project: str, job_id: str) -> list[dict[str, float]]:
    path = folder / f"{project}-{job_id}.jsonl"
    read = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{name: value for name, value in row.items() if name != "timestamp"} for row in read]
