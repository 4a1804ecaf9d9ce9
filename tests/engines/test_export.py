"""GGUF files: what lies in them, what is refused, and that llama.cpp computes from them what torch computes."""

import json
from collections.abc import Iterator
from pathlib import Path

import gguf
import httpx2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import small_models
from luthier.core.engine_ports import ServedModel
from luthier.core.errors import Unsupported
from luthier.engines.gguf import export
from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.engines.parity import check_parity
from small_models import HARD_TEXTS


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppEngine]:
    engine = LlamaCppEngine(tmp_path_factory.mktemp("engines"), context_tokens=2048, slots=2, threads=1)
    yield engine
    engine.close()


@pytest.mark.parametrize("kind", small_models.KINDS)
def test_export_of_each_architecture_computes_what_torch_computes(
    kind: str, engine: LlamaCppEngine, tmp_path: Path
) -> None:
    base = small_models.make_base(tmp_path / "base", kind)
    adapter = small_models.make_adapter(tmp_path / "adapter", base, use_rslora=kind == "qwen3")
    export.export_base(base)

    tuned_address = engine.ensure(ServedModel(f"{kind}.ft", kind, base, adapter))
    base_address = engine.ensure(ServedModel(kind, kind, base, None))

    of_base = check_parity(base_address, small_models.write_probes(base, base))
    of_adapter = check_parity(tuned_address, small_models.write_probes(adapter, base, adapter))
    assert of_base.agrees, of_base.reason
    assert of_adapter.agrees, of_adapter.reason
    assert not check_parity(base_address, adapter).agrees
    assert not check_parity(tuned_address, base).agrees
    tokenizer = AutoTokenizer.from_pretrained(base / "hf")
    for text in HARD_TEXTS:
        reply = httpx2.post(
            base_address.url.removesuffix("/v1") + "/tokenize",
            json={"content": text, "parse_special": True},
            headers=dict(base_address.headers),
        )
        assert reply.json()["tokens"] == tokenizer(text, add_special_tokens=False).input_ids, text
    engine.release(kind)
    engine.release(f"{kind}.ft")


def test_export_of_bf16_values_is_exact_and_norms_stay_float32(tmp_path: Path) -> None:
    base = small_models.make_base(tmp_path, "qwen2")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(export.export_base(base)).tensors}
    weights = load_file(base / "hf" / "model.safetensors")

    up = weights["model.layers.1.mlp.up_proj.weight"].float().numpy()
    assert tensors["blk.1.ffn_up.weight"].data.dtype == np.float16
    # Only values under 2**-14, f16's smallest normal number, may be rounded.
    served = tensors["blk.1.ffn_up.weight"].data.astype(np.float32)
    assert np.array_equal(served[np.abs(up) >= 2**-14], up[np.abs(up) >= 2**-14])
    assert np.abs(served - up).max() <= 2**-25
    assert tensors["blk.0.attn_norm.weight"].data.dtype == np.float32
    assert tensors["blk.0.attn_q.bias"].data.dtype == np.float32
    assert "output.weight" not in tensors


def test_export_keeps_the_chat_template_to_the_character(tmp_path: Path) -> None:
    template = small_models.TEMPLATE + "\n{# Ünïcode and a tab\t#}  "
    base = small_models.make_base(tmp_path, "llama", template=template)
    fields = gguf.GGUFReader(export.export_base(base)).fields
    assert fields["tokenizer.chat_template"].contents() == template


def test_export_of_an_unknown_architecture_names_those_that_can_be_served(tmp_path: Path) -> None:
    base = small_models.make_base(tmp_path, "llama")
    _change_json(base / "hf" / "config.json", architectures=["GemmaForCausalLM"])
    with pytest.raises(Unsupported, match=r"GemmaForCausalLM.*Gemma3ForCausalLM, LlamaForCausalLM, Mistral"):
        export.export_base(base)


def test_export_of_yarn_rope_is_refused(tmp_path: Path) -> None:
    base = small_models.make_base(tmp_path, "qwen2")
    _change_json(base / "hf" / "config.json", rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0})
    with pytest.raises(Unsupported, match="yarn"):
        export.export_base(base)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3", {"use_bidirectional_attention": True}, "bidirectional attention"),
        ("gemma3", {"query_pre_attn_scalar": 99}, "scaled by 99 where llama.cpp scales by 32"),
        ("gemma3", {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}, "irregular order"),
        ("gemma3", {"hidden_activation": "relu"}, "activation relu"),
        ("phi3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "longrope"),
        ("mistral", {"sliding_window": 64}, "sliding window attention"),
    ],
)
def test_export_of_a_relative_that_llama_cpp_computes_otherwise_is_refused_by_name(
    kind: str, changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    base = small_models.make_base(tmp_path, kind)
    _change_json(base / "hf" / "config.json", **changes)
    with pytest.raises(Unsupported, match=words):
        export.export_base(base)


def test_export_of_a_phi_with_a_window_lets_the_engine_read_no_further(tmp_path: Path) -> None:
    base = small_models.make_base(tmp_path, "phi3")
    _change_json(base / "hf" / "config.json", sliding_window=100)
    assert gguf.GGUFReader(export.export_base(base)).fields["phi3.context_length"].contents() == 100


def test_export_of_an_unknown_way_to_cut_text_is_refused(tmp_path: Path) -> None:
    base = small_models.make_base(tmp_path, "llama")
    _change_json(base / "hf" / "tokenizer.json", pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(Unsupported, match="cuts text"):
        export.export_base(base)


def test_export_of_a_value_beyond_f16_names_the_tensor_and_leaves_no_file(tmp_path: Path) -> None:
    base = small_models.make_base(tmp_path, "llama")
    weights = load_file(base / "hf" / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][3, 3] = 1e5
    save_file(weights, base / "hf" / "model.safetensors")
    with pytest.raises(Unsupported, match=r"blk\.1\.ffn_down\.weight.*65504"):
        export.export_base(base)
    assert [path.name for path in base.iterdir()] == ["hf"]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "lora_only"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
    ],
)
def test_export_of_an_adapter_that_gguf_cannot_express_is_refused(
    settings: dict[str, object], word: str, tmp_path: Path
) -> None:
    base = small_models.make_base(tmp_path / "base", "qwen2")
    small_models.lora_config(**settings).save_pretrained(tmp_path / "adapter")
    with pytest.raises(Unsupported, match=word):
        export.export_adapter(tmp_path / "adapter", base)


def test_export_of_an_adapter_with_further_weights_is_refused(tmp_path: Path) -> None:
    base = small_models.make_base(tmp_path / "base", "llama")
    adapter = small_models.make_adapter(tmp_path / "adapter", base)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({**weights, "base_model.model.lm_head.weight": torch.zeros(2, 2)}, adapter / "adapter_model.safetensors")
    with pytest.raises(Unsupported, match=r"lm_head\.weight"):
        export.export_adapter(adapter, base)
    assert not (adapter / "adapter.gguf").exists()


def _change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
