"""What every trainer is given, and Luthier's own part of the benchmark, on a tiny model. TRL is not needed here."""

import json
from pathlib import Path

import pytest
import safetensors.torch
from bench import flops, job, luthier_run, prepare
from bench.job import Job

import tiny
from luthier.trainer.dataset import packing
from repository import CLIPPY

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Two of the four steps that ten Clippy rows make in threes; read only."""
    folder = tmp_path_factory.mktemp("job")
    base = tiny.base_folder(tmp_path_factory.mktemp("base") / "tiny")
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": TARGETS}
    made = Job("clippy", folder, tiny.NAME, base, 512, 3, 2, 4, 7, 1e-2, lora)
    made.rows.write_bytes(CLIPPY.read_bytes())
    prepare.main([str(made.save())])
    return made


def test_prepared_rows_stand_in_the_order_of_luthiers_steps(prepared: Job) -> None:
    rows = [json.loads(line)["messages"] for line in prepared.rows.read_text().splitlines()]
    order = packing.epoch_batches(len(rows), 3, 7, 0)
    taken = job.read_taken(prepared)
    assert [row["messages"] for row in taken] == [rows[index] for batch in order[:2] for index in batch]


def test_prepared_labels_are_tokens_where_they_are_learned(prepared: Job) -> None:
    facts = flops.load(prepared.facts)
    taken = job.read_taken(prepared)
    learned = [[id for id in row["labels"] if id != -100] for row in taken]
    assert sum(map(len, learned)) == sum(facts.learned_tokens) > 0
    assert sum(len(row["input_ids"]) for row in taken) == sum(facts.tokens)
    assert sum(len(row["input_ids"]) ** 2 for row in taken) == sum(facts.squares)
    for row, ids in zip(taken, learned, strict=True):
        assert row["input_ids"][-len(ids) :] == ids


def test_prepared_adapter_changes_the_model_from_the_start(prepared: Job) -> None:
    tensors = safetensors.torch.load_file(prepared.adapter / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in tensors} == set(TARGETS)
    assert all(tensor.abs().sum() > 0 for tensor in tensors.values())


def test_luthier_runs_the_steps_and_leaves(prepared: Job, tmp_path: Path) -> None:
    result, peak_bytes = luthier_run.measure(prepared, tmp_path / "run")
    facts = flops.load(prepared.facts)
    assert [len(values) for values in result.values()] == [2, 2, 2, 2]
    assert all(seconds > 0 for seconds in result["seconds"])
    assert result["tokens"] == list(facts.tokens)
    assert peak_bytes > 10_000_000
