"""A file's rows as tokens, kept in the run directory: a run that goes on does not render them again.

It lies there and nowhere else: tokens are the user's rows, and go when the run directory goes.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from luthier.data.render import Rendered
from luthier.durable import write_durably

Examples = tuple[tuple[Rendered, ...], ...]


def save(path: Path, key: str, examples: Examples) -> None:
    """Writes the sequences of each example under a key of all that they depend on."""
    sequences = [sequence for example in examples for sequence in example]
    tensors = {
        "token_ids": torch.tensor([id for one in sequences for id in one.token_ids], dtype=torch.int32),
        "loss_weights": torch.tensor([weight for one in sequences for weight in one.loss_weights], dtype=torch.float64),
        "lengths": torch.tensor([len(one.token_ids) for one in sequences]),
        "prompt_tokens": torch.tensor([one.prompt_tokens for one in sequences]),
        "sequences": torch.tensor([len(example) for example in examples]),
    }
    path.parent.mkdir(exist_ok=True)
    write_durably(path, safetensors.torch.save(tensors, {"key": key}))


def load(path: Path, key: str) -> Examples | None:
    """What was saved under this key; None where nothing was, or it cannot be read."""
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            if (stream.metadata() or {}).get("key") != key:
                return None
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError):
        return None
    return _examples({name: tensor.tolist() for name, tensor in tensors.items()})


def compact(token_ids: Sequence[int]) -> tuple[int, ...]:
    """The same numbers, equal ones as one object: a fifth of the memory of a large file's tokens."""
    return tuple(_known.setdefault(id, id) for id in token_ids)


_known: dict[int, int] = {}


def _examples(values: dict[str, list[int]]) -> Examples:
    sequences = []
    for stop, length, prompt in zip(
        accumulate(values["lengths"]), values["lengths"], values["prompt_tokens"], strict=True
    ):
        here = slice(stop - length, stop)
        weights = tuple(1.0 if weight == 1.0 else float(weight) for weight in values["loss_weights"][here])
        sequences.append(Rendered(compact(values["token_ids"][here]), weights, prompt))
    stops = accumulate(values["sequences"])
    return tuple(tuple(sequences[stop - count : stop]) for stop, count in zip(stops, values["sequences"], strict=True))
