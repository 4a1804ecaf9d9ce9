"""A trainer without torch that keeps the contract of the run directory: for many kills in little time.

    python light_trainer.py -m luthier.trainer RUN_DIR

Each state is the hash of the one before, each checkpoint holds it. It refuses, by a message, to resume from what is not
whole, as the real one does. The spec's n_epochs are its steps; each takes `STEP_S`.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from luthier.atomic_io import make_folder, write_durably
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import (
    CheckpointSaved,
    Message,
    Metrics,
    Paused,
    RunEvent,
    Saved,
    Started,
    Succeeded,
)

STEP_S = 0.02
KEPT = 2
EVERY = 3
"""Steps between two checkpoints."""


def main(folder: Path) -> int:
    run = RunDirectory(folder)
    run.repair()
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    n_steps = run.read_spec().n_epochs
    seen = [event for event, _ in run.tail()]
    if seen and isinstance(seen[-1], Succeeded):
        return 0
    step, state = resume(run, seen)
    say(run, seen, Started(at=time.time(), n_steps=n_steps, n_examples=1, n_tokens=1, supervised_tokens=1))
    while step < n_steps:
        step += 1
        state = hashlib.sha256(state.encode()).hexdigest()
        time.sleep(STEP_S)
        loss = int(state[:6], 16) / 1e6
        said = Metrics(at=time.time(), step=step, n_steps=n_steps, train_loss=loss, train_mean_token_accuracy=0.5)
        say(run, seen, said)
        leaving = (asked or run.pause.exists()) and step < n_steps
        if step % EVERY == 0:
            save_checkpoint(run, seen, step, state)
        if step % EVERY == 0 or leaving:
            make_folder(run.resume)
            write_durably(run.resume / "state.safetensors", json.dumps([step, state]).encode())
            say(run, seen, Saved(at=time.time(), step=step))
        if leaving:
            if run.pause.exists():
                write_folder(run, step, state)
                say(run, seen, Paused(at=time.time(), step=step, folder=name(step), metrics={}))
            run.under_way.unlink(missing_ok=True)
            return 0
    losses = [event for event in seen if isinstance(event, Metrics)]
    write_durably(run.results, "".join(f"{event.step},{event.train_loss!r}\n" for event in losses).encode())
    run.under_way.unlink(missing_ok=True)
    say(run, seen, Succeeded(at=time.time(), trained_tokens=1, seconds=0, peak_memory_bytes=0))
    return 0


def resume(run: RunDirectory, seen: list[RunEvent]) -> tuple[int, str]:
    run.under_way.touch()
    path = run.resume / "state.safetensors"
    if not path.exists():
        return 0, "begin"
    step, state = json.loads(path.read_bytes())
    saved = {event.folder: event.dropped for event in seen if isinstance(event, CheckpointSaved)}
    dropped = {folder for gone in saved.values() for folder in gone}
    steps = [event.step for event in seen if isinstance(event, Metrics)]
    whole = all((run.checkpoints / folder / "meta.json").exists() for folder in set(saved) - dropped)
    if steps[:step] != list(range(1, step + 1)) or not whole:
        run.append(Message(at=time.time(), message="Training begins again from its first step"))
        return 0, "begin"
    return int(step), str(state)


def save_checkpoint(run: RunDirectory, seen: list[RunEvent], step: int, state: str) -> None:
    write_folder(run, step, state)
    old = step - KEPT * EVERY
    dropped = (name(old),) if old > 0 else ()
    said = CheckpointSaved(at=time.time(), step=step, epoch=step, folder=name(step), metrics={}, dropped=dropped)
    say(run, seen, said)
    for folder in dropped:
        shutil.rmtree(run.checkpoints / folder, ignore_errors=True)


def write_folder(run: RunDirectory, step: int, state: str) -> None:
    folder = run.checkpoints / name(step)
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("adapter_model.safetensors", "tokenizer.json", "README.md", "meta.json"):
        write_durably(folder / file, b"{}" if file == "tokenizer.json" else f"{file} {state}\n".encode())


def say(run: RunDirectory, seen: list[RunEvent], event: RunEvent) -> None:
    """Appends an event unless an attempt before has said it."""
    known = {(earlier.kind, getattr(earlier, "step", None)) for earlier in seen}
    if (event.kind, getattr(event, "step", None)) not in known:
        run.append(event)
        seen.append(event)


def name(step: int) -> str:
    return f"step-{step:06d}"


if __name__ == "__main__":
    os._exit(main(Path(sys.argv[3])))  # as the real one: a second SIGTERM must not meet an interpreter that is closing
