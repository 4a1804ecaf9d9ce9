"""Ends trainer attempts at chosen effects on the disk, as a kill or a power cut would. Run as a process of its own:

    python crashes.py RUN_DIR each STRIDE     a crash at every STRIDE-th effect, each on a fresh copy, then to the end
    python crashes.py RUN_DIR storm STRIDE    one copy: the k-th attempt crashes at effect k * STRIDE, until one ends

Prints as JSON how many effects there were, and what ended otherwise than the undisturbed run. It imports torch once
and forks for each attempt, which a process with threads (pytest) must not do.
"""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luthier.run_directory.run_directory import RunDirectory
from luthier.trainer import __main__ as trainer
from runs import contents, events

CUTS: tuple[Callable[[int, int], int], ...] = (
    lambda synced, size: size,  # a kill: what was written is there
    lambda synced, size: synced,  # a power cut: nothing that was not synced
    lambda synced, size: (synced + size) // 2,
    lambda synced, size: size - 1,
)
"""What may be left of bytes that were written and not yet synced."""

CRASHED = 9
WORKERS = 2
_BY_PATH = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})
_WRITES = os.O_WRONLY | os.O_RDWR


class Disk:
    """Counts what this process does to files below a folder, and ends it just before the effect of a number."""

    def __init__(self, folder: Path, crash_at: int | None, cut: Callable[[int, int], int]) -> None:
        self.folder = str(folder)
        self.crash_at = crash_at
        self.cut = cut
        self.count = 0
        self.synced = {str(path): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        self._fsync = os.fsync

    def watch(self) -> None:
        sys.addaudithook(self._audit)
        os.fsync = self._counted_fsync  # the one effect that Python does not audit

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _BY_PATH or (event == "open" and not arguments[2] & _WRITES):
            return
        # shutil.rmtree names what it removes from inside an open folder: relative to it.
        relative = event in {"os.remove", "os.rmdir"} and arguments[-1] != -1
        if not relative and not str(arguments[0]).startswith(self.folder):
            return
        self._effect()
        if event == "os.rename":
            source, target = map(str, arguments[:2])
            for path in [path for path in self.synced if path == source or path.startswith(source + "/")]:
                self.synced[target + path.removeprefix(source)] = self.synced.pop(path)

    def _counted_fsync(self, fd: Any) -> None:
        path = str(Path(f"/proc/self/fd/{fd}").readlink())
        if path.startswith(self.folder):
            self._effect()
            self.synced[path] = os.fstat(fd).st_size
        self._fsync(fd)

    def _effect(self) -> None:
        self.count += 1
        if self.count == self.crash_at:
            self.crash_at = None
            for path in Path(self.folder).rglob("*"):
                if path.is_file() and path.stat().st_size > self.synced.get(str(path), 0):
                    os.truncate(path, self.cut(self.synced.get(str(path), 0), path.stat().st_size))
            os._exit(CRASHED)


def attempt(run: RunDirectory, crash_at: int | None, cut: Callable[[int, int], int] = CUTS[0]) -> tuple[int, int]:
    """One trainer in a forked process: its exit status, and the effects it came to if it was not ended."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        disk = Disk(run.path, crash_at, cut)
        disk.watch()
        status = trainer.main([str(run.path)])
        os.write(tell, str(disk.count).encode())
        os._exit(status)
    os.close(tell)
    _, status = os.waitpid(pid, 0)
    with open(told, "rb") as stream:  # noqa: PTH123  (a descriptor)
        return os.waitstatus_to_exitcode(status), int(stream.read() or 0)


def outcome(run: RunDirectory) -> dict[str, Any]:
    """All that must be equal: every file's name, the bytes of results and checkpoints, events without the clock.

    Not which steps were saved: after a crash more are.
    """
    shown = [
        {key: value for key, value in event.items() if key not in ("at", "seconds", "peak_memory_bytes")}
        for event in events(run)
        if event["kind"] != "saved"
    ]
    names = sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*"))
    return {"names": names, "events": shown, "bytes": contents(run)}


def each(source: RunDirectory, stride: int) -> dict[str, Any]:
    """Crashes fresh copies of `source` at every `stride`-th effect, and lets each go on to its end."""
    calm = _copy(source, "calm")
    status, effects = attempt(calm, None)
    assert status == 0
    expected = outcome(calm)
    chance = random.Random(stride)  # a fixed turn of ways would fall in step with the turns of writing and syncing
    places = [(n, chance.randrange(len(CUTS))) for n in range(1, effects + 1, stride)]
    told, tell = os.pipe()
    workers = []
    for worker in range(WORKERS):
        workers.append(os.fork())
        if workers[-1] == 0:
            for n, way in places[worker::WORKERS]:
                rough = _copy(source, f"rough-{n}-{way}")
                ends = attempt(rough, n, CUTS[way])[0], attempt(rough, None)[0]
                if ends != (CRASHED, 0) or outcome(rough) != expected:
                    os.write(tell, f"effect {n} cut {way}: exits {ends}\n".encode())
                shutil.rmtree(rough.path)
            os._exit(0)
    os.close(tell)
    with open(told) as stream:  # noqa: PTH123
        wrong = stream.read().splitlines()
    broken = [pid for pid in workers if os.waitpid(pid, 0)[1] != 0]
    return {"effects": effects, "crashes": len(places), "wrong": wrong + [f"worker {pid} died" for pid in broken]}


def storm(source: RunDirectory, stride: int) -> dict[str, Any]:
    """Crashes one run again and again, each attempt later than the one before, until an attempt gets through."""
    calm, rough = _copy(source, "calm"), _copy(source, "rough")
    attempt(calm, None)
    crashes = 0
    while attempt(rough, (crashes + 1) * stride, CUTS[crashes % len(CUTS)])[0] == CRASHED:
        crashes += 1
    return {"crashes": crashes, "wrong": [] if outcome(rough) == outcome(calm) else ["the run"]}


def _copy(source: RunDirectory, name: str) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(source.path, source.path.with_name(name))))


if __name__ == "__main__":
    from luthier.trainer import loop  # noqa: F401  (torch is imported before the forks)

    folder = RunDirectory(Path(sys.argv[1]))
    print(json.dumps({"each": each, "storm": storm}[sys.argv[2]](folder, int(sys.argv[3]))))
