"""Ends a process at every effect of making a folder whole, by a kill and by a power cut, then makes it again.

    python work_folder_crashes.py FOLDER

Prints as JSON how many effects there were, and after which a name held something else than a whole folder. A process of
its own, for it forks: a process with threads (pytest) must not.
"""

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from crashes import CRASHED, CUTS, Disk
from luthier.cli.base_models.work_folder import WorkFolder

CONTENT = {"hf/model.safetensors": "weights", "probes.json": "probes", "prepared.json": "mark"}


def make(models: Path) -> None:
    with WorkFolder(models / ".m.tmp") as work:
        for name, text in CONTENT.items():
            (work.path / name).parent.mkdir(exist_ok=True)
            (work.path / name).write_text(text)
        work.become(models / "m")


def attempt(models: Path, crash_at: int | None, way: int) -> tuple[int, int]:
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        disk = Disk(models, crash_at, CUTS[way])
        disk.watch()
        make(models)
        os.write(tell, str(disk.count).encode())
        os._exit(0)
    os.close(tell)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(told, "rb") as stream:  # noqa: PTH123  (a descriptor)
        return status, int(stream.read() or 0)


def held(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def main(root: Path) -> None:
    wrong = []
    effects = 0
    for before in ({}, {"old": "half"}):
        calm = root / f"calm-{len(before)}"
        prepare(calm, before)
        _, effects = attempt(calm, None, 0)
        for n in range(1, effects + 1):
            for way in (0, 1):
                rough = root / f"rough-{len(before)}-{n}-{way}"
                prepare(rough, before)
                status, _ = attempt(rough, n, way)
                after = held(rough / "m") if (rough / "m").exists() else {}
                again, _ = attempt(rough, None, 0)
                if status != CRASHED or after not in ({}, before, CONTENT) or again != 0:
                    wrong.append(f"effect {n} way {way}: {status}, {after}, {again}")
                if held(rough / "m") != CONTENT or {path.name for path in rough.iterdir()} != {"m"}:
                    wrong.append(f"effect {n} way {way}: in the end {sorted(held(rough))}")
                shutil.rmtree(rough)
    print(json.dumps({"effects": effects, "wrong": wrong}))


def prepare(models: Path, before: dict[str, str]) -> None:
    models.mkdir()
    for name, text in before.items():
        (models / "m").mkdir(exist_ok=True)
        (models / "m" / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
