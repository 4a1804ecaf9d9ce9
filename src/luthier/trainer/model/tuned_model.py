"""The model in memory: the base in bf16 if the processor is fast at it, its trainable parameters in float32."""

import logging
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import Tensor

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.model_folder import BaseModelFolder, CheckpointFolder
from luthier.model_source import source_checks
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.cpu import fused_decoder, workspace
from luthier.trainer.cpu.fused_decoder import FusedDecoder
from luthier.trainer.cpu.kernels import Kernels
from luthier.trainer.dataset.packing import PackedBatch, Segment
from luthier.trainer.layers import attention, lora, master_weights, quantized_weights, rotary, varlen
from luthier.trainer.layers.master_weights import MasterWeights
from luthier.trainer.model import devices, head_loss, sharded_base, stored_weights
from luthier.trainer.model.head_loss import Head

_SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass(frozen=True, slots=True)
class TunedModel:
    """A causal language model with at most one adapter; `parameters` are the trainable ones by their stored names.

    `backbone` is `causal` without its head; `fused` computes in its place on a CPU, None where transformers does.
    `adapter_config` is None if there is no adapter.
    """

    causal: Any = field(repr=False)
    backbone: Any = field(repr=False)
    head: Head
    parameters: dict[str, Tensor] = field(repr=False)
    adapter_config: peft.LoraConfig | None = field(repr=False, default=None)
    fused: FusedDecoder | None = field(repr=False, default=None)
    varlen: bool = False
    """Whether attention runs on a GPU's varlen kernel."""
    masters: MasterWeights | None = field(repr=False, default=None)
    """If all weights are trained; `parameters` are then the masters."""
    sharded: bool = False
    """Whether ranks share the base's layers: every pass is then one that all ranks make at the same time."""

    @property
    def device(self) -> torch.device:
        """The device of the model; batches are moved there by devices.to_device."""
        return self.head.weight_VH.device

    def hidden(self, packed: PackedBatch) -> Tensor:
        """Runs the model: hidden states [N, H] where a supervised token is predicted; `backward` may follow."""
        if self.fused is not None:
            return self.fused.forward(packed, keep=torch.is_grad_enabled())
        output = self.backbone(
            input_ids=packed.token_ids_T[None],
            position_ids=packed.positions_T[None],
            use_cache=False,
            **self._attention_arguments(packed),
        )
        hidden_NH: Tensor = output.last_hidden_state[0].index_select(0, packed.sources_N)
        return hidden_NH

    def backward(self, hidden_NH: Tensor, gradient_NH: Tensor) -> None:
        """Adds to the parameters' gradients, given the gradient [N, H] of the last result of `hidden`."""
        if self.fused is not None:
            self.fused.backward(gradient_NH)
        else:
            hidden_NH.backward(gradient_NH)
        if self.masters is not None:
            self.masters.collect()

    def pass_without_effect(self) -> None:
        """Runs one token through the model and, with gradients enabled, a gradient of zero back.

        For a rank that has nothing to compute in a pass of others that share its base.
        """
        token, position = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        packed = PackedBatch(token, position, (Segment(0, 1),), position, token, torch.zeros(1))
        hidden_NH = self.hidden(devices.to_device(packed, self.device))
        if torch.is_grad_enabled():
            self.backward(hidden_NH, torch.zeros_like(hidden_NH))

    @property
    def head_gradient(self) -> Tensor | None:
        """The tensor to which the loss adds the head's gradient; None if the head is frozen."""
        return None if self.masters is None else self.masters.head_gradient

    def refresh(self) -> None:
        """Rounds the present master weights into the weights that the model computes with; nothing for an adapter."""
        if self.masters is not None:
            self.masters.refresh()

    def _attention_arguments(self, packed: PackedBatch) -> dict[str, Any]:
        """The batch's segments as keyword arguments for attention, made once for all layers."""
        if not self.varlen:
            return {"segments": packed.segments}
        return devices.to_device(varlen.lengths(packed.segments), self.device).arguments()

    def release(self) -> None:
        """Frees the memory of the last step's activations and logits, and gives free heap back to the system."""
        self.head.release()
        if self.fused is not None:
            self.fused.release()
        workspace.trim()


def configure_process(threads: int | None, seed: int, local_ranks: int = 1) -> None:
    """Sets threads, seed, deterministic kernels, attention and log levels of the whole process.

    `threads` None is one per core, shared by the `local_ranks` of this machine.
    """
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // local_ranks))
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
    # Its own handler would bypass the process's log, which filters what may be written.
    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()
    logging.getLogger("peft").setLevel(logging.ERROR)
    attention.register()


def hf_folder(folder: Path) -> Path:
    """The Hugging Face folder in a base model's folder. Raises Unavailable, for the operator, if a file is missing."""
    hf = BaseModelFolder(folder).hf
    if missing := hf.missing():
        raise Unavailable(
            "base_model_missing",
            f"The base model is not on this machine as it should be (missing: {', '.join(missing)}). "
            "Bring it with `luthier models pull`, then start the job again.",
        )
    return hf.path


