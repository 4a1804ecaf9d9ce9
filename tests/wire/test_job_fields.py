"""What a job is created with, in every shape that real callers send, and what of it is shown again."""

from typing import Any

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI
from openai.types.fine_tuning.job_create_params import Integration

from fakes import BASE, KEY
from luthier.core.models import Principal
from luthier.core.quotas import Quota
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import quotas

WANDB: Integration = {
    "type": "wandb",
    "wandb": {"project": "house", "name": None, "entity": "team", "tags": ["a", "b"]},
}


SHAPES = [
    ({"n_epochs": 3}, (3, "auto", "auto")),
    ({"n_epochs": 3.0, "batch_size": "4", "learning_rate_multiplier": "0.5"}, (3, 4, 0.5)),
    ({"n_epochs": "3", "batch_size": "auto", "learning_rate_multiplier": 2}, (3, "auto", 2.0)),
    ({"n_epochs": None, "batch_size": -1, "learning_rate_multiplier": -1.0}, ("auto", "auto", "auto")),
    ({"n_epochs": " Auto ", "batch_size": "-1", "learning_rate_multiplier": "AUTO"}, ("auto", "auto", "auto")),
    ({"prompt_loss_weight": 0}, ("auto", "auto", "auto")),
    ({"prompt_loss_weight": None}, ("auto", "auto", "auto")),
    (None, ("auto", "auto", "auto")),
]

FAULTS: list[tuple[dict[str, object], str, str]] = [
    ({"hyperparameters": {"n_epochs": 3.5}}, "invalid_value", "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": True}}, "invalid_value", 'must be a number or "auto"'),
    ({"hyperparameters": {"n_epochs": "nan"}}, "invalid_value", 'must be a number or "auto"'),
    ({"hyperparameters": {"learning_rate_multiplier": 10**400}}, "invalid_value", 'must be a number or "auto"'),
    ({"hyperparameters": {"learning_rate_multiplier": 0}}, "invalid_hyperparameter", "greater than 0"),
    ({"hyperparameters": {"n_epochs": 51}}, "invalid_hyperparameter", "from 1 to 50"),
    (
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 0}}}},
        "invalid_hyperparameter",
        "from 1 to 50",
    ),
    ({"method": {"type": "magic"}}, "invalid_value", "method.type"),
    ({"prompt_loss_weight": 0.1}, "prompt_loss_weight_not_supported", "prompt_loss_weight is 0.1"),
    (
        {"hyperparameters": {"prompt_loss_weight": 0.1}},
        "prompt_loss_weight_not_supported",
        "hyperparameters.prompt_loss_weight is 0.1",
    ),
    (
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"prompt_loss_weight": 1}}}},
        "prompt_loss_weight_not_supported",
        "method.supervised.hyperparameters.prompt_loss_weight",
    ),
    ({"metadata": {str(number): "v" for number in range(17)}}, "invalid_value", "at most 16"),
    ({"metadata": {"k" * 65: "v"}}, "invalid_value", "a key has 1 to 64"),
    ({"metadata": {"k": "v" * 513}}, "invalid_value", "at most 512"),
    ({"metadata": {"k": 1}}, "invalid_value", "metadata.k"),
    ({"trainingType": "Cheap"}, "invalid_training_type", "Standard, GlobalStandard or Developer"),
    ({"trainingType": True}, "invalid_value", "trainingType"),
    (
        {"integrations": [{"type": "tensorboard", "wandb": {"project": "p"}}]},
        "invalid_value",
        "integrations[0].type",
    ),
    ({"integrations": [{"type": "wandb"}]}, "missing_field", "integrations[0].wandb"),
    ({"integrations": [{"type": "wandb", "wandb": {}}]}, "missing_field", "integrations[0].wandb.project"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "p", "key": "s"}}]}, "unknown_field", "wandb.key"),
    ({"integrations": [WANDB] * 6}, "invalid_value", "at most 5"),
    ({"early_stopping": {"patience": 2}}, "early_stopping_needs_validation", "no validation_file"),
    ({"early_stopping": {"patience": 0}}, "invalid_value", "early_stopping.patience"),
    ({"early_stopping": {"patience": 51}}, "invalid_value", "early_stopping.patience"),
    ({"early_stopping": 2}, "invalid_value", "early_stopping"),
    ({"early_stopping": {"waits": 2}}, "unknown_field", "early_stopping.waits"),
]

TRAINING_TYPES = [
    ("Standard", "standard"),
    ("globalstandard", "globalStandard"),
    ("GlobalStandard", "globalStandard"),
    ("Developer", "developerTier"),
    ("developerTier", "developerTier"),
    (1, "globalStandard"),
    (0, "standard"),
]


def post(url: str, file: str, **fields: object) -> httpx2.Response:
    body = {"model": BASE, "training_file": file} | fields
    return httpx2.post(f"{url}/v1/fine_tuning/jobs", headers={"api-key": KEY}, json=body)


def test_hyperparameters_are_read_in_every_shape(url: str, file: str, context: Context, caller: Principal) -> None:
    quotas.set_limits(context, caller.resource.id, {Quota.QUEUED_JOBS: 100})
    for sent, kept in SHAPES:
        method = {"type": "supervised", "supervised": {"hyperparameters": sent}, "dpo": None}
        root: dict[str, object] = {"hyperparameters": sent}
        for fields in (root, {"method": method}, root | {"method": method}):
            shown = post(url, file, **fields).json()["hyperparameters"]
            assert (shown["n_epochs"], shown["batch_size"], shown["learning_rate_multiplier"]) == kept, fields


