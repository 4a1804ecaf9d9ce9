"""The model in memory: the base in bf16 where the processor is fast at it, what is tuned of it in float32."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch
import transformers
from torch import Tensor

from luthier import manifest
from luthier.core.errors import InvalidRequest, Unavailable
from luthier.run_directory import LoraRecipe
from luthier.trainer import attention, device, fused, lora, losses, masters, quantized, rotary, varlen, workspace
from luthier.trainer.batches import Flat
from luthier.trainer.fused import Fused
from luthier.trainer.kernels import Kernels
from luthier.trainer.masters import Masters

EXACT_PROBES_MAX_PARAMETERS = 3_000_000_000
"""Up to this size probes are computed in float32; above it the lifted copy would take too much memory."""

_NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass(frozen=True, slots=True)
class Tuned:
    """A causal language model with at most one adapter in place; `parameters` are what is tuned, by saved name."""

    causal: Any = field(repr=False)
    backbone: Any = field(repr=False)
    head_VH: Tensor = field(repr=False)
    parameters: dict[str, Tensor] = field(repr=False)
    config: peft.LoraConfig | None = field(repr=False, default=None)
    compiled: Kernels | None = field(repr=False, default=None)
    fused: Fused | None = field(repr=False, default=None)
    varlen: bool = False
    """Whether attention takes a batch's segments as a GPU's varlen kernel has them."""
    masters: Masters | None = field(repr=False, default=None)
    """Where all weights are tuned; `parameters` are then the masters."""

    @property
    def place(self) -> torch.device:
        """Where it computes; batches go there by device.place."""
        return self.head_VH.device

    def hidden(self, flat: Flat) -> Tensor:
        """The hidden states [N, H] at the positions that predict a supervised token; `backward` may follow."""
        if self.fused is not None:
            return self.fused.forward(flat, keep=torch.is_grad_enabled())
        output = self.backbone(
            input_ids=flat.token_ids_T[None],
            position_ids=flat.positions_T[None],
            use_cache=False,
            **self._told(flat),
        )
        hidden_NH: Tensor = output.last_hidden_state[0].index_select(0, flat.sources_N)
        return hidden_NH

    def backward(self, hidden_NH: Tensor, gradient_NH: Tensor) -> None:
        """Adds to the parameters' gradients, given the gradient of what `hidden` last returned."""
        if self.fused is not None:
            self.fused.backward(gradient_NH)
        else:
            hidden_NH.backward(gradient_NH)  # type: ignore[no-untyped-call]
        if self.masters is not None:
            self.masters.collect()

    @property
    def head_gradient(self) -> Tensor | None:
        """Where the loss adds the head's gradient; None while the head is frozen."""
        return None if self.masters is None else self.masters.head_gradient

    def refresh(self) -> None:
        """Has the model compute with what `parameters` now are."""
        if self.masters is not None:
            self.masters.refresh()

    def _told(self, flat: Flat) -> dict[str, Any]:
        """What attention is told of the batch's segments, made once for all layers."""
        if not self.varlen:
            return {"segments": flat.segments}
        return device.place(varlen.lengths(flat.segments), self.place).arguments()

    def release(self) -> None:
        """Gives back what the last step's activations took, before something else needs much memory."""
        losses.release()
        if self.fused is not None:
            self.fused.release()
        workspace.trim()


