"""Jobs that learn preferences, by the official SDKs and in every shape of `method` that callers send."""

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI

import rows
from fakes import BASE, KEY, ScriptedExecutor
from luthier.core.states import Method
from luthier.run_directory.run_directory import RunDirectory
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context

INNER = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}


@pytest.fixture
def file(openai_client: OpenAI) -> str:
    return openai_client.files.create(file=("pairs.jsonl", rows.pairs()), purpose="fine-tune").id


def post(url: str, file: str, prefix: str = "/v1", **fields: object) -> httpx2.Response:
    body = {"model": BASE, "training_file": file} | fields
    version = {"api-version": "2024-10-21"} if prefix == "/openai" else {}
    return httpx2.post(f"{url}{prefix}/fine_tuning/jobs", headers={"api-key": KEY}, json=body, params=version)


@pytest.mark.parametrize(
    ("dpo", "beta"),
    [
        ({"hyperparameters": {"beta": 0.2, **INNER}}, 0.2),
        ({"hyperparameters": {"beta": "0.2"}}, 0.2),
        ({"beta": 0.2, "l2_multiplier": 0.1}, 0.2),
        ({"beta": 0.2, "hyperparameters": {"n_epochs": 2}}, 0.2),
        ({"beta": 0.2, "hyperparameters": {"beta": 0.2}}, 0.2),
        ({"hyperparameters": {"beta": 2}}, 2.0),
        ({"hyperparameters": {"beta": "auto"}}, "auto"),
        ({"hyperparameters": {"beta": -1}}, "auto"),
        ({"hyperparameters": {"beta": None}}, "auto"),
        ({"hyperparameters": None}, "auto"),
        (None, "auto"),
    ],
)
def test_beta_is_read_in_every_shape(url: str, file: str, dpo: object, beta: object) -> None:
    answer = post(url, file, method={"type": "dpo", "dpo": dpo})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["method"]["type"] == "dpo"
    assert job["method"]["dpo"]["hyperparameters"]["beta"] == beta


def test_hyperparameters_of_the_root_fill_what_the_method_leaves_open(url: str, file: str) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": 2}}}
    job = post(url, file, method=method, hyperparameters={"n_epochs": 5, "batch_size": 8}).json()
    assert job["method"]["dpo"]["hyperparameters"] == {
        "beta": 0.3,
        "n_epochs": 2,
        "batch_size": 8,
        "learning_rate_multiplier": "auto",
    }


@pytest.mark.parametrize(
    ("method", "code", "words"),
    [
        ({"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}, "invalid_hyperparameter", "greater than 0"),
        ({"type": "dpo", "dpo": {"hyperparameters": {"beta": 2.1}}}, "invalid_hyperparameter", "at most 2"),
        ({"type": "dpo", "dpo": {"beta": -0.5}}, "invalid_hyperparameter", "greater than 0"),
        ({"type": "dpo", "dpo": {"hyperparameters": {"beta": True}}}, "invalid_value", "beta"),
        ({"type": "dpo", "dpo": {"bta": 1}}, "unknown_field", "method.dpo"),
        ({"type": "dpo", "dpo": {"beta": 0.1, "hyperparameters": {"beta": 0.2}}}, "two_values", "Send one of them"),
        ({"type": "dpo", "supervised": {}}, "method_mismatch", "method.supervised is given too"),
        ({"type": "supervised", "dpo": {"beta": 0.1}}, "method_mismatch", "method.dpo is given too"),
        ({"type": "reinforcement"}, "method_not_supported", "use 'supervised' or 'dpo'"),
    ],
)
def test_wrong_method_is_a_400_that_names_it(url: str, file: str, method: object, code: str, words: str) -> None:
    answer = post(url, file, method=method)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["n_epochs", "batch_size", "learning_rate_multiplier"])
@pytest.mark.parametrize("kind", ["supervised", "dpo"])
def test_value_of_the_root_that_the_methods_displaces_is_told_in_an_event(
    openai_client: OpenAI, url: str, file: str, kind: str, name: str
) -> None:
    def told(root: object, inner: object) -> list[str]:
        method = {"type": kind, kind: {"hyperparameters": {name: inner}}}
        job = post(url, file, method=method, hyperparameters={name: root}).json()
        return [event.message for event in openai_client.fine_tuning.jobs.list_events(job["id"])]

    assert any(f"hyperparameters.{name} 1" in message and "has no effect" in message for message in told(1, 2))
    assert not [message for message in told(2, 2) + told("auto", 2) if "has no effect" in message]


@pytest.mark.parametrize("prefix", ["/openai", "/openai/v1"])
def test_azure_shows_numbers_at_the_root_too_and_what_is_open_as_its_own_words(
    url: str, file: str, prefix: str
) -> None:
    job = post(url, file, prefix, method={"type": "dpo"}).json()
    asked = {"n_epochs": -1, "batch_size": -1, "learning_rate_multiplier": 1.0}
    assert job["method"] == {"type": "dpo", "dpo": {"hyperparameters": {**asked, "beta": 0.1}}}
    assert job["hyperparameters"] == asked


def test_factor_that_is_not_used_is_told_in_an_event(openai_client: OpenAI, url: str, file: str) -> None:
    job = post(url, file, method={"type": "dpo", "dpo": {"beta": 0.1, "l2_multiplier": 0.1}}).json()
    told = [event.message for event in openai_client.fine_tuning.jobs.list_events(job["id"])]
    assert any("l2_multiplier has no effect" in message for message in told)


@pytest.mark.parametrize("name", ["azure", "azure_v1", "openai_client"])
def test_job_by_the_sdk_is_queued_with_numbers_and_told_to_the_trainer(
    request: pytest.FixtureRequest, name: str, file: str, context: Context, supervisor: Supervisor,
    executor: ScriptedExecutor,
) -> None:  # fmt: skip
    client: OpenAI | AzureOpenAI = request.getfixturevalue(name)
    method = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 3.0}}}
    specs = []
    executor.trainer = lambda run: specs.append(RunDirectory(run.path).read_spec())
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file, method=method)
    supervisor.tick()
    supervisor.tick()
    shown = client.fine_tuning.jobs.retrieve(job.id).method.dpo.hyperparameters
    assert (shown.beta, shown.n_epochs, shown.batch_size, shown.learning_rate_multiplier) == (0.1, 2, 2, 3.0)
    [spec] = specs
    base = context.catalog.find(BASE)
    assert base is not None
    assert (spec.method, spec.beta) == (Method.DPO, 0.1)
    assert spec.learning_rate == pytest.approx(base.learning_rate * 0.1 * 3)


def test_file_of_the_other_kind_fails_with_the_method_that_it_is_for(
    openai_client: OpenAI, file: str, supervisor: Supervisor
) -> None:
    chats = openai_client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune").id
    create = openai_client.fine_tuning.jobs.create
    made = [create(model=BASE, training_file=chats, method={"type": "dpo"}), create(model=BASE, training_file=file)]
    supervisor.tick()
    errors = [openai_client.fine_tuning.jobs.retrieve(job.id).error for job in made]
    assert "the job's method is dpo" in errors[0].message
    assert "method dpo" in errors[1].message
    with pytest.raises(openai.BadRequestError, match="beta is 9"):
        create(model=BASE, training_file=file, method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 9}}})
