"""A base model of each family: brought here, tuned through a kill -9, deployed and proven, and it answers."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

import rows
from fakes import KEY, engine_calls
from families import ALL, make_source
from luthier import catalog
from luthier.api import server
from luthier.api.services import Services
from luthier.core.engine_ports import ServedModel
from luthier.core.states import Ability
from luthier.data.jsonl.line_reader import JsonRow
from luthier.data.rendering import tool_samples
from luthier.data.rendering.renderer import Renderer
from luthier.data.rows.supervised import Example, parse_supervised
from luthier.engines.gguf import export
from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.engines.parity import check_parity
from luthier.executors.local import LocalExecutor
from luthier.run_directory.run_directory import RunDirectory
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.trainer import loop
from luthier.trainer.dataset.tokenizer import FolderTokenizer
from luthier.trainer.model import prepare
from luthier.trainer.run.event_log import EventLog
from serving_story import deployed, ticked_until

pytestmark = pytest.mark.story
EPOCHS = 6
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FUNCTION = {"name": "add_one", "description": "Adds one to a", "parameters": PARAMETERS}
ROW: dict[str, Any] = {
    "messages": [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "What is 3 plus one?"}],
    "tools": [{"type": "function", "function": {**FUNCTION, "strict": False}}],
}
ANSWERED = {**ROW, "messages": [*ROW["messages"], {"role": "assistant", "content": "4"}]}
PARSED = parse_supervised(JsonRow(1, ANSWERED), frozenset(Ability)).example
assert PARSED is not None
CHAT = Example(PARSED.messages[:2], PARSED.tools)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LlamaCppEngine]:
    engine = LlamaCppEngine(tmp_path / "engines", context_tokens=2048, slots=2, threads=1)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("name", "tuning"), [*((name, "lora") for name in ALL), ("qwen2", "full"), ("gemma", "full"), ("phi", "4bit")]
)
def test_model_of_each_family_is_tuned_through_a_kill_deployed_and_proven(
    name: str, tuning: str, context: Context, engine: LlamaCppEngine, switch: tuple[Any, str], tmp_path: Path
) -> None:
    source = make_source(tmp_path / "source", name)
    entry = entry_of(name, tuning, source)
    base = context.base_folder(name)
    prepare.prepare(source, base, name, None, entry.lora.quantization if entry.lora else None)
    export.export_base(base)
    (base / "prepared.json").touch()
    there = replace(context, catalog=catalog.Catalog({name: entry}, {}))
    serving = Serving(there, engine, check_parity)
    supervisor = Supervisor(there, LocalExecutor(), serving, tick_s=0.01, train_threads=1)
    switch[0].app = server.build(Services(there, serving, lambda: None, calls=engine_calls()), None)

    with OpenAI(base_url=f"{switch[1]}/v1", api_key=KEY, max_retries=0) as client:
        file = client.files.create(file=("rows.jsonl", rows.good(12)), purpose="fine-tune")
        asked = {"n_epochs": EPOCHS, "batch_size": 1}
        job = client.fine_tuning.jobs.create(training_file=file.id, model=name, seed=3, hyperparameters=asked)
        supervisor.tick()
        supervisor.tick()
        calm = kill_in_the_middle(RunDirectory(there.runs_folder / job.id), tmp_path / "calm")
        ticked_until(supervisor, lambda: client.fine_tuning.jobs.retrieve(job.id).status in {"succeeded", "failed"})
        job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "succeeded", job.error
        ticked_until(supervisor, lambda: not any(there.runs_folder.iterdir()))

        assert loop.train(calm, calm.read_spec(), EventLog(calm), lambda: False) is not None
        last = sorted(calm.checkpoints.iterdir())[-1]
        newest = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
        stored = there.data_folder / "blobs" / "checkpoints" / newest.id
        assert {path.name: path.read_bytes() for path in stored.iterdir()} == {
            path.name: path.read_bytes() for path in last.iterdir()
        }
        results = client.files.content(job.result_files[0], extra_headers={"Accept": "text/csv"})
        assert results.read() == calm.results.read_bytes()

        properties = deployed(supervisor, switch[1], str(job.fine_tuned_model))
        assert properties["provisioningState"] == "Succeeded", properties
        messages = [{"role": "user", "content": "What is 3 plus one?"}]
        answer = client.chat.completions.create(model=str(job.fine_tuned_model), messages=messages, max_tokens=4)
        assert answer.usage.completion_tokens >= 1
        if tuning == "full":
            further = client.fine_tuning.jobs.create(
                training_file=file.id, model=str(job.fine_tuned_model), seed=3, hyperparameters={"n_epochs": 1}
            )
            ticked_until(
                supervisor, lambda: client.fine_tuning.jobs.retrieve(further.id).status in {"succeeded", "failed"}
            )
            ticked_until(supervisor, lambda: not any(there.runs_folder.iterdir()))
            assert client.fine_tuning.jobs.retrieve(further.id).status == "succeeded"
            told = client.fine_tuning.jobs.list_events(further.id, limit=100).data
            assert any("all weights of" in event.message and "earlier job" in event.message for event in told)
        assert prompt_tokens(client, str(job.fine_tuned_model)) == len(
            Renderer(FolderTokenizer(base / "hf"), 2048).chat_prompt(CHAT.messages, CHAT.tools)
        )
        served = engine.ensure(ServedModel(name, name, base, None))
        assert served.renders_tools == tool_samples.renders_tools(FolderTokenizer(base / "hf"))


def prompt_tokens(client: OpenAI, model: str) -> int:
    """What a served chat with a function is, in tokens: as a row of it is trained."""
    answer = client.chat.completions.create(model=model, max_tokens=1, **ROW)
    return int(answer.usage.prompt_tokens)


def entry_of(name: str, tuning: str, source: Path) -> catalog.BaseModelEntry:
    return catalog.BaseModelEntry.model_validate(
        {
            "name": name,
            "title": name,
            "parameters": "tiny",
            "licence": "MIT",
            "released": 0,
            "context_tokens": 512,
            "learning_rate": 1e-3,
            "tuning": "full" if tuning == "full" else "lora",
            "lora": {
                "rank": 4,
                "alpha": 8,
                "targets": ALL[name].targets,
                "quantization": "4bit" if tuning == "4bit" else None,
            },
            "source": {"kind": "folder", "path": source},
        }
    )


def kill_in_the_middle(run: RunDirectory, copy: Path) -> RunDirectory:
    """Ends the trainer by kill -9 once it has saved a checkpoint; returns its run directory as it was given to it."""
    deadline = time.monotonic() + 120
    while not run.checkpoints.exists() or not any(event.kind == "checkpoint" for event, _ in run.tail()):
        assert time.monotonic() < deadline, run.log.read_text()
        time.sleep(0.01)
    os.kill(int(run.lock.read_text()), signal.SIGKILL)
    assert not any(event.kind == "succeeded" for event, _ in run.tail()), "the kill came too late to show anything"
    calm = RunDirectory(copy)
    copy.mkdir()
    for path in (run.spec, run.training):
        shutil.copy(path, copy / path.name)
    return calm
