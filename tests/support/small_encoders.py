"""Small random BERT encoders in the layout of sentence-transformers, and their vectors by transformers."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from wordpiece import write_tokenizer


def make_source(folder: Path, pooling: str = "mean", max_tokens: int = 96, seed: int = 0) -> Path:
    """A folder with a random encoder of two layers; its vectors depend on positions, and on all words."""
    vocabulary = write_tokenizer(folder).get_vocab_size() + 3
    torch.manual_seed(seed)
    encoder = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
        )
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            middle = 1.0 if "LayerNorm.weight" in name else 0.0
            parameter.copy_(torch.randn_like(parameter) * (0.05 if "LayerNorm" in name else 0.15) + middle)
    encoder.save_pretrained(folder)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 64, **modes}))
    steps = ("Transformer", "Pooling", "Normalize")
    modules = [{"idx": n, "type": f"sentence_transformers.models.{step}"} for n, step in enumerate(steps)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    return folder


def prepare(source: Path, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Prepares an embedding model's folder as `luthier models pull` does, without the export."""
    command = [sys.executable, "-m", "luthier.trainer.model.prepare_embeddings", str(source), str(folder)]
    return subprocess.run([*command, "--name", "small", *options], capture_output=True, text=True, check=False)


def vectors(folder: Path, inputs: Sequence[Sequence[int]], pooling: str = "mean") -> list[list[float]]:
    """By transformers in float32, from a source or a prepared hf/."""
    encoder = transformers.BertModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    found = []
    with torch.inference_mode():
        for ids in inputs:
            hidden_ND = encoder(input_ids=torch.tensor([list(ids)])).last_hidden_state[0]
            pooled_D = hidden_ND[0] if pooling == "cls" else hidden_ND.mean(dim=0)
            found.append((pooled_D / pooled_D.norm()).tolist())
    return found
