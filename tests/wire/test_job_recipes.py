"""What practitioners set, in the `luthier` object of a job: shown again, told to the trainer, refused by name."""

import json
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from fakes import BASE, KEY, ScriptedExecutor, train_well
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import TrainSpec
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context

ASKED: dict[str, Any] = {
    "n_epochs": 80,
    "learning_rate": 2e-4,
    "lora_rank": 8,
    "lora_dropout": 0.05,
    "lora_targets": ["q_proj", "v_proj"],
    "max_tokens": 1024,
    "warmup": 0.03,
    "schedule": "cosine",
    "weight_decay": 0.01,
}


def post(url: str, file: str, **fields: object) -> httpx2.Response:
    body = {"model": BASE, "training_file": file} | fields
    return httpx2.post(f"{url}/v1/fine_tuning/jobs", headers={"api-key": KEY}, json=body)


def specs_of(supervisor: Supervisor, executor: ScriptedExecutor) -> list[TrainSpec]:
    """Drives all jobs to their ends; what the trainers were told."""
    told: list[TrainSpec] = []

    def trains(run: RunDirectory) -> None:
        told.append(run.read_spec())
        train_well(run)

    executor.trainer = trains
    for _ in range(6):
        supervisor.tick()
    return told


def test_recipe_is_shown_again_and_told_to_the_trainer(
    client: OpenAI, file: str, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    made = client.fine_tuning.jobs.create(training_file=file, model=BASE, extra_body={"luthier": ASKED})
    assert made.to_dict()["luthier"] == ASKED
    spec = specs_of(supervisor, executor)[0]
    assert (spec.n_epochs, spec.learning_rate, spec.context_tokens) == (80, 2e-4, 1024)
    assert spec.lora is not None
    assert (spec.lora.rank, spec.lora.alpha, spec.lora.dropout) == (8, 16, 0.05)
    assert spec.lora.targets == ("q_proj", "v_proj")
    assert (spec.warmup, spec.schedule, spec.weight_decay) == (0.03, "cosine", 0.01)
    shown = client.fine_tuning.jobs.retrieve(made.id)
    assert shown.status == "succeeded"
    assert shown.to_dict()["luthier"] == ASKED
    assert shown.hyperparameters.n_epochs == 80
    assert shown.hyperparameters.learning_rate_multiplier == pytest.approx(0.2), "what the rate is of the entry's own"


def test_job_without_a_recipe_shows_none(url: str, file: str) -> None:
    shapes: tuple[dict[str, Any], ...] = ({}, {"luthier": None}, {"luthier": {}}, {"luthier": {"lora_rank": None}})
    for fields in shapes:
        assert "luthier" not in post(url, file, **fields).json(), fields


FAULTS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"luthier": {"lora_rank": 0}}, "invalid_hyperparameter", "luthier.lora_rank", "from 1 to 1,024"),
    ({"luthier": {"lora_r": 8}}, "unknown_field", "luthier.lora_r", "Did you mean lora_rank?"),
    ({"luthier": {"full": True, "bits": 4}}, "settings_exclude", "luthier.bits", "frozen"),
    ({"luthier": {"max_tokens": 10_000}}, "invalid_hyperparameter", "luthier.max_tokens", "at most 8,192"),
    ({"luthier": {"bits": 4}}, "model_not_ready", "luthier.bits", f"luthier models pull {BASE}-4bit"),
    (
        {"luthier": {"learning_rate": 1e-4}, "hyperparameters": {"learning_rate_multiplier": 2}},
        "settings_exclude",
        "luthier.learning_rate",
        "Send one of them",
    ),
    (
        {"luthier": {"n_epochs": 60}, "hyperparameters": {"n_epochs": 3}},
        "two_values",
        "luthier.n_epochs",
        "Send one",
    ),
    ({"hyperparameters": {"n_epochs": 60}}, "invalid_hyperparameter", "hyperparameters.n_epochs", "from 1 to 50"),
]


def test_recipe_that_cannot_be_is_a_400_that_names_it(url: str, file: str) -> None:
    for fields, code, param, words in FAULTS:
        answer = post(url, file, **fields)
        assert answer.status_code == 400, fields
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == (code, param), fields
        assert words in error["message"]


def test_preferences_are_not_learned_by_all_weights(url: str, file: str) -> None:
    error = post(url, file, luthier={"full": True}, method={"type": "dpo"}).json()["error"]
    assert error["code"] == "method_not_supported"


def test_full_tunes_all_weights_and_a_job_that_goes_on_from_it_does_too(
    openai_client: OpenAI, url: str, file: str, supervisor: Supervisor, executor: ScriptedExecutor, context: Context
) -> None:
    made = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE, extra_body={"luthier": {"full": True}})
    (spec,) = specs_of(supervisor, executor)
    assert spec.lora is None
    assert spec.learning_rate == pytest.approx(1e-4), "a tenth of an adapter's"
    parent = openai_client.fine_tuning.jobs.retrieve(made.id).fine_tuned_model
    assert parent is not None
    refused = post(url, file, model=parent, luthier={"lora_rank": 4}).json()["error"]
    assert (refused["code"], refused["param"]) == ("settings_exclude", "luthier.lora_rank")


def test_adapter_that_goes_on_has_its_parents_shape(
    openai_client: OpenAI, file: str, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    def trains(run: RunDirectory) -> None:
        train_well(run)
        for folder in run.checkpoints.iterdir():
            shape = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj"]}
            (folder / "adapter_config.json").write_text(json.dumps(shape))

    executor.trainer = trains
    made = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE)
    for _ in range(6):
        supervisor.tick()
    parent = openai_client.fine_tuning.jobs.retrieve(made.id).fine_tuned_model
    assert parent is not None
    openai_client.fine_tuning.jobs.create(
        training_file=file, model=parent, extra_body={"luthier": {"lora_dropout": 0.2}}
    )
    spec = specs_of(supervisor, executor)[0]
    assert spec.lora is not None
    assert (spec.lora.rank, spec.lora.alpha, spec.lora.targets, spec.lora.dropout) == (4, 6, ("q_proj",), 0.2)


def test_job_in_few_bits_is_on_a_base_of_its_own(
    openai_client: OpenAI, file: str, supervisor: Supervisor, executor: ScriptedExecutor, context: Context
) -> None:
    folder = context.models_folder / f"{BASE}-4bit"
    folder.mkdir()
    (folder / "prepared.json").write_text("{}")
    assert f"{BASE}-4bit" in [model.id for model in openai_client.models.list()]
    made = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE, extra_body={"luthier": {"bits": 4}})
    assert made.model == f"{BASE}-4bit"
    (spec,) = specs_of(supervisor, executor)
    assert spec.lora is not None
    assert (spec.base_folder, spec.lora.quantization) == (folder, "4bit")
    shown = openai_client.fine_tuning.jobs.retrieve(made.id)
    assert shown.status == "succeeded"
    assert str(shown.fine_tuned_model).startswith(f"{BASE}-4bit.ft-")
