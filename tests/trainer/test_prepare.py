"""A base model folder made from weights of elsewhere: the same bytes each time, and nothing that could run code."""

import json
import re
import shutil
from pathlib import Path

import pytest
import safetensors.torch

import tiny
from disk import full_disk
from luthier.trainer.dataset.tokenizer import FolderTokenizer
from luthier.trainer.model import prepare


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def source(base: Path, tmp_path: Path) -> Path:
    """A folder in Hugging Face layout, free to be spoiled."""
    return Path(shutil.copytree(base / "hf", tmp_path / "source"))


def test_prepare_folder_twice_gives_equal_bytes_and_probes_without_a_path(source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert prepare.main([str(source), str(tmp_path / name), "--name", tiny.NAME]) == 0
    one = files(tmp_path / "one")
    assert one == files(tmp_path / "two")
    assert {"hf/config.json", "hf/tokenizer.json", "hf/tokenizer_config.json", "hf/chat_template.jinja"} < one.keys()
    before = safetensors.torch.load_file(source / "model.safetensors")
    after = safetensors.torch.load(one["hf/model.safetensors"])
    assert before.keys() == after.keys()
    assert all(bool((before[name] == tensor).all()) for name, tensor in after.items())
    content = json.loads(one["probes.json"])
    assert content["base_model"] == tiny.NAME
    assert [len(probe["positions"][0]["top"]) for probe in content["probes"]] == [10] * 4
    assert not any(str(tmp_path).encode() in data for data in one.values())


def test_prepare_again_replaces_what_stood_there(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    (folder / "hf").mkdir(parents=True)
    (folder / "hf" / "stale").touch()
    assert prepare.main([str(source), str(folder), "--name", tiny.NAME]) == 0
    assert "hf/stale" not in files(folder)


def test_prepare_with_a_template_that_is_named_makes_its_turns_end_and_its_date_stand_still(
    source: Path, tmp_path: Path
) -> None:
    """A base model that was never tuned for chats ends texts, not turns: the template's end becomes one of its ends."""
    (source / "chat_template.jinja").unlink()
    config = json.loads((source / "tokenizer_config.json").read_bytes())
    (source / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|endoftext|>"}))
    template = tmp_path / "dated.jinja"
    template.write_text('{{ strftime_now("%d %B %Y") }}' + tiny.TEMPLATE)
    asked = [str(source), str(tmp_path / "base"), "--name", tiny.NAME, "--chat-template", str(template)]
    assert prepare.main(asked) == 0
    hf = tmp_path / "base" / "hf"
    assert (hf / "chat_template.jinja").read_text() == '{{ "26 July 2024" }}' + tiny.TEMPLATE
    tokenizer = FolderTokenizer(hf)
    assert {tokenizer.token_ids(text)[0] for text in ("<|im_end|>", "<|endoftext|>")} <= tokenizer.end_ids


def test_prepare_has_no_special_token_swallow_the_spaces_beside_it(source: Path, tmp_path: Path) -> None:
    path = source / "tokenizer.json"
    content = json.loads(path.read_bytes())
    for token in content["added_tokens"]:
        token["lstrip"] = token["rstrip"] = True
    path.write_text(json.dumps(content))
    text = "a  <|im_end|>\n b"
    greedy = FolderTokenizer(source).token_ids(text)
    assert prepare.main([str(source), str(tmp_path / "base"), "--name", tiny.NAME]) == 0
    kept = FolderTokenizer(tmp_path / "base" / "hf").token_ids(text)
    assert len(kept) > len(greedy)
    assert kept == [id for part in ("a  ", "<|im_end|>", "\n b") for id in FolderTokenizer(source).token_ids(part)]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('no') }}", "does not take a question"),
        ("{% for m in messages %}{{ m['content'] }} ### {% endfor %}", "no end-of-turn token.*chatml"),
    ],
)
def test_prepare_with_a_template_that_cannot_be_learned_from_is_refused_with_advice(
    source: Path, tmp_path: Path, template: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "chat_template.jinja").write_text(template)
    assert prepare.main([str(source), str(tmp_path / "base"), "--name", tiny.NAME]) == 1
    assert re.search(words, capsys.readouterr().err)


def test_prepare_with_a_template_that_leaves_turns_open_warns_and_needs_an_end_of_the_tokenizer(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}")
    asked = [str(source), str(tmp_path / "base"), "--name", tiny.NAME]
    assert prepare.main(asked) == 0
    assert "the tokenizer's own end token is learned there" in capsys.readouterr().err
    config = json.loads((source / "tokenizer_config.json").read_bytes())
    del config["eos_token"]
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    assert prepare.main(asked) == 1
    assert re.search("special tokens: .*chatml", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("shape", "tensor model.norm.weight has the shape [3]; by config.json it would have [64]"),
        ("missing", "model.norm.weight are missing"),
        ("numbers", "tensor model.norm.weight holds values that are no numbers"),
    ],
)
def test_prepare_weights_that_do_not_fit_or_are_no_numbers_are_refused_by_the_tensors_name(
    source: Path, tmp_path: Path, spoil: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = safetensors.torch.load_file(source / "model.safetensors")
    norm = tensors.pop("model.norm.weight")
    if spoil != "missing":
        tensors["model.norm.weight"] = norm[:3] if spoil == "shape" else norm * float("nan")
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, source / "model.safetensors", {"format": "pt"})
    assert prepare.main([str(source), str(tmp_path / "base"), "--name", tiny.NAME]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert list((tmp_path / "base").iterdir()) == []


def test_prepare_on_a_disk_that_is_full_ends_in_words_and_leaves_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_disk(60_000):  # the weights have some 200 kB, no file before them so much
        assert prepare.main([str(source), str(tmp_path / "base"), "--name", tiny.NAME]) == 1
    assert re.search("could not be written|is full", capsys.readouterr().err)
    assert list((tmp_path / "base").iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("pickle", "only pickled weights"),
        ("code", "auto_map"),
        ("template", 'chat_template = "chatml"'),
        ("config", "no config.json"),
        ("nothing", "neither a .gguf file nor a folder"),
    ],
)
def test_prepare_source_that_cannot_be_used_is_refused_in_words(
    source: Path, tmp_path: Path, spoil: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    match spoil:
        case "pickle":
            (source / "model.safetensors").rename(source / "pytorch_model.bin")
        case "code":
            config = json.loads((source / "config.json").read_bytes()) | {"auto_map": {"AutoModel": "evil.Model"}}
            (source / "config.json").write_text(json.dumps(config))
        case "template":
            (source / "chat_template.jinja").unlink()
        case "config":
            (source / "config.json").unlink()
        case _:
            source = tmp_path / "nowhere"
    assert prepare.main([str(source), str(tmp_path / "base"), "--name", tiny.NAME]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "base" / "hf").exists()
