"""The environment of a child process."""

import ast
import os
from pathlib import Path

import pytest

from luthier.core.engine_ports import ServedModel
from luthier.core.errors import Unavailable
from luthier.engines.llamacpp import engine_process
from luthier.engines.llamacpp.engine_process import Launch
from luthier.executors.local import LocalExecutor
from luthier.model_folder import BaseModelFolder
from luthier.process import child_environment
from luthier.run_directory.run_directory import RunDirectory

SOURCES = Path(child_environment.__file__).parents[1]
SECRETS = {
    "LUTHIER_API_KEY": "marked-1",
    "LUTHIER_SERVER_KEY": "marked-2",
    "LUTHIER_SOURCE_API_KEY": "marked-3",
    "LUTHIER_BLOBS_URL": "s3://user:marked-4@bucket",
    "OPENAI_API_KEY": "marked-5",
    "AZURE_OPENAI_API_KEY": "marked-6",
    "AZURE_STORAGE_ACCOUNT_KEY": "marked-7",
    "AWS_SECRET_ACCESS_KEY": "marked-8",
    "AWS_PROFILE": "marked-9",
    "HF_TOKEN": "marked-10",
    "DATABASE_URL": "postgres://marked-11",
    "NVIDIA_API_KEY": "marked-12",
    "LLAMA_API_KEY": "marked-13",
    "WANDB_API_KEY": "marked-14",
    "GOOGLE_APPLICATION_CREDENTIALS": "marked-15",
    "SOMETHING_ELSE": "marked-16",
}
NEEDED = {"OMP_NUM_THREADS": "1", "PYTHONPATH": "/code", "CUDA_VISIBLE_DEVICES": "0", "LUTHIER_KERNELS": "off"}


@pytest.fixture
def teller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that takes the place of Python and writes its environment to stderr; the secrets are in ours."""
    for name, value in (SECRETS | NEEDED).items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\nenv >&2\n")
    path.chmod(0o755)
    return path


def assert_only_needed(told: str) -> None:
    given = dict(line.partition("=")[::2] for line in told.splitlines())
    assert "marked" not in told
    assert not given.keys() & SECRETS.keys()
    assert given.items() >= NEEDED.items()
    assert given["PATH"] == os.environ["PATH"]


def test_trainer_gets_what_it_needs_and_no_secret(teller: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    executor = LocalExecutor(teller)
    handle = executor.start(run.path)
    os.waitid(os.P_PID, int(handle.removeprefix("pid:").partition("@")[0]), os.WEXITED | os.WNOWAIT)
    executor.stop(handle)
    assert_only_needed(run.log.read_text())


def test_engine_gets_what_it_needs_and_no_secret(teller: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    BaseModelFolder(base).gguf.touch()
    folder = tmp_path / "engines" / "1"
    with pytest.raises(Unavailable, match="ended while loading"):
        engine_process.start(Launch(str(teller), 512, 1, 1, 30.0), folder, [ServedModel("base", "base", base, None)])
    assert_only_needed((folder / engine_process.LOG).read_text())


def test_client_of_a_registry_gets_the_way_to_it_and_no_secret_of_ours() -> None:
    ways = {"HTTPS_PROXY": "http://proxy", "no_proxy": "lan", "PIP_INDEX_URL": "https://mirror", "NETRC": "/n"}
    given = child_environment.to_download(SECRETS | NEEDED | ways)
    assert given == NEEDED | ways


STARTS = {
    "subprocess": {"Popen", "run", "call", "check_call", "check_output", "getoutput"},
    "os": {"system", "popen", "posix_spawn", "posix_spawnp", "execv", "execve", "execvp", "spawnv", "fork"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
}


def test_every_process_is_started_with_an_environment_of_the_allow_list() -> None:
    starts = 0
    for path in SOURCES.rglob("*.py"):
        if path == SOURCES / "cli" / "demo.py":
            continue  # runs `luthier` itself, as its user would type it
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name), keywords=keywords):
                    if name in STARTS.get(module, ()):
                        starts += 1
                        assert "env" in {keyword.arg for keyword in keywords}, f"{path}:{node.lineno}"
                        assert "child_environment.to_" in text, path
    assert starts >= 6
