"""What a source of weights may hold: only judged files reach a library, and every fault is a sentence."""

import json
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from luthier.core.errors import LuthierError, NoSpace
from luthier.model_source import configuration, gguf_header, safetensors_header, source_checks

SHAPE = {
    "model_type": "llama",
    "vocab_size": 40,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
WEIGHTS = configuration.count_parameters(SHAPE)


def safetensors_bytes(entries: dict[str, Any], n_bytes: int) -> bytes:
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(n_bytes)


def weights(name: str = "w", n: int = WEIGHTS) -> bytes:
    return safetensors_bytes({name: {"dtype": "BF16", "shape": [n], "data_offsets": [0, 2 * n]}}, 2 * n)


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


class Marker:
    """Would make a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The least of a folder in Hugging Face layout, free to be spoiled."""
    folder = tmp_path / "source"
    folder.mkdir()
    write(folder / "config.json", SHAPE)
    write(folder / "tokenizer_config.json", {"chat_template": "{{ messages[0]['content'] }}", "eos_token": "b"})
    tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, [])).save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").write_bytes(weights())
    return folder


def index(source: Path, owner: str) -> None:
    (source / "model.safetensors").rename(source / "shard.safetensors")
    write(source / "model.safetensors.index.json", {"metadata": {}, "weight_map": {"w": owner}})


def spoil_config(**words: object) -> Callable[[Path], None]:
    return lambda source: write(source / "config.json", SHAPE | words)


def spoil_bytes(name: str, data: bytes) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        (source / name).write_bytes(data)

    return spoil


def leave(source: Path, name: str) -> None:
    (source / name).rename(source.parent / name)
    (source / name).symlink_to(source.parent / name)


REGEX = {"type": "Split", "pattern": {"Regex": "a*"}, "behavior": "Isolated", "invert": False}
TENSOR = {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}

FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "index names a pickle": (lambda source: index(source, "pytorch_model.bin"), "pytorch_model.bin"),
    "index names a file outside": (lambda source: index(source, "../shard.safetensors"), "beside it"),
    "weights are a link outside": (lambda source: leave(source, "model.safetensors"), "leads out of its folder"),
    "tokenizer is a link outside": (lambda source: leave(source, "tokenizer.json"), "leads out of its folder"),
    "config names other weights": (spoil_config(transformers_weights="adapter_model.bin"), "never opened"),
    "config names code": (spoil_config(auto_map={"AutoConfig": "evil.Config"}), "auto_map"),
    "config names a quantizer": (spoil_config(quantization_config={"quant_method": "x"}), "quantized"),
    "config names another kind": (spoil_config(model_type="rag"), "model_type 'rag'"),
    "config has a model of parts": (spoil_config(text_config={"model_type": "llama"}), "text_config"),
    "config has no number": (spoil_config(hidden_size="many"), "hidden_size = 'many'"),
    "config has a huge number": (spoil_config(vocab_size=2**40), "vocab_size"),
    "config describes more than there is": (spoil_config(num_hidden_layers=100), "its files hold"),
    "config is a list": (spoil_bytes("config.json", b"[]"), "holds a list"),
    "config is torn": (spoil_bytes("config.json", b'{"a": '), "is not JSON (line 1"),
    "config is not UTF-8": (spoil_bytes("config.json", b'{"a": "\xff"}'), "is not UTF-8 (byte 7)"),
    "config says a name twice": (spoil_bytes("config.json", b'{"a": 1, "a": 2}'), "'a' twice"),
    "config is nested too deeply": (spoil_bytes("config.json", b'{"a":' * 33 + b"1" + b"}" * 33), "more than 32 deep"),
    "tokenizer config names code": (
        lambda source: write(source / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}),
        "auto_map",
    ),
    "tokenizer config names another class": (
        lambda source: write(source / "tokenizer_config.json", {"tokenizer_class": "RagTokenizer"}),
        "RagTokenizer",
    ),
    "tokenizer is empty": (spoil_bytes("tokenizer.json", b""), "tokenizer.json is not JSON"),
    "tokenizer has no vocabulary": (
        lambda source: write(source / "tokenizer.json", {"model": {"type": "BPE", "vocab": {}, "merges": []}}),
        "no vocabulary",
    ),
    "tokenizer cuts by a pattern of its own": (
        lambda source: write(
            source / "tokenizer.json",
            json.loads((source / "tokenizer.json").read_bytes()) | {"pre_tokenizer": REGEX},
        ),
        "regular expression",
    ),
    "tokenizer is one that its library refuses": (
        lambda source: write(
            source / "tokenizer.json",
            json.loads((source / "tokenizer.json").read_bytes()) | {"pre_tokenizer": {"type": "Nothing"}},
        ),
        "tokenizer.json cannot be loaded",
    ),
    "template has an error": (spoil_bytes("chat_template.jinja", b"{% for %}"), "not right in line 1"),
    "template is not UTF-8": (spoil_bytes("chat_template.jinja", b"a\xff"), "is not UTF-8 (byte 1)"),
    "template costs too much": (
        spoil_bytes(
            "chat_template.jinja", b"{% for a in range(1500) %}{% for b in range(1500) %}{% endfor %}{% endfor %}"
        ),
        "costs too much",
    ),
    "weights are cut off": (spoil_bytes("model.safetensors", weights()[:-5]), "5 bytes are missing at its end"),
    "weights have more than they say": (spoil_bytes("model.safetensors", weights() + b"1"), "1 bytes are too many"),
    "weights have a huge header": (spoil_bytes("model.safetensors", b"\xff" * 8 + bytes(100)), "no whole safetensors"),
    "weights are empty": (spoil_bytes("model.safetensors", b""), "no whole safetensors"),
    "weights overlap": (
        spoil_bytes("model.safetensors", safetensors_bytes({"a": TENSOR, "b": TENSOR}, 8)),
        "overlap",
    ),
    "weights say two sizes": (
        spoil_bytes("model.safetensors", safetensors_bytes({"a": TENSOR | {"shape": [5]}}, 8)),
        "its shape has 10",
    ),
    "weights are of an unknown dtype": (
        spoil_bytes("model.safetensors", safetensors_bytes({"a": TENSOR | {"dtype": "X9"}}, 8)),
        "dtype that is unknown",
    ),
    "weights are whole numbers": (
        spoil_bytes("model.safetensors", safetensors_bytes({"a": TENSOR | {"dtype": "I16"}}, 8)),
        "weights in I16",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_source_with_a_fault_is_refused_in_one_sentence_that_names_file_and_fault(
    source: Path, tmp_path: Path, fault: str
) -> None:
    spoil, words = FAULTS[fault]
    spoil(source)
    with pytest.raises(LuthierError) as refused:
        source_checks.admit(source, tmp_path / "staging")
    assert words in refused.value.message
    assert str(source) in refused.value.message
    assert "\n" not in refused.value.message


def test_source_gives_libraries_only_what_was_judged_whatever_else_it_holds(source: Path, tmp_path: Path) -> None:
    pickled = pickle.dumps(Marker(tmp_path / "unpickled"))
    for name in ("pytorch_model.bin", "adapter_model.bin", "consolidated.00.pth", "tokenizer.model", "modeling.py"):
        (source / name).write_bytes(pickled)
    write(source / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "/elsewhere"})
    write(source / "pytorch_model.bin.index.json", {"weight_map": {"w": "pytorch_model.bin"}})
    write(
        source / "config.json",
        SHAPE | {"_name_or_path": "/elsewhere", "attn_implementation": "some/kernel", "rope_theta": 1e4},
    )
    write(source / "tokenizer_config.json", {"tokenizer_file": "/elsewhere", "vocab_file": "x", "eos_token": "b"})
    admitted = source_checks.admit(source, tmp_path / "staging")
    assert {path.name for path in admitted.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((admitted / "config.json").read_bytes()) == SHAPE | {"rope_theta": 1e4}
    assert json.loads((admitted / "tokenizer_config.json").read_bytes()) == {"eos_token": "b"}
    assert not (tmp_path / "unpickled").exists()


def test_source_in_shards_gets_an_index_of_what_its_files_hold(source: Path, tmp_path: Path) -> None:
    index(source, "shard.safetensors")
    admitted = source_checks.admit(source, tmp_path / "staging")
    written = json.loads((admitted / "model.safetensors.index.json").read_bytes())
    assert written["weight_map"] == {"w": "model-00001.safetensors"}
    assert (admitted / "model-00001.safetensors").resolve() == (source / "shard.safetensors").resolve()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_config.json", b"{}"),
        ("model.safetensors.index.json", b"{}"),
        ("shard-00001-model-00001-of-00001.safetensors", weights()),
        ("config.json", b'{"transformers_weights": "adapter_model.bin"}'),
        ("model.safetensors", weights()[:-1]),
    ],
)
def test_base_folder_into_which_something_was_put_is_refused_by_name(source: Path, name: str, content: bytes) -> None:
    source_checks.refuse_foreign_files(source)
    (source / name).write_bytes(content)
    with pytest.raises(LuthierError, match=re.escape(name)):
        source_checks.refuse_foreign_files(source)


