"""`luthier models pull` of what no catalog lists: a hub id, a folder, a .gguf file; and what it says of wrong ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import hub
import tiny
from luthier import catalog, model_folder
from luthier.cli.base_models import unlisted_models
from luthier.cli.base_models.unlisted_models import PullOptions
from luthier.cli.main import app
from luthier.core.errors import InvalidRequest
from luthier.engines.gguf import export

CARD = "---\nlicense: apache-2.0\n---\n# Tiny\n"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTHIER_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "models"


def pull(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", "pull", *arguments])


def test_folder_becomes_a_model_whose_entry_its_files_wrote(models: Path, tmp_path: Path) -> None:
    known = catalog.load(None, models)
    source = tiny.base_folder(tmp_path / "My Tiny") / "hf"
    (source / "README.md").write_text(CARD)
    done = pull(str(source), "--name", "my-tiny", "--bits", "8")
    assert done.exit_code == 0, done.output
    entry = known.find("my-tiny")  # by a catalog that was loaded before
    assert entry is not None
    assert (entry.context_tokens, entry.licence, entry.parameters) == (512, "apache-2.0", "100K")
    assert entry.lora is not None
    assert set(entry.lora.targets) == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert entry.lora.quantization == "8bit"
    assert pull(str(source), "--name", "my-tiny", "--bits", "8").exit_code == 0, "what is there is not pulled again"


def test_gguf_file_is_pulled_by_its_path(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "Tiny-F16.gguf"
    export.export_base(tiny.base_folder(tmp_path / "made")).rename(file)
    done = pull(str(file))
    assert done.exit_code == 0, done.output
    entry = catalog.load(None, models).find("tiny-f16")
    assert entry is not None
    assert entry.context_tokens == 512


def test_hub_id_is_pulled_from_the_hub_that_the_environment_names_with_its_token(models: Path, tmp_path: Path) -> None:
    source = tiny.base_folder(tmp_path / "made") / "hf"
    (source / "README.md").write_text(CARD)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    with hub.serving("someone/Tiny-Chat", source, token="hf_secret") as served:
        own |= {"HF_ENDPOINT": served.endpoint, "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-m", "luthier", "models", "pull", "someone/Tiny-Chat"]
        refused = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "HF_TOKEN" in refused.stderr
        assert "Traceback" not in refused.stderr
        done = subprocess.run(command, env=own | {"HF_TOKEN": "hf_secret"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert served.tokens == {None, "Bearer hf_secret"}
    assert all(path.startswith(("/api/models/someone/", "/someone/Tiny-Chat/resolve/")) for path in served.asked)
    entry = catalog.load(None, models).find("tiny-chat")
    assert entry is not None
    assert (entry.hub_id, entry.licence, entry.title) == ("someone/Tiny-Chat", "apache-2.0", "Tiny-Chat")
    mark = json.loads((models / "tiny-chat" / "prepared.json").read_text())
    assert mark["source"]["repository"] == "someone/Tiny-Chat"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gpt-4o-mini", "smollm2-135m-instruct"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b-instruct"),
        ("https://huggingface.co/qwen/qwen2.5-0.5b-instruct/", "qwen2.5-0.5b-instruct"),
    ],
)
def test_names_and_the_hub_ids_of_entries_lead_to_the_catalogs_entry(text: str, found: str) -> None:
    assert unlisted_models.resolve(text, catalog.load(), PullOptions()).name == found


def test_listed_model_in_few_bits_is_the_catalogs_and_no_draft() -> None:
    found = unlisted_models.resolve("smollm2-360m-instruct", catalog.load(), PullOptions(bits=8))
    assert found == unlisted_models.resolve("smollm2-360m-instruct-8bit", catalog.load(), PullOptions())
    assert (found.name, found.licence, unlisted_models.is_draft(found)) == (
        "smollm2-360m-instruct-8bit",
        "Apache-2.0",
        False,
    )
    assert unlisted_models.is_draft(unlisted_models.resolve("a/b", catalog.load(), PullOptions()))


def test_file_of_a_hub_repository_and_a_revision_are_kept_in_the_source() -> None:
    draft = unlisted_models.resolve("a/B-GGUF/sub/B-Q4_K_M.gguf", catalog.load(), PullOptions(revision="v2"))
    assert draft.name == "b-q4_k_m"
    assert draft.source == catalog.HubSource(kind="hub", repository="a/B-GGUF", revision="v2", file="sub/B-Q4_K_M.gguf")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("no-such-model", PullOptions(), "it is no hub id"),
        ("a/smollm2-135m-instruct", PullOptions(), "Choose one with --name"),
        ("smollm2-360m-instruct", PullOptions(full=True), "its entry there"),
        ("smollm2-360m-instruct-8bit", PullOptions(bits=4), "its entry there"),
        ("a/b", PullOptions(bits=5), "give 8 or 4"),
        ("a/b", PullOptions(name="Not Good"), "use lower-case letters"),
        ("/models/hf", PullOptions(), "Give it a name"),
        ("a/b", PullOptions(chat_template=Path("nowhere.jinja")), "there is no file nowhere.jinja"),
    ],
)
def test_what_cannot_be_pulled_is_told_with_what_to_do(text: str, options: PullOptions, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        unlisted_models.resolve(text, catalog.load(), options)


def test_entry_that_cannot_be_read_is_left_out_and_the_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / model_folder.CATALOG_ENTRY).write_text("{")
    assert catalog.load(None, tmp_path).find("bad") is None
    assert "model left out" in caplog.text