def settle(threads: int | None, seed: int) -> None:
    """Sets what holds for the process: threads, seed, deterministic kernels, silence."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # cuBLAS promises equal results only with a workspace of its own; read when a GPU is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # oneDNN keeps machine code for each shape of a product, a quarter of a megabyte each and 1,024 of them by default;
    # a step has some fifty shapes, most of them attention's and gone with their lengths. Read at the first product.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    # Deterministic mode's filling of each new tensor costs a sixth of a step, and we read no memory before writing it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("peft").setLevel(logging.ERROR)
    attention.register()


def source(folder: Path) -> Path:
    """The Hugging Face layout inside a base folder. Raises Unavailable where a file of it is missing."""
    missing = [name for name in _NEEDED if not (folder / "hf" / name).is_file()]
    if missing:
        raise Unavailable(
            "base_model_missing",
            f"The base model is not on this machine as it should be (missing: {', '.join(missing)}). "
            "Bring it with `luthier models pull`, then start the job again.",
        )
    return folder / "hf"


def load_base(folder: Path, dtype: torch.dtype, where: torch.device = device.CPU) -> Any:
    """The frozen base model of `folder`/hf, on a device. Raises Unavailable or InvalidRequest if it cannot be used."""
    causal = transformers.AutoModelForCausalLM.from_pretrained(
        source(folder),
        dtype=dtype,
        attn_implementation=attention.NAME,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    scaled = [name for name in _SCALED_HEADS if causal.config.to_dict().get(name) not in (None, 1, 1.0)]
    if scaled:
        raise InvalidRequest(
            "base_model_not_supported", f"The base model scales its logits ({scaled[0]}), which training cannot yet do."
        )
    causal.requires_grad_(False)
    if causal.config.model_type == "gemma3_text":
        # Rounded to bf16 it would be off by up to 0.4%, and engines do not round it.
        embedding = causal.get_input_embeddings()
        embedding.embed_scale = torch.tensor(embedding.scalar_embed_scale, dtype=torch.float32)
    causal.to(where)
    rotary.steady(getattr(causal.get_decoder(), "rotary_emb", None))
    return causal.eval()


def without_adapter(causal: Any) -> Tuned:
    """The base model itself."""
    return Tuned(causal, causal.get_decoder(), causal.get_output_embeddings().weight, {})


def attach(causal: Any, recipe: LoraRecipe, seed: int, parent: Path | None, compiled: Kernels | None = None) -> Tuned:
    """Puts a fresh adapter, seeded, on the base; or the one in `parent`, with its own shape.

    With `compiled` kernels a model of a known shape takes the fused path, and the loss takes them too.
    """
    if parent is None:
        _refuse_missing(causal, recipe.targets)
        config = peft.LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=list(recipe.targets),
            task_type="CAUSAL_LM",
        )
    else:
        _refuse_other_kind(parent / manifest.ADAPTER_FILE)
        config = peft.LoraConfig.from_pretrained(parent)
        config.inference_mode = False
        config.base_model_name_or_path = None
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # PEFT still asks the model by a name that transformers is retiring.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = peft.get_peft_model(causal, config)
    parameters = _saved_names(adapted)
    if parent is not None:
        _load(parameters, parent / manifest.ADAPTER_FILE)
    lora.speed_up(adapted)
    base = adapted.get_base_model()
    if recipe.quantization is not None:
        quantized.pack(base, recipe.quantization)
    base.train(recipe.dropout > 0)
    return Tuned(
        base,
        base.get_decoder(),
        base.get_output_embeddings().weight,
        parameters,
        config,
        compiled,
        None if recipe.quantization else fused.build(base, compiled),
        varlen.fits(base.config, base.dtype, base.device),
    )


def open_up(causal: Any, parent: Path | None, compiled: Kernels | None = None) -> Tuned:
    """All weights of the base to be tuned, from those in `parent` where one is given."""
    parameters = dict(causal.named_parameters())  # tied embeddings and head stand there once
    if parent is not None:
        _refuse_other_kind(parent / manifest.MODEL_FILE)
        _load(parameters, parent / manifest.MODEL_FILE)
    head_VH = causal.get_output_embeddings().weight
    tuned, joined = masters.of(parameters, head_VH)
    fits = varlen.fits(causal.config, causal.dtype, causal.device)
    return Tuned(causal, causal.get_decoder(), head_VH, tuned, None, compiled, None, fits, joined)


def saved_tensors(tuned: Tuned) -> dict[str, Tensor]:
    """What was tuned as it is stored, in the order of names, on the CPU: PEFT's adapter in float32, weights in bf16."""
    whole = tuned.masters is not None
    return {
        name: tuned.parameters[name].detach().to("cpu", torch.bfloat16 if whole else torch.float32).contiguous()
        for name in sorted(tuned.parameters)
    }


@contextmanager
def exact(tuned: Tuned) -> Iterator[str]:
    """Lifts the stored weights to float32 for as long as it lasts and puts the very same tensors back; gives the dtype.

    Probes made so prove what is served: an engine computes from the same stored weights, with its own rounding. Weights
    that are tuned are stored in bf16, whatever they are computed in.
    """
    whole = tuned.masters is not None
    lifted = {id(one): one for one in tuned.causal.parameters() if whole or not one.requires_grad}.values()
    if not _can_be_lifted(sum(tensor.numel() for tensor in lifted), tuned.place):
        yield str(tuned.head_VH.dtype).removeprefix("torch.")
        return
    kept = [(tensor, tensor.data) for tensor in lifted]
    try:
        for tensor, data in kept:
            tensor.data = (data.bfloat16() if whole else data).float()
        yield "float32"
    finally:
        for tensor, data in kept:
            tensor.data = data


def _can_be_lifted(n_parameters: int, place: torch.device) -> bool:
    """Whether a float32 copy is small enough; a GPU has no other memory to fall back on, so there it must be free."""
    fits = place.type != "cuda" or n_parameters * torch.float32.itemsize < device.free_bytes(place)
    return fits and n_parameters <= EXACT_PROBES_MAX_PARAMETERS


def _saved_names(adapted: Any) -> dict[str, Tensor]:
    """Trainable parameters by the names under which PEFT saves them: without the adapter's own name."""
    return {
        name.replace(".default.", "."): parameter
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def _load(parameters: dict[str, Tensor], path: Path) -> None:
    tensors = safetensors.torch.load_file(path)
    if tensors.keys() != parameters.keys():
        raise InvalidRequest("parent_does_not_fit", "The model to go on from was tuned on another base model or shape.")
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _refuse_missing(causal: Any, targets: tuple[str, ...]) -> None:
    """PEFT is content with one target that is there, and says nothing of the others."""
    names = [name for name, module in causal.named_modules() if isinstance(module, torch.nn.Linear)]
    missing = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if missing:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in names} - {"lm_head"}))
        raise InvalidRequest(
            "lora_targets_not_found",
            f"The base model has no linear modules named {', '.join(missing)}; mend `lora.targets` in the catalog. "
            f"It has: {known}.",
        )


def _refuse_other_kind(path: Path) -> None:
    """An adapter cannot go on from tuned weights, nor they from an adapter."""
    if not path.exists():
        raise InvalidRequest(
            "parent_does_not_fit",
            "The model to go on from is of another kind: the catalog's entry says lora where all weights were tuned, "
            "or full where an adapter was. Start from the base model, or set the entry's tuning back.",
        )
