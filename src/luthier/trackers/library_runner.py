"""One run of W&B's or trackio's library, in a process of its own: a line of JSON in, a line of JSON out.

It runs by its path in an interpreter that has the library and need not have Luthier. The end of its input ends it at
once: whatever had not been confirmed is sent again by the next one.
"""

import fcntl
import json
import os
import re
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LOCK_S = 10.0
CONFIRM_S = 10.0
_BLOCK_BYTES = 32_768
_FULL, _LAST = 1, 4

Keys = set[tuple[int, str]]


class Later(Exception):
    """It may succeed later; the code says why."""


class Wandb:
    """A run in W&B's folder of offline runs, or also on a server.

    What the library writes is on disk only at the run's end, so one that was broken off is made anew.
    """

    def __init__(self, opening: dict[str, Any]) -> None:
        folder, run = Path(opening["folder"]), opening["run"]
        settings = {"MODE": opening["mode"], "DIR": folder, "SILENT": "true", "ERROR_REPORTING": "false"}
        settings |= {f"{kind}_DIR": folder / ".wandb-library" for kind in ("CONFIG", "CACHE", "DATA", "ARTIFACT")}
        settings |= {"API_KEY": opening["key"]} if opening["key"] else {}
        settings |= {"BASE_URL": opening["url"]} if opening["url"] else {}
        os.environ.update({f"WANDB_{name}": str(value) for name, value in settings.items()})
        import wandb

        self._kind = "offline-run" if opening["mode"] == "offline" else "run"
        self._files = folder / "wandb"
        self._id = run["job_id"]
        for broken_off in self._folders():
            shutil.rmtree(broken_off)
        quiet = wandb.Settings(
            console="off",
            disable_git=True,
            host="luthier",  # not this machine's name
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=run["project"],
            entity=run["entity"],
            id=run["job_id"],
            name=run["name"] or run["job_id"],
            tags=run["tags"],
            config=run["params"],
            job_type="fine-tune",
            resume="allow" if opening["mode"] == "online" else None,
            settings=quiet,
        )
        self._first_step = self._run.starting_step
        self._logged: Keys = set()
        (self._folder,) = self._folders()
        # A crash has the run made anew in a folder of another time.
        self.place = self._run.url if opening["mode"] == "online" and self._run.url else f"offline-run-*-{self._id}"

    def log(self, points: list[dict[str, Any]]) -> None:
        """Logs them, at the times of their events."""
        for point in points:
            if point["step"] >= self._first_step:
                self._run.log({**point["figures"], "_timestamp": point["at"]}, step=point["step"])
                self._logged |= {(point["step"], name) for name in point["figures"]}

    def finish(self, status: str, params: dict[str, str]) -> int:
        """Ends the run, and returns how many of the logged figures its file lacks: the library's other process writes
        the last of them after `finish` has returned.
        """
        self._run.summary.update({**params, "status": status})
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)
        return _n_missing(self._logged, lambda: _stored_in(self._folder / f"run-{self._id}.wandb"))

    def _folders(self) -> list[Path]:
        """The folders of the run; the library names them by time and id."""
        named = re.compile(rf"{self._kind}-\d+_\d+-{re.escape(self._id)}")
        return [path for path in self._files.glob(f"{self._kind}-*") if named.fullmatch(path.name)]


class Trackio:
    """A run in trackio's folder. What it has of a run stays, and only what it lacks is logged."""

    def __init__(self, opening: dict[str, Any]) -> None:
        os.environ["TRACKIO_DIR"] = opening["folder"]
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        run = opening["run"]
        self._project, self._name = run["project"], run["job_id"]
        self._storage = SQLiteStorage
        self._had = self._stored()
        self._logged: Keys = set()
        self._run = trackio.init(
            project=self._project,
            name=self._name,
            config=run["params"],
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self.place = f"{self._project} / {self._name}"

    def log(self, points: list[dict[str, Any]]) -> None:
        """Logs what the run lacks."""
        for point in points:
            figures = {
                name: value for name, value in point["figures"].items() if (point["step"], name) not in self._had
            }
            if figures:
                self._run.log(figures, step=point["step"])
                self._logged |= {(point["step"], name) for name in figures}

    def finish(self, status: str, params: dict[str, str]) -> int:
        """Ends the run, and returns how many of the logged figures the folder lacks."""
        self._run.finish()
        return _n_missing(self._logged, self._stored)

    def _stored(self) -> Keys:
        """The steps and names that the folder has of the run."""
        rows = self._storage.get_logs(self._project, self._name)
        return {(int(row["step"]), name) for row in rows for name in row if name not in ("step", "timestamp")}


def main() -> None:
    """Answers each line until the input ends. Whatever the libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run: Wandb | Trackio | None = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            match message["do"]:
                case "open":
                    lock = _lock(Path(message["folder"]), message["run"]["job_id"])
                    run = Wandb(message) if message["kind"] == "wandb" else Trackio(message)
                    answer: dict[str, Any] = {"place": run.place, "lock": lock}
                case "log":
                    assert run is not None
                    run.log(message["points"])
                    answer = {}
                case _:
                    assert run is not None
                    answer = {"missing": run.finish(message["status"], message["params"])}
        except ImportError:
            answer = {"error": "library_missing", "is_final": True}
        except Later as error:
            answer = {"error": str(error), "is_final": False}
        except BaseException as error:  # noqa: BLE001 - whatever a library raises is an answer
            is_final = type(error).__name__ in {"AuthenticationError", "UsageError"}
            answer = {"error": type(error).__name__, "is_final": is_final}
        print(json.dumps(answer), file=answers)
    os._exit(0)  # without the libraries' own handlers, which would wait for a server


def _lock(folder: Path, job_id: str) -> int:
    """Holds the job's lock until the process ends, so that two never write one run. Raises Later if another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f".{job_id}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Later("in_use") from None
            time.sleep(0.05)
        else:
            return descriptor


def _n_missing(logged: Keys, stored: Callable[[], Keys]) -> int:
    """How many of the figures are not stored, and will not be within CONFIRM_S."""
    deadline = time.monotonic() + CONFIRM_S
    while (missing := logged - stored()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(missing)


def _stored_in(path: Path) -> Keys:
    """The steps and names of the figures in a file of W&B's."""
    from wandb.proto import wandb_internal_pb2

    keys: Keys = set()
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            step = int(items.get("_step", record.history.step.num))
            keys |= {(step, name) for name in items if not name.startswith("_")}
    return keys


def _records(data: bytes) -> Iterator[bytes]:
    """The complete records of a file of W&B's: LevelDB's log format after seven bytes of its own, with zlib's CRC-32.

    The library for Python lost its reader with version 0.30 or so.
    """
    at, parts = 7, bytearray()
    while at + 7 <= len(data):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < 7:
            at += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + 7 : at + 7 + length]
        if kind == 0 or len(part) < length or zlib.crc32(bytes([kind]) + part) != checksum:
            return
        at += 7 + length
        parts += part
        if kind in (_FULL, _LAST):
            yield bytes(parts)
            parts.clear()


if __name__ == "__main__":
    main()
