"""Starts what is measured: services with tuned models of their own, llama.cpp's server and our engine alone."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil

from bench.process import ROOT
from bench.serving.prompts import Prompts
from bench.serving.targets import BASE, LlamaCppTarget, NativeTarget, ServiceTarget, Target
from luthier.core.engine_ports import ServedModel
from luthier.engines import child_process
from luthier.engines.native.native_engine import NativeEngine
from luthier.model_folder import BASE_GGUF
from running import KEY, Running

STREAMS = 32
CONTEXT_TOKENS = 16_384
KEPT_SLOTS = 1
"""The service keeps its last slot for a resource without an answer, so it has one more than there are streams."""
TUNED = 4
ROWS = ROOT / "src" / "luthier" / "examples" / "clippy-training.jsonl"
PATIENCE_S = 900.0
NATIVE, LLAMACPP, BARE_LLAMACPP, BARE_NATIVE = "native", "llama.cpp", "bare llama.cpp, spinning", "bare native"
NAMES = (NATIVE, LLAMACPP, BARE_LLAMACPP, BARE_NATIVE)

Openers = dict[str, Callable[[], Target]]


def openers(stack: ExitStack, folder: Path, data: Path, models: Path, prompts: Prompts) -> Openers:
    """How each target is started, by its name; the stack ends what was started.

    `data` is for the services: one that was tuned there before is not tuned again.
    """

    def bare_native() -> Target:
        engine = NativeEngine(folder / "bare-native", context_tokens=CONTEXT_TOKENS, sequences=STREAMS)
        stack.callback(engine.close)
        return NativeTarget(BARE_NATIVE, engine.ensure(ServedModel(BASE, BASE, models / BASE, None)), prompts)

    def bare_llamacpp() -> Target:
        url, process = stack.enter_context(_llamacpp(folder, models / BASE / BASE_GGUF))
        return LlamaCppTarget(BARE_LLAMACPP, url, process, prompts)

    return {
        NATIVE: lambda: stack.enter_context(_service(NATIVE, "native", data / "native", models)),
        LLAMACPP: lambda: stack.enter_context(_service(LLAMACPP, "llamacpp", data / "llamacpp", models)),
        BARE_LLAMACPP: bare_llamacpp,
        BARE_NATIVE: bare_native,
    }


@contextmanager
def _service(name: str, engine: str, folder: Path, models: Path) -> Iterator[ServiceTarget]:
    folder.mkdir(parents=True, exist_ok=True)
    running = Running(folder / "data", models)
    running.environment |= {
        "LUTHIER_SERVE_ENGINE": engine,
        "LUTHIER_SERVE_SLOTS": str(STREAMS + KEPT_SLOTS),
        "LUTHIER_SERVE_CONTEXT_TOKENS": str(CONTEXT_TOKENS),
    }
    try:
        running.start()
        names = folder / "tuned.json"
        if not names.exists():
            names.write_text(json.dumps(_tuned(running, TUNED + 1)))
        tuned: list[str] = json.loads(names.read_text())
        deployments = [f"tuned-{place}" for place in range(TUNED)]
        for deployment, model in zip(deployments, tuned, strict=False):
            ended = running.deploy(deployment, model)
            assert ended["provisioningState"] == "Succeeded", ended
        yield ServiceTarget(name, running.url, KEY, deployments, tuned[-1])
    finally:
        running.close()


def _tuned(running: Running, n: int) -> list[str]:
    """Models tuned for one step each on the guide's ten rows; only their seeds differ."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.Client(base_url=running.url, headers=headers, timeout=60, trust_env=False) as http:
        file = _sent(
            http, "/v1/files", files={"file": ("rows.jsonl", ROWS.read_bytes())}, data={"purpose": "fine-tune"}
        )
        body = {"training_file": file["id"], "model": BASE, "hyperparameters": {"n_epochs": 1, "batch_size": 10}}
        jobs = [_sent(http, "/v1/fine_tuning/jobs", json=body | {"seed": seed})["id"] for seed in range(1, n + 1)]
        return [_ended(http, job) for job in jobs]


def _sent(http: httpx2.Client, path: str, **what: Any) -> dict[str, Any]:
    reply = http.post(path, **what)
    assert reply.status_code in {200, 201}, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def _ended(http: httpx2.Client, job: str) -> str:
    """The model that a job made."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        state = http.get(f"/v1/fine_tuning/jobs/{job}").json()
        if state["fine_tuned_model"]:
            return str(state["fine_tuned_model"])
        assert state["status"] not in {"failed", "cancelled"}, state
        time.sleep(0.5)
    raise TimeoutError(f"job {job} did not end within {PATIENCE_S:.0f} s")


@contextmanager
def _llamacpp(folder: Path, gguf: Path) -> Iterator[tuple[str, psutil.Process]]:
    words = [str(gguf), str(STREAMS), str(CONTEXT_TOKENS), str(os.cpu_count() or 1)]
    with (folder / "bare-llamacpp.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.serving.bare_llamacpp", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"OMP_WAIT_POLICY": "active"},
            cwd=ROOT,
        )
    known = psutil.Process(process.pid)
    try:
        line = child_process.read_line(process, PATIENCE_S)
        assert line, "llama.cpp's server did not come up"
        known.suspend()
        yield json.loads(line)["url"], known
    finally:
        process.kill()
        process.communicate()  # waits, and closes the pipes
