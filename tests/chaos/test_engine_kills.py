"""An engine that is killed under many streams over several models: no answer is wrong, and each error is clean."""

import asyncio
import statistics
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

import engine_kills
from engine_kills import Reference
from running import KEY, Running
from waiting import until

BASE = "smollm2-135m-instruct"
ROWS = Path(__file__).parents[2] / "src" / "luthier" / "examples" / "clippy-training.jsonl"
TUNED = 3
pytestmark = [pytest.mark.story, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Running]:
    """A service with the base and tuned models deployed, that takes as many streams as a test sends."""
    running = Running(tmp_path_factory.mktemp("kills") / "data", base_folder.parent)
    running.environment |= {"LUTHIER_SERVE_SLOTS": "33", "LUTHIER_SERVE_QUEUE": "512"}
    running.data.mkdir()
    running.start()
    deployed = {"base": BASE, **{f"tuned-{seed}": model for seed, model in enumerate(tuned(running), 1)}}
    for name, model in deployed.items():
        assert running.deploy(name, model)["provisioningState"] == "Succeeded"
    yield running
    running.close()


@pytest.fixture(scope="module")
def expected(service: Running) -> Reference:
    """What each model says when nothing else is asked; answers that are all alike would prove nothing."""
    found = asyncio.run(engine_kills.references(service, ["base", *(f"tuned-{n}" for n in range(1, TUNED + 1))]))
    by_model = {name: [text for (of, _), text in sorted(found.items()) if of == name] for name, _ in found}
    assert len({tuple(texts) for texts in by_model.values()}) == len(by_model)
    return found


def tuned(running: Running) -> list[str]:
    """Models that differ in their seeds, tuned hard enough to answer differently."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.Client(base_url=running.url, headers=headers, timeout=60, trust_env=False) as http:
        form = {"file": ("rows.jsonl", ROWS.read_bytes())}
        file = http.post("/v1/files", files=form, data={"purpose": "fine-tune"}).json()["id"]
        body = {"training_file": file, "model": BASE}
        body["hyperparameters"] = {"n_epochs": 1, "batch_size": 5, "learning_rate_multiplier": 3}
        jobs = [http.post("/v1/fine_tuning/jobs", json=body | {"seed": seed}).json()["id"] for seed in range(TUNED)]

        def models() -> list[str] | None:
            states = [http.get(f"/v1/fine_tuning/jobs/{job}").json() for job in jobs]
            assert not any(state["status"] == "failed" for state in states)
            found = [state["fine_tuned_model"] for state in states]
            return found if all(found) else None

        until(models, 600)
        return models() or []


def kill_engine(service: Running) -> None:
    """Kills the engine's process, waiting for one to be there."""
    until(lambda: engines(service), 60)
    for process in engines(service):
        process.kill()


def engines(service: Running) -> list[psutil.Process]:
    children = psutil.Process(service.pid).children(recursive=True)
    return [child for child in children if any("native.engine_server" in word for word in words_of(child))]


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def shot_at(service: Running, expected: Reference, streams: int, kills: int) -> None:
    found = asyncio.run(engine_kills.killed(service, expected, streams, kills, lambda: kill_engine(service)))
    recoveries = sorted(found.recoveries_s)
    print(f"\n{streams} streams, {kills} kills: {dict(found.outcomes)}")
    print(f"recovery s: median {statistics.median(recoveries):.2f}, most {recoveries[-1]:.2f}")
    assert found.wrong == []
    assert len(recoveries) == kills
    assert found.outcomes["answered"] > streams


def test_no_answer_is_wrong_when_the_engine_is_killed_under_streams(service: Running, expected: Reference) -> None:
    shot_at(service, expected, 16, 2)


@pytest.mark.nightly
def test_no_answer_is_wrong_when_the_engine_is_killed_twenty_times(service: Running, expected: Reference) -> None:
    shot_at(service, expected, 32, 20)
