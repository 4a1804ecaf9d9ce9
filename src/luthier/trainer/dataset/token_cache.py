"""A file's examples as tokens, cached in the run directory: a resumed run neither parses nor renders them again.

Cached there only: tokens are the user's rows, and are deleted with the run directory.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from luthier.atomic_io import write_durably
from luthier.data.rendering.renderer import Rendered
from luthier.data.rows.supervised import Message, Role
from luthier.trainer.dataset.probe_prompts import Prompt

Examples = tuple[tuple[Rendered, ...], ...]


@dataclass(frozen=True, slots=True)
class TokenizedFile:
    """What a run needs of a data file: the sequences of each example, and all that follows from its text.

    `line_numbers` are those of the rows in the file, from 1; a row of a preference pair has two examples, chosen first.
    `prompts` are those of its rows that the probes ask.
    """

    examples: Examples
    line_numbers: tuple[int, ...]
    prompts: tuple[Prompt, ...]


def save(path: Path, key: str, tokenized: TokenizedFile) -> None:
    """Writes a tokenized file under a key: a hash of everything that its tokens depend on. Raises NoSpace."""
    sequences = [sequence for example in tokenized.examples for sequence in example]
    tensors = {
        "token_ids": torch.tensor([id for one in sequences for id in one.token_ids], dtype=torch.int32),
        "loss_weights": torch.tensor([weight for one in sequences for weight in one.loss_weights], dtype=torch.float64),
        "lengths": torch.tensor([len(one.token_ids) for one in sequences]),
        "prompt_tokens": torch.tensor([one.prompt_tokens for one in sequences]),
        "sequences": torch.tensor([len(example) for example in tokenized.examples]),
        "line_numbers": torch.tensor(tokenized.line_numbers),
    }
    path.parent.mkdir(exist_ok=True)
    prompts = json.dumps([[asdict(message) for message in prompt] for prompt in tokenized.prompts])
    write_durably(path, safetensors.torch.save(tensors, {"key": key, "prompts": prompts}))


def load(path: Path, key: str) -> TokenizedFile | None:
    """The file that was saved under this key; None if there is none, or if it cannot be read."""
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
        if metadata.get("key") != key:
            return None
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError):
        return None
    values = {name: tensor.tolist() for name, tensor in tensors.items()}
    return TokenizedFile(_examples(values), tuple(values["line_numbers"]), _prompts(metadata["prompts"]))


def interned(token_ids: Sequence[int]) -> tuple[int, ...]:
    """The same ids, equal ones as one Python object: a fifth of the memory of a large file's tokens."""
    return tuple(_interned.setdefault(id, id) for id in token_ids)


_interned: dict[int, int] = {}


def _examples(values: dict[str, list[int]]) -> Examples:
    """The sequences of each example, from the file's tensors as lists."""
    sequences = []
    for stop, length, prompt_tokens in zip(
        accumulate(values["lengths"]), values["lengths"], values["prompt_tokens"], strict=True
    ):
        span = slice(stop - length, stop)
        weights = tuple(1.0 if weight == 1.0 else float(weight) for weight in values["loss_weights"][span])
        sequences.append(Rendered(interned(values["token_ids"][span]), weights, prompt_tokens))
    stops = accumulate(values["sequences"])
    return tuple(tuple(sequences[stop - count : stop]) for stop, count in zip(stops, values["sequences"], strict=True))


def _prompts(text: str) -> tuple[Prompt, ...]:
    """The probe prompts from their JSON; their messages have no tool calls."""
    return tuple(
        tuple(Message(Role(turn.pop("role")), **(turn | {"tool_calls": ()})) for turn in prompt)
        for prompt in json.loads(text)
    )
