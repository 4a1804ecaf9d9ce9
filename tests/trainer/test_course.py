"""Learning rate, gradient norm and tokens so far: told at each step, the same however often the trainer was killed."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from equality import randomise
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.run_directory import RESULT_COLUMNS, RunDirectory
from luthier.run_directory.run_events import Metrics
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer import loop
from luthier.trainer.dataset.training_examples import Dataset
from luthier.trainer.model import optimizer_setup, tuned_model
from luthier.trainer.objectives import sft, training_step
from luthier.trainer.objectives.sft import SupervisedObjective
from runs import MakeRun, contents, events
from training import Crash, CrashingEventLog, train

NAMES = ("learning_rate", "gradient_norm", "trained_tokens")


def courses(run: RunDirectory) -> list[dict[str, Any]]:
    return [{name: event[name] for name in NAMES} for event in events(run) if event["kind"] == "metrics"]


def test_gradient_norm_of_a_step_is_that_of_all_parameters_before_clipping(make_run: MakeRun, base: Path) -> None:
    spec = make_run(batch_size=2).read_spec()
    tuned_model.configure_process(1, 0)
    recipe = LoraRecipe(rank=4, alpha=8, targets=("q_proj", "v_proj"))
    tuned = randomise(tuned_model.attach_adapter(tuned_model.load_base(base, torch.float32), recipe, 1, None))
    rows = [Rendered((3, 5, 6, 7 + row), (0.0, 0.0, 1.0, 1.0), 2) for row in range(2)]
    sft.gradients(tuned, rows, 10_000)
    gradients = [one.grad for one in tuned.parameters.values() if one.grad is not None]
    squares = sum(float((gradient.double() ** 2).sum()) for gradient in gradients)
    for gradient in gradients:
        gradient.zero_()
    optimizer = optimizer_setup.optimizer(tuned.parameters.values(), spec)
    objective = SupervisedObjective(Dataset(tuple((row,) for row in rows)))
    taken = training_step.take(tuned, optimizer, objective, [0, 1], 10_000, spec, 1, 100)
    assert taken.gradient_norm == pytest.approx(math.sqrt(squares), rel=1e-5)
    assert taken.learning_rate == optimizer_setup.rate(1, 100, spec)


def test_course_is_told_at_each_step_and_is_the_same_after_crashes(make_run: MakeRun) -> None:
    calm, rough = make_run("calm", n_epochs=2), make_run("rough", n_epochs=2)
    verdict = train(calm)
    for kind, step, written in (("metrics", 2, True), ("metrics", 6, False)):
        event_log = CrashingEventLog(rough, kind, step, written)
        with pytest.raises(Crash):
            loop.train(rough, rough.read_spec(), event_log, lambda: False)
    train(rough)
    found = courses(calm)
    assert courses(rough) == found
    assert contents(rough) == contents(calm)
    assert all(course["gradient_norm"] > 0 for course in found)
    n_steps, spec = len(found), calm.read_spec()
    assert [course["learning_rate"] for course in found] == [
        optimizer_setup.rate(step, n_steps, spec) for step in range(1, n_steps + 1)
    ]
    tokens = [course["trained_tokens"] for course in found]
    assert tokens == sorted(set(tokens))
    assert verdict is not None
    assert tokens[-1] == verdict.trained_tokens
    assert calm.results.read_text().splitlines()[0] == ",".join(RESULT_COLUMNS)


def test_metrics_of_an_older_version_are_read_without_a_course(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    line = '{"kind":"metrics","at":1.0,"step":1,"n_steps":2,"train_loss":0.5,"train_mean_token_accuracy":0.25}\n'
    run.events.write_text(line)
    [(event, _)] = run.tail()
    assert isinstance(event, Metrics)
    assert event.course() == {}
