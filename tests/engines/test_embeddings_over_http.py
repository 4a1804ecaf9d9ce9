"""Embeddings through the whole service with the real engine: deployed by proof, and answered again after kill -9."""

import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

import small_encoders
from asgi_switch import Switch
from control_plane import PATH, call, put
from fakes import KEY, ScriptedExecutor, engine_calls, train_well
from luthier.api import server
from luthier.api.services import Services
from luthier.engines.embeddings.embedding_engine import EmbeddingEngine
from luthier.engines.gguf import embedding_export
from luthier.engines.parity import check_parity
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.tokenization.embedding_tokenizer import EmbeddingTokenizer
from wordpiece import HARD_TEXTS

NAME = "all-minilm-l6-v2"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    done = small_encoders.prepare(small_encoders.make_source(folder / "source"), folder / "base")
    assert done.returncode == 0, done.stderr
    embedding_export.export_encoder(folder / "base")
    (folder / "base" / "prepared.json").write_text("{}")
    return folder / "base"


@pytest.fixture
def real(switch: tuple[Switch, str], context: Context, prepared: Path, tmp_path: Path) -> Iterator[str]:
    """A service whose one embedding model is a small random encoder, deployed under the name `vectors`."""
    shutil.copytree(prepared, context.base_folder(NAME))
    engine = EmbeddingEngine(tmp_path / "engines", threads=1)
    serving = Serving(context, engine, check_parity)
    made, address = switch
    made.app = server.build(Services(context, serving, lambda: None, calls=engine_calls()), None)
    assert put(address, "vectors", NAME).status_code == 201
    Supervisor(context, ScriptedExecutor(train_well), serving, tick_s=0.01).tick_deployments()
    yield address
    engine.close()


def embed(url: str, texts: list[str]) -> list[list[float]]:
    body = {"model": "vectors", "input": texts}
    answer = httpx2.post(f"{url}/v1/embeddings", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=120)
    assert answer.status_code == 200, answer.text
    return [entry["embedding"] for entry in answer.json()["data"]]


def test_deployed_model_gives_the_vectors_of_transformers_also_after_kill_9(real: str, prepared: Path) -> None:
    properties = call("GET", f"{real}{PATH}/vectors").json()["properties"]
    assert properties["provisioningState"] == "Succeeded"
    assert 0 < properties["parity"]["max_difference"] <= properties["parity"]["tolerance"]
    expected = small_encoders.vectors(prepared / "hf", EmbeddingTokenizer(prepared).token_ids(HARD_TEXTS))
    for _ in range(2):
        found = embed(real, list(HARD_TEXTS))
        assert max(map(math.dist, found, expected)) < 0.01
        children = psutil.Process().children()
        (process,) = (one for one in children if any("embedding_server" in part for part in one.cmdline()))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)


def test_model_whose_vectors_are_no_longer_the_stored_ones_is_told_apart(real: str, context: Context) -> None:
    probes = context.base_folder(NAME) / "probes.json"
    probes.write_text(probes.read_text().replace("-0.1", "0.1"))
    body, headers = {"model": "vectors"}, {"Authorization": f"Bearer {KEY}"}
    answer = httpx2.post(f"{real}/luthier/parity", json=body, headers=headers, timeout=120).json()
    assert not answer["agrees"]
    assert answer["figures"]["max_difference"] > answer["figures"]["tolerance"]
