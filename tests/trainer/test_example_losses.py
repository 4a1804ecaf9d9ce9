"""example_losses.csv: each row's own loss, whatever it was computed together with."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from equality import BEGINNING, randomise
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer import loop
from luthier.trainer.dataset.training_examples import Dataset
from luthier.trainer.model import tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import evaluate, sft
from luthier.trainer.objectives.sft import SupervisedObjective
from repository import CLIPPY
from runs import MakeRun, contents, events
from training import Crash, CrashingEventLog, train

SEQUENCES = [
    Rendered((*beginning, *rest), (0.0,) * (len(beginning) + 1) + (1.0,) * (len(rest) - 1), len(beginning) + 1)
    for beginning, rest in ((BEGINNING, (90, 91, 92)), ((3,), (5, 6, 7, 8)), (BEGINNING, (80, 81)), ((), (9, 10)))
]
"""The first and the third begin alike and lie together where a batch does not fit the budget."""


def table(run: RunDirectory) -> list[dict[str, float]]:
    lines = run.example_losses.read_text().splitlines()
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]


def adapted(base: Path) -> TunedModel:
    tuned_model.configure_process(1, 0)
    recipe = LoraRecipe(rank=4, alpha=8, targets=("q_proj", "v_proj"))
    return randomise(tuned_model.attach_adapter(tuned_model.load_base(base, torch.float32), recipe, 1, None))


def test_example_losses_are_those_that_the_untrained_model_has(make_run: MakeRun, base: Path) -> None:
    """A rate of next to nothing leaves the model as it is, so plain transformers can say what each row loses."""
    turns = [("user", "Who?"), ("assistant", "Ann Bell."), ("user", "Really?"), ("assistant", "Yes.")]
    long = json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}).encode()
    rows = CLIPPY.read_bytes().rstrip(b"\n") + b"\n\n" + long + b"\n"
    run = make_run(rows=rows, n_epochs=2, batch_size=4, learning_rate=1e-12)
    train(run)
    found = table(run)
    assert [row["line"] for row in found] == [*range(1, 11), 12], "the empty line counts"
    causal = transformers.AutoModelForCausalLM.from_pretrained(base / "hf", dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base / "hf")
    for row, line in zip(found, [line for line in rows.splitlines() if line], strict=True):
        nats, n_tokens, learned = plainly(causal, tokenizer, json.loads(line)["messages"])
        assert (row["tokens"], row["supervised_tokens"]) == (n_tokens, learned)
        assert row["first_epoch_loss"] == pytest.approx(nats / learned, rel=2e-2)
        assert row["last_epoch_loss"] == pytest.approx(row["first_epoch_loss"], rel=1e-2)


def plainly(causal: torch.nn.Module, tokenizer: Any, messages: list[dict[str, str]]) -> tuple[float, int, int]:
    """Nats of the answers, tokens in all and learned ones, one answer after the other."""
    nats, learned, token_ids = 0.0, 0, []
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = tokenizer.apply_chat_template(messages[:place], tokenize=False, add_generation_prompt=True)
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        answer_ids = tokenizer(message["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
        token_ids = prompt_ids + answer_ids
        with torch.no_grad():
            logits_TV = causal(input_ids=torch.tensor([token_ids])).logits[0, len(prompt_ids) - 1 : -1]
        nats += float(torch.nn.functional.cross_entropy(logits_TV, torch.tensor(answer_ids), reduction="sum"))
        learned += len(answer_ids)
    return nats, len(token_ids), learned


def test_example_losses_fall_where_rows_were_learned(make_run: MakeRun) -> None:
    run = make_run(n_epochs=8)
    train(run)
    found = table(run)
    assert all(row["last_epoch_loss"] < row["first_epoch_loss"] for row in found)
    steps = [event for event in events(run) if event["kind"] == "metrics"]
    last = steps[-4:]
    tokens = sum(row["supervised_tokens"] for row in found)
    mean = sum(row["last_epoch_loss"] * row["supervised_tokens"] for row in found) / tokens
    assert mean == pytest.approx(sum(step["train_loss"] * step["supervised_tokens"] for step in last) / tokens)


@pytest.mark.parametrize("budget", [10_000, 30, 1])
def test_losses_of_sequences_are_the_same_however_they_are_grouped(base: Path, budget: int) -> None:
    tuned = adapted(base)
    together = sft.gradients(tuned, SEQUENCES, budget).on_host()
    alone = [evaluate.evaluate(tuned, [sequence]) for sequence in SEQUENCES]
    assert together.sequence_nats == pytest.approx([sums.nats for sums in alone], rel=1e-4)


def test_an_examples_loss_is_over_all_of_its_sequences(base: Path) -> None:
    tuned = adapted(base)
    first, second, third = SEQUENCES[:3]
    examples: tuple[tuple[Rendered, ...], ...] = ((first,), (second, third))
    found = SupervisedObjective(Dataset(examples)).gradients(tuned, [1, 0], 10_000).on_host().example_losses
    expected = [evaluate.evaluate(tuned, list(sequences)).loss for sequences in ((second, third), (first,))]
    assert found == pytest.approx(expected, rel=1e-4)


def test_example_losses_of_a_run_that_crashed_are_those_of_a_calm_one(make_run: MakeRun) -> None:
    calm, rough = make_run("calm", n_epochs=2), make_run("rough", n_epochs=2)
    train(calm)
    for kind, step, written in (("metrics", 2, True), ("metrics", 6, False), ("succeeded", None, False)):
        event_log = CrashingEventLog(rough, kind, step, written)
        with pytest.raises(Crash):
            event_log.write(loop.train(rough, rough.read_spec(), event_log, lambda: False))
    train(rough)
    assert contents(rough) == contents(calm)
    assert rough.example_losses.exists()
