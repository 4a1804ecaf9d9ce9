#!/usr/bin/env bash
# torch 2.13.0 on a CPU without AVX-512: what does a linear layer in bfloat16 cost beside one in float32?
#
# Guess: a little more: blocks are lifted to float32 on the way, and half the bytes come from memory.
# Seen:  several times as much. Neither oneDNN nor the vendor's library is asked: a plain loop multiplies. To lift the
#        whole input and the whole weight to float32 at each call, multiply and round back is as fast as float32 itself.
#        The fastest way to a result in bfloat16 is thus never to multiply in it. Leaves with 77 where the processor
#        multiplies bfloat16 by itself.
#
#   200 rows, 576 to 1536, one thread of an EPYC with AVX2: float32 10 ms; bfloat16 linear 69 ms, `@` 287 ms;
#   lifted, multiplied and rounded at each call 11 ms
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'torch==2.13.0'
"$folder/venv/bin/python" - <<'PY'
import sys
import time

import torch
from torch.nn.functional import linear

if torch.ops.mkldnn._is_mkldnn_bf16_supported():
    print("oneDNN multiplies bfloat16 here: nothing to see")
    sys.exit(77)
torch.set_num_threads(1)


def least_ms(function):
    function()
    took = []
    for _ in range(7):
        began = time.perf_counter()
        function()
        took.append((time.perf_counter() - began) * 1000)
    return min(took)


x, weight = torch.randn(200, 576), torch.randn(1536, 576)
x16, weight16 = x.bfloat16(), weight.bfloat16()
plain = least_ms(lambda: linear(x, weight))
small = least_ms(lambda: linear(x16, weight16))
product = least_ms(lambda: x16 @ weight16.T.contiguous())
lifted = least_ms(lambda: linear(x16.float(), weight16.float()).bfloat16())
print(f"float32 {plain:.1f} ms, bfloat16 linear {small:.1f} ms, bfloat16 @ {product:.1f} ms, lifted {lifted:.1f} ms")
assert torch.allclose(linear(x16, weight16).float(), linear(x16.float(), weight16.float()), rtol=0.02, atol=0.5)
assert small > 3 * plain
assert product > small
assert lifted < small / 2
PY
