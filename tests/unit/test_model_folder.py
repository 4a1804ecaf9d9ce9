"""The model folders: what makes a base model and a checkpoint complete, and which ids end a turn."""

import json
from pathlib import Path

import pytest

from luthier.model_folder import BaseModelFolder, CheckpointFolder, HuggingFaceFolder, folder_name, list_checkpoints
from repository import ROOT


@pytest.mark.parametrize(
    ("content", "ids"),
    [({"eos_token_id": 7}, (7,)), ({"eos_token_id": [9, 7, None]}, (9, 7)), ({"eos_token_id": None}, ()), ({}, ())],
)
def test_generation_end_ids_are_read_from_a_number_or_a_list(
    tmp_path: Path, content: dict[str, object], ids: tuple[int, ...]
) -> None:
    folder = HuggingFaceFolder(tmp_path)
    assert folder.generation_end_ids() == ()
    folder.generation_config.write_text(json.dumps(content))
    assert folder.generation_end_ids() == ids


def test_base_model_is_complete_only_with_the_file_that_is_written_last(tmp_path: Path) -> None:
    base = BaseModelFolder(tmp_path)
    base.hf.path.mkdir()
    for path in (base.hf.config, base.hf.weights, base.hf.tokenizer, base.hf.tokenizer_config, base.gguf, base.probes):
        path.touch()
    assert not base.is_complete
    assert base.hf.missing() == ("chat_template.jinja",)
    base.prepared.touch()
    assert base.is_complete


def test_checkpoint_is_held_without_its_proof_and_complete_with_meta(tmp_path: Path) -> None:
    checkpoint = CheckpointFolder(tmp_path)
    checkpoint.adapter_weights.touch()
    assert not checkpoint.is_held
    checkpoint.model_card.touch()
    assert checkpoint.is_held
    assert not checkpoint.is_complete
    checkpoint.meta.touch()
    assert checkpoint.is_complete


def test_tuned_weights_are_all_weights_where_a_checkpoint_has_them(tmp_path: Path) -> None:
    checkpoint = CheckpointFolder(tmp_path)
    assert checkpoint.tuned_weights == checkpoint.adapter_weights
    checkpoint.hf.weights.touch()
    assert checkpoint.tuned_weights == checkpoint.hf.weights


def test_checkpoints_are_listed_in_the_order_of_their_steps_and_temporary_ones_are_not(tmp_path: Path) -> None:
    for name in (folder_name(1_000_000), folder_name(12), folder_name(999_999), f".{folder_name(13)}.tmp"):
        (tmp_path / name).mkdir()
    assert [step for step, _ in list_checkpoints(tmp_path)] == [12, 999_999, 1_000_000]


def test_no_other_module_spells_a_name_of_a_model_folder() -> None:
    names = ("hf", "prepared.json", "base-f16.gguf", "probes.json", "meta.json", "adapter_model.safetensors")
    quoted = [f'"{name}"' for name in names]
    source = ROOT / "src" / "luthier"
    modules = [path for path in source.rglob("*.py") if path.name != "model_folder.py"]
    assert len(modules) > 100
    spelled = [
        (path.relative_to(source).as_posix(), name)
        for path in modules
        for name in quoted
        if name in path.read_text("utf-8")
    ]
    assert spelled == [
        ("cli/base_models/unlisted_models.py", '"hf"')
    ]  # a folder name that says nothing about a snapshot
