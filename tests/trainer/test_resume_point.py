"""When a resume point is saved, and what is read back: its very numbers, or nothing."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from luthier.core.errors import Conflict
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics
from luthier.trainer.run.event_log import EventLog
from luthier.trainer.run.resume_state import FILE, MAX_COST, Progress, ResumePoint
from runs import MakeRun


class Times:
    """A clock that gives the times it was told, one a look."""

    def __init__(self, *times: float) -> None:
        self.times: Iterator[float] = iter(times)

    def __call__(self) -> float:
        return next(self.times)


def trained(seed: int = 0) -> tuple[dict[str, Tensor], torch.optim.AdamW]:
    """Two parameters and an optimizer with moments."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {name: torch.nn.Parameter(torch.randn(3, 2, generator=generator)) for name in ("b", "a")}
    optimizer = torch.optim.AdamW(parameters.values(), weight_decay=0.0)
    for parameter in parameters.values():
        parameter.grad = torch.randn(3, 2, generator=generator)
    optimizer.step()
    return dict(parameters), optimizer


def told(run: RunDirectory, steps: int) -> EventLog:
    """A event_log in which this many steps are told."""
    event_log = EventLog(run)
    for step in range(1, steps + 1):
        event_log.metrics(Metrics(at=1.0, step=step, n_steps=9, train_loss=1.0, train_mean_token_accuracy=0.5))
    return event_log


def saved(run: RunDirectory, step: int = 5) -> None:
    ResumePoint(run, run.read_spec()).save(*trained(), Progress(step, 12.5))


def test_save_is_due_after_the_interval_and_again_an_interval_after_the_save(make_run: MakeRun) -> None:
    run = make_run(save_interval_s=60)
    clock = Times(1000, 1059, 1060, 1060, 1060.5, 1120, 1120.5)
    resume_point = ResumePoint(run, run.read_spec(), clock)
    assert not resume_point.due()
    assert resume_point.due()
    resume_point.save(*trained(), Progress(1, 1.0))  # from 1060 to 1060.5
    assert not resume_point.due()
    assert resume_point.due()


def test_save_that_takes_long_is_due_less_often_so_that_its_cost_stays_bounded(make_run: MakeRun) -> None:
    run = make_run(save_interval_s=60)
    cost_s = 3.0
    end = 100 + cost_s
    resume_point = ResumePoint(run, run.read_spec(), Times(0, 100, end, end + 149, end + 150, 300, 300.25, 359, 360.25))
    resume_point.save(*trained(), Progress(1, 1.0))
    assert not resume_point.due()
    assert resume_point.due()
    assert cost_s / 150 <= MAX_COST
    resume_point.save(*trained(), Progress(2, 1.0))  # a quick one: the interval counts again
    assert not resume_point.due()
    assert resume_point.due()


def test_save_of_a_hasty_attempt_is_due_after_its_first_step_and_then_in_doubling_times(make_run: MakeRun) -> None:
    run = make_run(save_interval_s=60)
    clock = Times(1000, 1003, 1003, 1003.1, 1006, 1006.2, 1006.2, 1006.5, 1012, 1013, 1092, 1092.1, 1152, 1152.2)
    resume_point = ResumePoint(run, run.read_spec(), clock, hasty=True)
    assert resume_point.due()  # the first step took three seconds
    resume_point.save(*trained(), Progress(1, 1.0))  # from 1003 to 1003.1
    assert not resume_point.due()
    assert resume_point.due()
    resume_point.save(*trained(), Progress(2, 1.0))
    assert not resume_point.due()
    assert resume_point.due()  # 6.5 seconds behind the last save, which came 6.5 seconds behind the start
    resume_point.save(*trained(), Progress(3, 1.0))
    assert not resume_point.due()
    assert resume_point.due()  # never later than a save of any attempt


def test_save_comes_back_to_the_bit(make_run: MakeRun) -> None:
    run = make_run()
    saved(run)
    expected, wanted = trained()
    parameters, optimizer = trained(seed=1)
    assert ResumePoint(run, run.read_spec()).load(parameters, optimizer, told(run, 5)) == Progress(5, 12.5)
    for name, parameter in parameters.items():
        assert torch.equal(parameter, expected[name])
        for moment in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(optimizer.state[parameter][moment], wanted.state[expected[name]][moment])


def test_save_of_another_spec_is_refused_but_not_of_another_interval_or_thread_count(make_run: MakeRun) -> None:
    run = make_run()
    saved(run)
    spec = run.read_spec()
    free = spec.model_copy(update={"save_interval_s": 5.0, "threads": 2})
    assert ResumePoint(run, free).load(*trained(), told(run, 5)).step == 5
    with pytest.raises(Conflict) as caught:
        ResumePoint(run, spec.model_copy(update={"learning_rate": 1.0})).load(*trained(), EventLog(run))
    assert caught.value.code == "spec_changed"


def flipped(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut in the length": lambda data: data[:7],
    "cut in the header": lambda data: data[:100],
    "cut by a byte": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "flipped length": flipped(1),
    "flipped name": flipped(20),
    "flipped last number": flipped(-1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_save_that_is_damaged_is_told_and_the_run_begins_again(
    make_run: MakeRun, damage: Callable[[bytes], bytes]
) -> None:
    run = make_run()
    saved(run)
    path = run.resume / FILE
    data = path.read_bytes()
    path.write_bytes(damage(data)[: len(data)])
    event_log = told(run, 5)
    parameters, optimizer = trained(seed=1)
    assert ResumePoint(run, run.read_spec()).load(parameters, optimizer, event_log) == Progress()
    assert torch.equal(parameters["a"], trained(seed=1)[0]["a"])
    assert "cannot be read" in run.events.read_text()


def test_save_with_any_bit_flipped_is_never_taken_for_another(make_run: MakeRun) -> None:
    run = make_run()
    saved(run)
    path = run.resume / FILE
    data = path.read_bytes()
    event_log, resume_point = told(run, 5), ResumePoint(run, run.read_spec())
    for place in range(0, len(data), 3):
        path.write_bytes(flipped(place)(data) if place + 1 < len(data) else flipped(-1)(data))
        parameters, optimizer = trained(seed=1)
        if resume_point.load(parameters, optimizer, event_log).step:  # a blank of the header's padding says nothing
            assert torch.equal(parameters["a"], trained()[0]["a"])
            assert data[place : place + 1] == b" "


def test_save_ahead_of_the_event_log_does_not_count(make_run: MakeRun) -> None:
    run = make_run()
    saved(run)
    assert ResumePoint(run, run.read_spec()).load(*trained(), told(run, 4)) == Progress()
    assert "event log ends before the saved step" in run.events.read_text()
