"""When a process that lives counts as stuck, and how often it is started anew; with a clock of the test's."""

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from luthier.core.engine_ports import ServedModel
from luthier.core.errors import Unavailable
from luthier.engines import watchdog
from luthier.engines.llamacpp import engine_process
from luthier.engines.watchdog import (
    MAX_BACK_OFF_S,
    SILENT_S,
    STOPPED_S,
    STUCK_S,
    BackOff,
    Look,
    Vitals,
    Watchdog,
    revive,
)

WELL = Look(stopped=False, answers=True, moves=True)


class Process:
    pid = 1

    def __init__(self) -> None:
        self.seen = WELL
        self.status: int | None = None
        self.kills = 0

    def exit_status(self) -> int | None:
        return self.status

    def look(self, loop_too: bool) -> Look:
        return self.seen

    def kill(self) -> None:
        self.kills += 1
        self.status = -9


@pytest.mark.parametrize(
    ("look", "after_s", "reason"),
    [
        (Look(stopped=True, answers=False), STOPPED_S, "stopped for 2 s"),
        (Look(stopped=False, answers=False), SILENT_S, "no answer for 15 s"),
        (Look(stopped=False, answers=True, moves=False), STUCK_S, "no progress for 120 s"),
        (Look(stopped=False, answers=True, moves=None), STUCK_S, "no progress for 120 s"),
    ],
)
def test_process_is_stuck_after_its_time_and_not_before(look: Look, after_s: float, reason: str) -> None:
    vitals = Vitals(0.0)
    assert vitals.note(look, after_s - 0.1) is None
    assert vitals.note(look, after_s) == reason


def test_process_that_is_well_again_counts_from_anew() -> None:
    vitals = Vitals(0.0)
    assert vitals.note(Look(stopped=False, answers=False), SILENT_S - 1) is None
    assert vitals.note(WELL, SILENT_S) is None
    assert vitals.note(Look(stopped=False, answers=False), 2 * SILENT_S - 1) is None


def test_stuck_process_is_killed_and_told_of_once() -> None:
    now, process, told = 0.0, Process(), []
    watchdog = Watchdog(
        lambda: [process], lambda dead, lived_s: told.append((dead, lived_s)), threading.Event(), lambda: now
    )
    watchdog.tick()
    process.seen = Look(stopped=True, answers=False)
    now = 10.0
    assert watchdog.silent_s(process) == 10.0
    watchdog.tick()
    watchdog.tick()
    assert (process.kills, told) == (1, [(process, 10.0)])


def test_process_that_died_by_itself_is_told_of_and_not_killed() -> None:
    process, told = Process(), []
    watchdog = Watchdog(lambda: [process], lambda dead, lived_s: told.append(dead), threading.Event())
    process.status = 1
    watchdog.tick()
    assert (process.kills, told) == (0, [process])


def test_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Process):
        def look(self, loop_too: bool) -> Look:
            looks.append(loop_too)
            if len(looks) == 1:
                raise ValueError("odd")
            closing.set()
            return WELL

    looks: list[bool] = []
    closing, process = threading.Event(), Odd()
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", 0.01)
    Watchdog(lambda: [process], lambda dead, lived_s: None, closing).start()
    assert closing.wait(10)
    assert (len(looks), process.kills) == (2, 0)
    assert "a look at the engines failed" in caplog.text


def test_process_that_another_thread_has_ended_does_not_answer(tmp_path: Path) -> None:
    launch = engine_process.Launch("python", 64, 1, 1, 1.0)
    child = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    model = ServedModel("base", "base", tmp_path, None)
    process = engine_process.EngineProcess(child, launch, tmp_path / "engine", "key", [model])
    process.end()
    assert process.look(loop_too=True) == Look(stopped=False, answers=False, moves=False)
    assert process.is_idle()


def test_back_off_grows_with_quick_deaths_and_ends_with_a_life() -> None:
    back_off = BackOff()
    assert [back_off.after(1.0) for _ in range(8)] == [0.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, MAX_BACK_OFF_S]
    assert back_off.after(1000.0) == 0.0


def test_revive_tries_until_a_start_succeeds() -> None:
    class Waits(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            return False

    waited: list[float | None] = []
    starts = iter([Unavailable("engine_failed", "not yet"), None])

    def start() -> None:
        if (error := next(starts)) is not None:
            raise error

    refused: Callable[[], None] = start
    revive(refused, BackOff(), 1000.0, Waits())
    assert waited == [0.0, 0.0]
    assert next(starts, "none left") == "none left"
