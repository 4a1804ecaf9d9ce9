"""A whole service for each client: real HTTP, a running supervisor, the tests' engine and trainer."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import scripted_model
from drive import HELD_EPOCHS
from recorder import Recorder

import control_plane
import wordpiece
from asgi_switch import Switch
from fakes import EchoEngine, ScriptedExecutor, engine_calls, train_well
from luthier.api.routes.inference.batch_lines import BatchLines
from luthier.api.services import Services
from luthier.core.states import RunState
from luthier.core.training.executor_port import ONE_CPU, RunNeeds
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.run_directory.run_directory import RESULT_COLUMNS, RunDirectory
from luthier.run_directory.run_events import Started, Succeeded
from luthier.service.background.supervisor import Supervisor
from luthier.service.batches.runner import BatchRunner
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.tenants import resources

OTHER = "proj_other"
"""A resource that checkpoints are shared with."""

RESULTS = f"""\
{",".join(RESULT_COLUMNS)}
1,2.5,0.4,2.6,0.4,,
2,2.0,0.5,2.1,0.5,2.2,0.5
3,1.5,0.6,1.6,0.6,,
4,1.0,0.7,1.1,0.7,1.2,0.7
"""


class HoldingExecutor(ScriptedExecutor):
    """Trains at once, but for jobs of HELD_EPOCHS: those run until they are cancelled or asked to pause."""

    def __init__(self) -> None:
        super().__init__(_train_or_begin)
        self._held: dict[str, RunDirectory] = {}

    def start(self, run: Path, attempt: int = 1, needs: RunNeeds = ONE_CPU) -> str:
        handle = super().start(run, attempt, needs)
        directory = RunDirectory(run)
        if not any(isinstance(event, Succeeded) for event, _ in directory.tail()):
            self._held[handle] = directory
            self.alive.add(handle)
        return handle

    def look(self, handle: str) -> RunState:
        if handle in self._held and self._held[handle].pause.exists():
            self.alive.discard(handle)
        return super().look(handle)


def _train_or_begin(run: RunDirectory) -> None:
    if run.read_spec().n_epochs != HELD_EPOCHS:
        train_well(run, at=time.time() - 10)
        run.results.write_text(RESULTS)
    elif not any(True for _ in run.tail()):
        run.append(Started(at=time.time(), n_steps=4, n_examples=10, n_tokens=100, supervised_tokens=40))


@pytest.fixture
def context(context: Context) -> Context:
    """The real clock: the supervisor looks at it many times a second, and would have a made one run through days."""
    return dataclasses.replace(context, now=lambda: datetime.now(UTC))


@pytest.fixture
def engine(engine: EchoEngine) -> EchoEngine:
    engine.script = scripted_model.answer
    return engine


@pytest.fixture
def recorder(url: str, switch: tuple[Switch, str]) -> Recorder:
    """In front of the service at `url`."""
    app = switch[0].app
    assert app is not None
    made = Recorder(app)
    switch[0].app = made
    return made


@pytest.fixture
def batch_runner(context: Context, serving: Serving, grammars: GrammarChecker) -> Iterator[BatchRunner]:
    """Works on batches as the service does, on an event loop of its own."""
    runner = BatchRunner(context, lines_at_once=4, tick_s=0.05, idle_tick_s=0.05)

    async def run() -> None:
        calls = engine_calls()
        services = Services(context, serving, lambda: None, grammars=grammars, calls=calls)
        runner.start(BatchLines(services))
        await asyncio.to_thread(over.wait)
        await runner.stop()
        await calls.close()

    over = threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    yield runner
    over.set()
    thread.join()


@pytest.fixture
def embedder(context: Context) -> str:
    """A model of embeddings; a deployment has its name too."""
    wordpiece.make_folder(context.base_folder("all-minilm-l6-v2"), max_tokens=64)
    return "all-minilm-l6-v2"


@pytest.fixture
def running_url(
    url: str, recorder: Recorder, context: Context, serving: Serving, batch_runner: BatchRunner, embedder: str
) -> Iterator[str]:
    resources.create(context, OTHER, None, None)
    supervisor = Supervisor(context, HoldingExecutor(), serving, tick_s=0.05)
    supervisor.start()
    assert control_plane.put(url, embedder, embedder).status_code == 201
    yield url
    supervisor.stop()