def load_base(
    folder: Path, dtype: torch.dtype, where: torch.device = devices.CPU, *, without_layers: bool = False
) -> Any:
    """The frozen base model of `folder`/hf, on a device, in evaluation mode.

    If it is `without_layers` these stay on the CPU, for `attach_adapter` to share them out over ranks.

    Raises Unavailable if a file is missing, InvalidRequest for a file that Luthier did not write or a kind of model
    that cannot be trained.
    """
    hf = hf_folder(folder)
    source_checks.refuse_foreign_files(hf)
    causal = transformers.AutoModelForCausalLM.from_pretrained(
        hf,
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
    if without_layers:
        sharded_base.move_all_but_layers(causal, where)
    else:
        causal.to(where)
    rotary.use_angle_table(getattr(causal.get_decoder(), "rotary_emb", None))
    return causal.eval()


def frozen_model(causal: Any) -> TunedModel:
    """The base model without an adapter, for inference: `prepare` computes its probes."""
    return TunedModel(causal, causal.get_decoder(), head_loss.head_of(causal.get_output_embeddings().weight, None), {})


def attach_adapter(
    causal: Any, recipe: LoraRecipe, seed: int, parent: Path | None, compiled: Kernels | None = None, shares: int = 1
) -> TunedModel:
    """Puts a new adapter, seeded, into the base, in place; or the one in `parent`, with its own shape.

    With `compiled` kernels a model of a known shape takes the fused path, and the loss takes them too. With `shares`
    above 1 the base's layers are shared out over so many ranks, and computed by the modules of transformers. Raises
    InvalidRequest if the recipe, or the parent, does not fit the base.
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
        stored_weights.refuse_other_kind(CheckpointFolder(parent).adapter_weights)
        config = stored_weights.read_config(parent)
        config.inference_mode = False
        config.lora_dropout = recipe.dropout  # of this run; how the parent was trained changes nothing in what it is
        config.base_model_name_or_path = None
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # PEFT still asks the model by a name that transformers is retiring.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = peft.get_peft_model(causal, config)
    parameters = _saved_names(adapted)
    if parent is not None:
        stored_weights.load(parameters, CheckpointFolder(parent).adapter_weights)
    lora.use_fused_forward(adapted)
    base = adapted.get_base_model()
    if recipe.quantization is not None:
        quantized_weights.pack(base, recipe.quantization)
    head = head_loss.head_of(base.get_output_embeddings().weight, compiled)
    if shares > 1:
        sharded_base.shard_layers(base, parameters.values(), head.weight_VH.device, shares)
    base.train(recipe.dropout > 0)
    return TunedModel(
        base,
        base.get_decoder(),
        head,
        parameters,
        config,
        None if recipe.quantization or shares > 1 else fused_decoder.build(base, compiled),
        varlen.supports_model(base.config, head.weight_VH.dtype, head.weight_VH.device),
        sharded=shares > 1,
    )


def unfreeze_all_weights(causal: Any, parent: Path | None, compiled: Kernels | None = None) -> TunedModel:
    """Makes all weights of the base trainable, in place, from those in `parent` if given. Raises InvalidRequest."""
    parameters = dict(causal.named_parameters())  # tied embeddings and head are one entry
    if parent is not None:
        stored_weights.refuse_other_kind(CheckpointFolder(parent).hf.weights)
        stored_weights.load(parameters, CheckpointFolder(parent).hf.weights)
    head_VH = causal.get_output_embeddings().weight
    tuned, masters = master_weights.create_masters(parameters, head_VH)
    fits = varlen.supports_model(causal.config, causal.dtype, causal.device)
    head = head_loss.head_of(head_VH, compiled)
    return TunedModel(causal, causal.get_decoder(), head, tuned, None, None, fits, masters)


def saved_tensors(tuned: TunedModel) -> dict[str, Tensor]:
    """The trained tensors as they are stored, sorted by name, on the CPU: an adapter in float32, weights in bf16."""
    whole = tuned.masters is not None
    return {
        name: tuned.parameters[name].detach().to("cpu", torch.bfloat16 if whole else torch.float32).contiguous()
        for name in sorted(tuned.parameters)
    }


def _saved_names(adapted: Any) -> dict[str, Tensor]:
    """Trainable parameters by the names under which PEFT saves them: without the adapter's own name."""
    return {
        name.replace(".default.", "."): parameter
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
    }


def _refuse_missing(causal: Any, targets: tuple[str, ...]) -> None:
    """Raises InvalidRequest for LoRA targets that the model lacks: PEFT itself is content if one of them exists."""
    # The head is no target: the loss is computed from its weights, past any adapter.
    names = [name for name, one in causal.named_modules() if isinstance(one, torch.nn.Linear) and "lm_head" not in name]
    missing = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if missing:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
        raise InvalidRequest(
            "lora_targets_not_found",
            f"The base model has no linear modules named {', '.join(missing)}; correct `lora_targets`, or "
            f"`lora.targets` in the catalog. It has: {known}.",
        )