def test_method_wins_over_the_root_and_the_root_fills_what_it_leaves_open(url: str, file: str) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}}
    shown = post(url, file, method=method, hyperparameters={"n_epochs": 5, "batch_size": 8}).json()
    assert shown["hyperparameters"] == {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": "auto"}


def test_wrong_field_is_a_400_that_names_it(url: str, file: str) -> None:
    for fields, code, words in FAULTS:
        answer = post(url, file, **fields)
        assert answer.status_code == 400, fields
        error = answer.json()["error"]
        assert error["code"] == code, fields
        assert words in error["message"]


def test_limits_of_metadata_are_taken_whole(client: OpenAI, file: str) -> None:
    metadata = {f"{number:064d}": "v" * 512 for number in range(16)}
    made = client.fine_tuning.jobs.create(training_file=file, model=BASE, metadata=metadata)
    assert client.fine_tuning.jobs.retrieve(made.id).metadata == metadata


def test_training_type_is_echoed_in_its_canonical_spelling(client: OpenAI, file: str) -> None:
    for sent, shown in TRAINING_TYPES:
        made = client.fine_tuning.jobs.create(training_file=file, model=BASE, extra_body={"trainingType": sent})
        assert made.to_dict()["trainingType"] == shown


def test_integrations_are_kept_and_shown_and_nothing_is_sent(client: OpenAI, file: str) -> None:
    made = client.fine_tuning.jobs.create(training_file=file, model=BASE, integrations=[WANDB])
    [shown] = client.fine_tuning.jobs.retrieve(made.id).integrations or []
    assert shown.type == "wandb"
    assert shown.wandb.model_dump(exclude_none=True) == {
        "project": "house",
        "entity": "team",
        "tags": ["a", "b"],
        "run_id": made.id,
    }
    messages = [event.message for event in client.fine_tuning.jobs.list_events(made.id)]
    assert any("nothing is sent to Weights & Biases" in message for message in messages)
    plain = client.fine_tuning.jobs.create(training_file=file, model=BASE)
    assert not plain.integrations
    assert not any("Weights & Biases" in event.message for event in client.fine_tuning.jobs.list_events(plain.id))


@pytest.mark.parametrize(("sent", "kept"), [(True, 2), ({}, 2), ({"patience": 3}, 3), ({"patience": 1.0}, 1)])
def test_early_stopping_is_kept_and_shown(client: OpenAI, file: str, sent: object, kept: int) -> None:
    made = client.fine_tuning.jobs.create(
        training_file=file, validation_file=file, model=BASE, extra_body={"early_stopping": sent}
    )
    assert made.to_dict()["early_stopping"] == {"patience": kept}
    assert client.fine_tuning.jobs.retrieve(made.id).to_dict()["early_stopping"] == {"patience": kept}


def test_early_stopping_left_out_or_false_is_not_shown(url: str, file: str) -> None:
    for fields in ({}, {"early_stopping": None}, {"early_stopping": False}):
        assert "early_stopping" not in post(url, file, **fields).json(), fields


def listed(client: OpenAI, **query: Any) -> list[object]:
    listed_jobs = [job.to_dict() for job in client.fine_tuning.jobs.list(limit=1, **query)]
    return [job["suffix"] or job["user_provided_suffix"] for job in listed_jobs]


def test_jobs_are_listed_by_metadata_and_paged(client: OpenAI, file: str) -> None:
    odd = 'k"]$.[ü'
    kept = [
        ("a", {"team": "x", "run": "1"}),
        ("b", {"team": "x", "run": "2"}),
        ("c", {odd: ""}),
        ("d", {}),
        ("e", None),
    ]
    for suffix, metadata in kept:
        client.fine_tuning.jobs.create(training_file=file, model=BASE, suffix=suffix, metadata=metadata)
    assert listed(client) == ["e", "d", "c", "b", "a"]
    assert listed(client, metadata={"team": "x"}) == ["b", "a"]
    assert listed(client, metadata={"team": "x", "run": "1"}) == ["a"]
    assert listed(client, metadata={"team": "y"}) == []
    assert listed(client, metadata={odd: ""}) == ["c"]
    assert listed(client, extra_query={"metadata": "null"}) == ["e", "d"]
    with pytest.raises(openai.BadRequestError, match=r"metadata\[key\]=value"):
        listed(client, extra_query={"metadata": "x"})
    with pytest.raises(openai.BadRequestError, match="is no id of this list"):
        listed(client, after="ftjob-none")
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.list(limit=0)


def test_filter_that_no_metadata_can_match_is_refused_in_words(client: OpenAI) -> None:
    full = {f"{n:064}": "v" * 512 for n in range(16)}
    assert listed(client, metadata=full) == []
    for wrong, words in (
        (full | {"one": "more"}, "has 17 pairs; at most 16"),
        ({f"k{n}": "v" for n in range(1500)}, "has 1500 pairs; at most 16"),
        ({"k" * 65: "v"}, "a key of 65 characters"),
        ({"k\n" * 33: "v"}, "a key of 66 characters"),
        ({"": "v"}, "a key of 0 characters"),
        ({"k": "v" * 513}, "a value of 513 characters"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            listed(client, metadata=wrong)


def test_estimate_moves_with_the_run_and_ends_at_its_end(azure: AzureOpenAI, file: str, supervisor: Supervisor) -> None:
    job = azure.fine_tuning.jobs.create(training_file=file, model=BASE)
    assert job.estimated_finish is None
    for _ in range(5):
        supervisor.tick()
    ended = azure.fine_tuning.jobs.retrieve(job.id)
    assert ended.estimated_finish == ended.finished_at
