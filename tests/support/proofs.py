"""Holds a model in plain transformers to the probes that the trainer wrote beside a checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers


def prove(causal: Any, folder: Path) -> None:
    """Every log-probability of the checkpoint's probes is what this model says after the same tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    content = json.loads((folder / "probes.json").read_bytes())
    assert content["probes"]
    for probe in content["probes"]:
        text = tokenizer.apply_chat_template(probe["messages"], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == probe["prompt_tokens"]
        for position in probe["positions"]:
            with torch.no_grad():
                logprobs_V = causal(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(0)
            tokens, values = zip(*position["top"], strict=True)
            assert logprobs_V[list(tokens)].tolist() == pytest.approx(values, abs=3e-4)
            ids.append(position["token_id"])
