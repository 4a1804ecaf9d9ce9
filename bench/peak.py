"""`python -m bench.peak FACTS RESULT`: how many floating-point operations a second this machine now gives."""

import json
import sys
import time
from pathlib import Path
from statistics import median

import torch

from bench import flops

LARGE = ((2048, 2048, 2048), (4096, 2048, 2048), (2048, 4096, 4096), (4096, 4096, 4096))
"""Rows, inner size, columns."""

OWN_ROWS = 2048
ROUNDS = 5


def main(arguments: list[str]) -> None:
    shape = flops.load(Path(arguments[0])).shape
    own = [product for pair in set(shape.linears) for product in _products(*pair)]
    own += [(512, shape.hidden, shape.vocabulary), (512, shape.vocabulary, shape.hidden)]
    result = {
        "bf16": max(_speed([product], torch.bfloat16) for product in LARGE),
        "float32": max(_speed([product], torch.float32) for product in LARGE),
        "own_bf16": _speed(own, torch.bfloat16),
    }
    Path(arguments[1]).write_text(json.dumps(result))


def _products(inputs: int, outputs: int) -> list[tuple[int, int, int]]:
    """The product of a linear module forward, and that of its input's gradient."""
    return [(OWN_ROWS, inputs, outputs), (OWN_ROWS, outputs, inputs)]


def _speed(products: list[tuple[int, int, int]], dtype: torch.dtype) -> float:
    """The median over rounds of these products one after another, all cores at work."""
    pairs = [
        (torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)) for rows, inner, columns in products
    ]
    outputs = [torch.empty(left.shape[0], right.shape[1], dtype=dtype) for left, right in pairs]
    work = sum(2 * rows * inner * columns for rows, inner, columns in products)
    speeds = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        for (left, right), output in zip(pairs, outputs, strict=True):
            torch.mm(left, right, out=output)
        speeds.append(work / (time.perf_counter() - began))
    return median(speeds[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
