"""An exported folder in plain transformers, or in plain peft on its base: nothing of Luthier's own computes here."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from luthier.engines.exports.export_parity import TOP, Likeliest, Tool


def load_merged(folder: Path, dtype: str) -> Tool:
    """transformers with the model and tokenizer of `folder`, computing in `dtype`."""
    return _tool("transformers", _load(folder, dtype), folder)


def load_adapter(folder: Path, base_hf: Path, dtype: str) -> Tool:
    """peft with the adapter in `folder` on the base in `base_hf`, computing in `dtype`."""
    with warnings.catch_warnings():
        # PEFT still asks the model by a name that transformers is retiring.
        warnings.simplefilter("ignore", FutureWarning)
        model = peft.PeftModel.from_pretrained(_load(base_hf, dtype), folder)
    return _tool("peft", model.eval(), folder)


def _load(folder: Path, dtype: str) -> Any:
    """The causal language model of a folder, in evaluation mode; only local safetensors, and no code of the model's."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    causal = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32 if dtype == "float32" else torch.bfloat16,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    return causal.eval()


def _tool(name: str, model: Any, folder: Path) -> Tool:
    """The tool of a loaded model with the tokenizer of `folder`."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    def prompt(messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The chat's tokens by the folder's own template."""
        return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    @torch.inference_mode()
    def score(tokens: list[int], n: int) -> Sequence[Likeliest]:
        """One forward pass over the tokens."""
        logits_NV = model(torch.tensor([tokens])).logits[0, -n:].float()
        values_NK, ids_NK = logits_NV.log_softmax(-1).topk(min(TOP, logits_NV.shape[-1]))
        rows = zip(ids_NK.tolist(), values_NK.tolist(), strict=True)
        return [list(zip(ids, values, strict=True)) for ids, values in rows]

    return Tool(name, prompt, score)
