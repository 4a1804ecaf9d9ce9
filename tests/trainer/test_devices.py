"""What is done on a GPU, as far as a CPU can show it: the kernel's arguments, no waiting; which device."""

import dataclasses
import functools
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings

from equality import SEQUENCES, assert_same, with_sft_gradients
from flash import BEGINNING, RECIPE, as_on_a_gpu, fresh, row
from luthier.core.errors import Unavailable
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.run_directory import DEVICE_VARIABLE
from luthier.trainer.dataset import packing
from luthier.trainer.layers import varlen
from luthier.trainer.model import devices, head_loss, tuned_model
from luthier.trainer.objectives import sft

plain, told_in_lengths = functools.cache(fresh), functools.cache(as_on_a_gpu)


@settings(deadline=None, max_examples=25)
@given(SEQUENCES)
def test_varlen_attention_has_the_loss_and_gradients_of_attention_by_segments(
    base: Path, sequences: list[Rendered]
) -> None:
    found = [with_sft_gradients(tuned, sequences, 10_000) for tuned in (plain(base), told_in_lengths(base))]
    assert_same(found[0], found[1])


def test_varlen_lengths_gather_keys_only_where_a_beginning_is_shared() -> None:
    apart = varlen.lengths(packing.pack_sequences([row(1, 2, 3), row(4, 5)]).segments)
    assert apart.gathered_K is None
    assert apart.cu_seq_lens_q.tolist() == apart.cu_seq_lens_k.tolist() == [0, 3, 5]
    assert (apart.max_length_q, apart.max_length_k) == (3, 3)
    shared = varlen.lengths(packing.pack_sequences([row(*BEGINNING, 1, 2), row(*BEGINNING, 3)]).segments)
    assert shared.gathered_K is not None
    assert shared.gathered_K.tolist() == [*range(40), *range(42), *range(40), 42]
    assert shared.cu_seq_lens_q.tolist() == [0, 40, 42, 43]
    assert shared.cu_seq_lens_k.tolist() == [0, 40, 82, 123]
    assert (shared.max_length_q, shared.max_length_k) == (40, 42)


def test_varlen_is_not_for_a_cpu(base: Path) -> None:
    assert not plain(base).varlen
    assert not varlen.supports_model(plain(base).causal.config, torch.bfloat16, devices.CPU)


def test_step_asks_the_device_for_nothing_until_its_sums_are_read(base: Path) -> None:
    """Tensors of the meta device have no values: reading one raises, as it would make a GPU wait."""
    config = transformers.AutoConfig.from_pretrained(base / "hf")
    config._attn_implementation = "luthier_segments"
    with torch.device("meta"):
        causal = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    causal.requires_grad_(False)
    tuned = dataclasses.replace(tuned_model.attach_adapter(causal, RECIPE, 0, None), varlen=True)
    assert tuned.device.type == "meta"
    sums = sft.gradients(tuned, [row(*BEGINNING, 1, 2), row(*BEGINNING, 3, 4, 5), row(9, 10)], 10_000)
    parameters = list(tuned.parameters.values())
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in parameters)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    assert sums.tokens == 41 + 42 + 1
    with pytest.raises(RuntimeError, match="meta"):
        sums.on_host()


def test_placed_batch_has_its_tensors_elsewhere_and_the_rest_as_it_was() -> None:
    packed = packing.pack_sequences([row(1, 2, 3)])
    placed = devices.to_device(packed, torch.device("meta"))
    assert placed.segments == packed.segments
    assert placed.token_ids_T.is_meta
    assert placed.labels_N.shape == packed.labels_N.shape
    assert devices.to_device(packed, devices.CPU) is packed


def test_sums_of_many_chunks_are_those_of_python_numbers() -> None:
    parts = [head_loss.LossSums(torch.tensor(0.1 * n, dtype=torch.float64), torch.tensor(n), 7) for n in range(50)]
    whole = sum(parts, head_loss.LossSums()).on_host()
    nats = 0.0
    for n in range(50):
        nats += 0.1 * n
    assert whole == head_loss.LossSums(nats, sum(range(50)), 350)


def test_sums_of_two_batches_keep_the_losses_of_both() -> None:
    one, other = head_loss.LossSums(1.0, 1, 2, (1.0,), (0.5,)), head_loss.LossSums(2.0, 0, 1, (2.0,), (2.0,))
    assert one + other == head_loss.LossSums(3.0, 1, 3, (1.0, 2.0), (0.5, 2.0))


def test_choose_takes_the_cpu_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEVICE_VARIABLE, "cpu")
    assert devices.choose_device() == devices.CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_choose_without_a_gpu_takes_the_cpu_and_says_so_if_a_gpu_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    assert devices.choose_device() == devices.CPU
    monkeypatch.setenv(DEVICE_VARIABLE, "cuda")
    with pytest.raises(Unavailable, match="finds no GPU"):
        devices.choose_device()


def test_choose_refuses_a_device_that_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEVICE_VARIABLE, "tpu")
    with pytest.raises(Unavailable, match="must be auto, cpu or cuda"):
        devices.choose_device()