def test_source_with_templates_by_name_gives_the_default_one_alone(source: Path, tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": "default", "template": "{{ 2 }}"}]
    write(source / "tokenizer_config.json", {"chat_template": named})
    admitted = source_checks.admit(source, tmp_path / "staging")
    assert (admitted / "chat_template.jinja").read_text() == "{{ 2 }}"


def test_source_larger_than_the_disk_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    n = 2**46
    with pytest.raises(NoSpace, match=r"needs .* GB there"):
        source_checks.refuse_full_disk(n, tmp_path)


def gguf_bytes(entries: dict[str, tuple[int, bytes]], tensors: bytes = b"", n_tensors: int = 0) -> bytes:
    data = b"GGUF" + struct.pack("<IQQ", 3, n_tensors, len(entries))
    for key, (kind, value) in entries.items():
        data += struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value
    return data + tensors


def tensor_entry(n: int, offset: int = 0, kind: int = 0) -> bytes:
    return struct.pack("<Q", 1) + b"w" + struct.pack("<IQIQ", 1, n, kind, offset)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ends in the middle"),
        (b"GGML" + bytes(30), "no GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensors; at most"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "metadata entries; at most"),
        (gguf_bytes({"a": (8, struct.pack("<Q", 2**60))}), "bytes of a text; at most"),
        (gguf_bytes({"a": (9, struct.pack("<IQ", 4, 2**60))}), "members of"),
        (gguf_bytes({"a": (9, struct.pack("<IQ", 9, 1))}), "kind that is not read"),
        (gguf_bytes({"a": (8, struct.pack("<Q", 1) + b"\xff")}), "not UTF-8"),
        (gguf_bytes({"a": (77, b"")}), "kind that is not read"),
        (gguf_bytes({}, tensor_entry(64), 1) + bytes(100), "is not whole"),
        (gguf_bytes({}, tensor_entry(4, kind=99) + bytes(100), 1), "type that is not read"),
        (gguf_bytes({}, tensor_entry(5, kind=2) + bytes(100), 1), "shape that cannot be"),
    ],
)
def test_gguf_with_a_fault_in_its_header_is_refused_in_one_sentence(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(LuthierError) as refused:
        gguf_header.read(path)
    assert words in refused.value.message
    assert str(path) in refused.value.message


def test_safetensors_header_gives_every_tensor_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    entries = {"__metadata__": {"format": "pt"}, "b": TENSOR, "a": TENSOR | {"data_offsets": [8, 16]}}
    data = safetensors_bytes(entries, 16)
    path.write_bytes(data)
    assert [(one.name, one.offset) for one in safetensors_header.read(path)] == [
        ("b", len(data) - 16),
        ("a", len(data) - 8),
    ]
