"""What travels with a model: the manifest tells what it was made of, the card is one that Hugging Face tools read."""

import hashlib
import json
from pathlib import Path

import huggingface_hub
import pytest
import torch

import tiny
from luthier import manifest, model_folder
from luthier.manifest import Manifest
from luthier.run_directory.run_directory import RunDirectory
from repository import CLIPPY
from runs import MakeRun
from training import train

VALID = b"".join(CLIPPY.read_bytes().splitlines(keepends=True)[:4])


def trained(run: RunDirectory) -> Path:
    """Trains to the end; the last checkpoint's folder."""
    train(run)
    return sorted(run.checkpoints.iterdir())[-1]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_in(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / model_folder.MANIFEST).read_bytes())


def test_manifest_names_every_input_by_hash_and_no_place_of_the_machine(make_run: MakeRun, base: Path) -> None:
    run = make_run(valid=VALID, n_epochs=1)
    folder = trained(run)
    made = made_in(folder)
    assert made.files == manifest.Files(
        training_file=sha256(run.training),
        validation_file=sha256(run.validation),
        base_weights=sha256(base / "hf" / "model.safetensors"),
        tokenizer=sha256(base / "hf" / "tokenizer.json"),
        chat_template=sha256(base / "hf" / "chat_template.jinja"),
        adapter=sha256(folder / "adapter_model.safetensors"),
    )
    assert (made.step, made.epoch, made.threads) == (4, 1, 1)
    assert made.versions.keys() >= {"luthier", "python", "torch", "transformers", "peft", "safetensors", "tokenizers"}
    assert made.versions["torch"] == torch.__version__
    assert made.lineage == manifest.Lineage(job_id="ftjob-1", base_model=tiny.NAME)
    assert made.train_spec(base) == run.read_spec().model_copy(update={"keep_checkpoints": 1})
    for name in (model_folder.MANIFEST, model_folder.MODEL_CARD):
        text = (folder / name).read_text()
        assert str(base.parent) not in text
        assert str(run.path.parent) not in text


def test_manifest_of_a_model_that_goes_on_names_its_parent(make_run: MakeRun) -> None:
    folder = trained(make_run("parent", n_epochs=1))
    parent = sha256(folder / model_folder.ADAPTER_WEIGHTS)
    child = make_run("child", n_epochs=1, continued=True, parent_model="tiny.ft-1")
    folder.rename(child.parent)
    last = trained(child)
    assert made_in(last).lineage.parent_adapter == parent
    assert made_in(last).lineage.parent_model == "tiny.ft-1"
    assert "From `tiny.ft-1`" in (last / model_folder.MODEL_CARD).read_text()


def test_differences_are_what_was_not_alike_and_not_the_outcome(make_run: MakeRun) -> None:
    made = made_in(trained(make_run(n_epochs=1)))
    other = made.model_copy(
        update={"threads": 2, "step": 8, "files": made.files.model_copy(update={"adapter": "0" * 64})}
    )
    assert manifest.differences(made, made) == []
    assert manifest.differences(made, other) == [("threads", "1", "2")]


def test_card_is_read_by_hugging_face_tools_and_holds_no_row(make_run: MakeRun) -> None:
    folder = trained(make_run(valid=VALID, n_epochs=1, base_licence="Llama 3.2 Community", base_repository="meta/tiny"))
    read = huggingface_hub.ModelCard.load(folder / model_folder.MODEL_CARD)
    data = read.data
    assert (data.base_model, data.library_name, data.license) == ("meta/tiny", "peft", "llama3.2")
    assert data.pipeline_tag == "text-generation"
    assert {"lora", "luthier"} <= set(data.tags or ())
    metrics = json.loads((folder / "meta.json").read_bytes())["metrics"]
    assert data.eval_results is not None
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "loss": metrics["full_valid_loss"],
        "accuracy": metrics["full_valid_mean_token_accuracy"],
    }
    for line in CLIPPY.read_text().splitlines():
        for message in json.loads(line)["messages"]:
            assert message["content"] not in read.content


@pytest.mark.parametrize(
    ("licence", "word", "name"),
    [
        ("Apache-2.0", "apache-2.0", None),
        ("Our Own Licence", "other", "our-own-licence"),
        (None, "other", "unknown"),
    ],
)
def test_card_without_validation_or_known_licence_is_still_a_card(
    make_run: MakeRun, licence: str | None, word: str, name: str | None
) -> None:
    data = huggingface_hub.ModelCard.load(
        trained(make_run(n_epochs=1, base_licence=licence)) / model_folder.MODEL_CARD
    ).data
    assert (data.license, data.license_name, data.base_model) == (word, name, tiny.NAME)
    assert data.eval_results is None
