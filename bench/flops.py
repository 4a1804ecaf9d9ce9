"""How many floating-point operations a training step asks for, by the model's sizes: what no trainer can do without."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama-like model without biases."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of each linear module of a layer: q, k, v, o, gate, up, down."""
        queries, keys = self.heads * self.head_size, self.key_heads * self.head_size
        return (
            (self.hidden, queries),
            (self.hidden, keys),
            (self.hidden, keys),
            (queries, self.hidden),
            (self.hidden, self.intermediate),
            (self.hidden, self.intermediate),
            (self.intermediate, self.hidden),
        )

    @property
    def body(self) -> int:
        """Parameters that take part in a matrix product at every token."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def head(self) -> int:
        """Parameters of the product that makes logits: only at tokens that a loss stands on."""
        return self.hidden * self.vocabulary

    def lora(self, rank: int) -> int:
        """Parameters of adapters on every linear module."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self.linears)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the steps of a job hold, step by step: tokens, those learned, and the sum of squared row lengths."""

    tokens: Sequence[int]
    learned_tokens: Sequence[int]
    squares: Sequence[int]
    longest: int
    shape: Shape

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


def load(path: Path) -> Facts:
    value = json.loads(path.read_text())
    return Facts(**value | {"shape": Shape(**value["shape"])})


def matmul(shape: Shape, rank: int, tokens: int, loss_tokens: int) -> int:
    """Forward 2N, gradient of activations 2N, none for frozen weights; adapters 6N; the head where a loss stands."""
    return tokens * (4 * shape.body + 6 * shape.lora(rank)) + loss_tokens * 4 * shape.head


def attention(shape: Shape, squares: int) -> int:
    """Scores and their use, forward and backward, causal: 6 * layers * width * length for each token of a row."""
    return 6 * shape.layers * shape.heads * shape.head_size * squares
