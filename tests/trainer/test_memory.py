"""What a forward pass keeps, estimated and measured, and the plans that follow from it."""

import dataclasses
from pathlib import Path

import pytest
import torch
import transformers

import flash
from luthier.core.training.activation_memory import TOKEN_BUDGET, ActivationMode
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.dataset import packing
from luthier.trainer.model import devices, layer_wrappers, memory_plan, tuned_model
from luthier.trainer.model.memory_plan import Plan
from runs import TARGETS

CONFIG = transformers.LlamaConfig(
    vocab_size=200,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=3,
    num_attention_heads=9,
    num_key_value_heads=3,
)
"""The shape of SmolLM2-135M with a tenth of its layers."""
GB = 10**9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("varlen", [True, False])
@pytest.mark.parametrize("way", [ActivationMode.MODULES, ActivationMode.RECOMPUTED])
def test_estimate_is_near_what_torch_saves(dtype: torch.dtype, varlen: bool, way: ActivationMode) -> None:
    tuned_model.configure_process(1, 0)
    flash.install()
    causal = transformers.AutoModelForCausalLM.from_config(
        CONFIG, dtype=dtype, attn_implementation="luthier_segments"
    ).eval()
    causal.requires_grad_(False)
    tuned = tuned_model.attach_adapter(causal, LoraRecipe(rank=4, alpha=8, targets=TARGETS), 0, None)
    tuned = dataclasses.replace(tuned, varlen=varlen)
    layer_wrappers.wrap(tuned.backbone, way is ActivationMode.RECOMPUTED, False, False)
    weights = {parameter.untyped_storage().data_ptr() for parameter in causal.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    token_ids = tuple(n % 200 for n in range(600))
    packed = packing.pack_sequences([Rendered(token_ids, (0.0,) * 599 + (1.0,), 1)])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        tuned.hidden(packed)
    measured = sum(storage.nbytes() for storage in kept.values())
    estimate = memory_plan.activation_bytes(CONFIG, 600, way, dtype)
    if way is ActivationMode.MODULES:
        assert measured == pytest.approx(estimate, rel=0.15)
    else:
        # The estimate also has the one layer that is computed again, which comes later.
        assert 600 * 3 * 576 * dtype.itemsize <= measured < estimate


def test_fused_decoder_keeps_12_kb_a_token_and_layer_of_the_embedded_model() -> None:
    assert memory_plan.activation_bytes(CONFIG, 1, ActivationMode.FUSED, torch.bfloat16) == 3 * 11_520


def test_plan_on_a_cpu_never_changes_how_tokens_are_grouped() -> None:
    for fused in (True, False):
        for free in (100, GB // 8, 100 * GB):
            plan = memory_plan.on_cpu(CONFIG, torch.bfloat16, fused, 3000, 10**6, free)
            assert plan.tokens == TOKEN_BUDGET


def test_plan_on_a_cpu_recomputes_only_where_memory_is_short_and_says_what_to_lower() -> None:
    def plan(fused: bool, free: int) -> Plan:
        return memory_plan.on_cpu(CONFIG, torch.bfloat16, fused, 3000, 10**6, free)

    assert plan(False, GB) == plan(True, GB) == Plan(TOKEN_BUDGET)
    assert plan(False, GB // 8) == Plan(TOKEN_BUDGET, recompute=True)
    for fused in (True, False):
        short = plan(fused, 1000)
        assert short.recompute is not fused
        assert short.short is not None
        assert "shorten the longest example (3,000 tokens), lower batch_size" in short.short


def test_plan_on_a_cpu_counts_no_more_tokens_than_there_are() -> None:
    assert memory_plan.on_cpu(CONFIG, torch.bfloat16, True, 20, 100, 10_000_000).short is None
    assert memory_plan.on_cpu(CONFIG, torch.bfloat16, True, 20, 10**6, 10_000_000).short is not None


def test_plan_on_a_gpu_takes_what_fits_and_recomputes_rather_than_going_small() -> None:
    large = transformers.LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8
    )

    def plan(longest: int, free: int) -> Plan:
        return memory_plan.on_gpu(large, torch.bfloat16, longest, free)

    assert plan(500, 60 * GB) == Plan(4096)
    assert plan(500, 600 * GB) == Plan(memory_plan.MAX_TOKENS)
    assert plan(500, 8 * GB) == Plan(8192, recompute=True)
    assert plan(12_000, 60 * GB) == Plan(16_384, recompute=True)
    small = plan(500, 12 * GB // 10)
    assert small.recompute
    assert small.short is None
    assert 500 <= small.tokens < memory_plan.MIN_TOKENS
    assert plan(500, 0).tokens == 1
    short = plan(60_000, 8 * GB).short
    assert short is not None
    assert "60,000 tokens" in short


def test_limits_of_control_groups_count_with_what_is_idle(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    inner = root / "service" / "job"
    inner.mkdir(parents=True)
    assert devices.cgroup_bytes(root, membership) == []
    membership.write_text("1:name=systemd:/\n")
    assert devices.cgroup_bytes(root, membership) == []
    membership.write_text("1:name=systemd:/\n0::/service/job\n")
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("700\n")
    (inner.parent / "memory.max").write_text("1000\n")
    (inner.parent / "memory.current").write_text("900\n")
    (inner.parent / "memory.stat").write_text("anon 100\ninactive_file 300\n")
    (root / "memory.max").write_text("500\n")
    (root / "memory.current").write_text("900\n")
    assert devices.cgroup_bytes(root, membership) == [400, 0]


def test_free_memory_of_a_cpu_is_no_more_than_the_machine_has() -> None:
    assert 0 < devices.free_bytes(devices.CPU) < 1 << 50
    assert devices.peak_bytes(devices.CPU) > 1 << 20
