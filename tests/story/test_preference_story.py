"""A model taught by chats, then by preferences: the official SDK, the real trainer, a deployment that is proven."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

import rows
import tiny
from fakes import KEY, engine_calls
from luthier import catalog
from luthier.api import server
from luthier.api.services import Services
from luthier.engines.gguf import export
from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.engines.parity import check_parity
from luthier.executors.local import LocalExecutor
from luthier.run_directory.run_directory import RESULT_COLUMNS, REWARD_COLUMNS
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.trainer.model import prepare
from serving_story import deployed, ticked_until

pytestmark = pytest.mark.story


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LlamaCppEngine]:
    engine = LlamaCppEngine(tmp_path / "engines", context_tokens=2048, slots=2, threads=1)
    yield engine
    engine.close()


def test_model_of_chats_is_taught_preferences_deployed_and_proven(
    context: Context, engine: LlamaCppEngine, switch: tuple[Any, str], tmp_path: Path
) -> None:
    there = with_tiny_base(context, tmp_path)
    serving = Serving(there, engine, check_parity)
    supervisor = Supervisor(there, LocalExecutor(), serving, tick_s=0.01, train_threads=1)
    switch[0].app = server.build(Services(there, serving, lambda: None, calls=engine_calls()), None)

    with OpenAI(base_url=f"{switch[1]}/v1", api_key=KEY, max_retries=0) as client:

        def ended(**asked: Any) -> Any:
            job = client.fine_tuning.jobs.create(seed=3, **asked)
            ticked_until(supervisor, lambda: client.fine_tuning.jobs.retrieve(job.id).status in {"succeeded", "failed"})
            job = client.fine_tuning.jobs.retrieve(job.id)
            assert job.status == "succeeded", job.error
            ticked_until(supervisor, lambda: not any(there.runs_folder.iterdir()))
            return job

        chats, pairs, held = (
            client.files.create(file=(f"{name}.jsonl", content), purpose="fine-tune").id
            for name, content in (("chats", rows.good()), ("pairs", rows.pairs(12)), ("held", rows.pairs(5)))
        )
        first = ended(model=tiny.NAME, training_file=chats, hyperparameters={"n_epochs": 3})
        dpo = {"hyperparameters": {"beta": 0.2, "n_epochs": 6, "learning_rate_multiplier": 20}}
        job = ended(
            model=str(first.fine_tuned_model),
            training_file=pairs,
            validation_file=held,
            method={"type": "dpo", "dpo": dpo},
        )
        assert job.method.dpo.hyperparameters.beta == 0.2

        text = client.files.content(job.result_files[0], extra_headers={"Accept": "text/csv"}).read().decode()
        steps = list(csv.DictReader(io.StringIO(text)))
        assert tuple(steps[0]) == RESULT_COLUMNS + REWARD_COLUMNS
        assert float(steps[0]["train_loss"]) == pytest.approx(0.6931, abs=1e-3)  # the reference is the parent
        assert float(steps[-1]["full_valid_reward_accuracy"]) == 1.0
        told = [event.data for event in client.fine_tuning.jobs.list_events(job.id) if event.type == "metrics"]
        assert told[0]["train_reward_margin"] == float(steps[-1]["train_reward_margin"])
        newest = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
        assert newest.metrics.model_dump()["full_valid_reward_margin"] > 0

        properties = deployed(supervisor, switch[1], str(job.fine_tuned_model))
        assert properties["provisioningState"] == "Succeeded", json.dumps(properties)
        messages = [{"role": "user", "content": "What is 3 plus one?"}]
        answer = client.chat.completions.create(model=str(job.fine_tuned_model), messages=messages, max_tokens=4)
        assert answer.usage.completion_tokens >= 1


def with_tiny_base(context: Context, tmp_path: Path) -> Context:
    """The context with one base model, tiny and random, brought here as any other is."""
    source = tiny.base_folder(tmp_path / "source") / "hf"
    entry = catalog.BaseModelEntry.model_validate(
        {
            "name": tiny.NAME,
            "title": tiny.NAME,
            "parameters": "tiny",
            "licence": "MIT",
            "released": 0,
            "context_tokens": 512,
            "learning_rate": 1e-3,
            "lora": {
                "rank": 4,
                "alpha": 8,
                "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            },
            "source": {"kind": "folder", "path": source},
        }
    )
    base = context.base_folder(tiny.NAME)
    prepare.prepare(source, base, tiny.NAME)
    export.export_base(base)
    (base / "prepared.json").touch()
    return replace(context, catalog=catalog.Catalog({tiny.NAME: entry}, {}))
