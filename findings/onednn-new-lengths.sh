#!/usr/bin/env bash
# torch 2.13.0 with oneDNN on a CPU: what does a matrix product cost whose number of rows was not met before?
#
# Guess: what any other costs. oneDNN makes machine code at run time, but for a processor and a data type; the number of
#        rows is a bound of a loop.
# Seen:  machine code is made for each number of rows, and kept: milliseconds at the first product of a length and half
#        a megabyte for each shape of weights, until 1,024 pieces are kept (ONEDNN_PRIMITIVE_CACHE_CAPACITY). A step of
#        training has a length of its own and some dozens of shapes: a tenth of a second and tens of megabytes a step,
#        which looks like a leak. Rounding rows up to a multiple of 128 ends both. bfloat16 takes this way by `@` on a
#        processor with AVX-512; elsewhere the script takes float32 by the operator that compiled models call.
#
#   AVX2, 60 lengths from 20 to 79, (n, 576) by (576, 1536): made at first products 60 times, at second ones 0; 35 to
#   41 MB more memory; a first product takes 3 to 5 ms more than a second one (9.0 and 4.4 ms in a quiet moment)
#   the same lengths rounded up to 128: made 1 time
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'torch==2.13.0'
cat > "$folder/products.py" <<'PY'
import sys
import time

import torch

torch.set_num_threads(1)
IS_FAST = torch.ops.mkldnn._is_mkldnn_bf16_supported()
DTYPE = torch.bfloat16 if IS_FAST else torch.float32
WEIGHT = torch.randn(1536, 576, dtype=DTYPE)


def product(x):
    return x @ WEIGHT.T if IS_FAST else torch.ops.mkldnn._linear_pointwise(x, WEIGHT, None, "none", [], "")


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


product(torch.randn(10, 576, dtype=DTYPE))
print("begin", resident(), flush=True)
for rows in range(20, 80):
    rows = -(-rows // 128) * 128 if sys.argv[1] == "rounded" else rows
    x = torch.randn(rows, 576, dtype=DTYPE)
    for which in ("first", "second"):
        print(which, flush=True)
        began = time.perf_counter()
        product(x)
        print("took", (time.perf_counter() - began) * 1000, flush=True)
print("end", resident(), flush=True)
PY
"$folder/venv/bin/python" - "$folder/venv/bin/python" "$folder/products.py" <<'PY'
import os
import statistics
import subprocess
import sys


def lines(how):
    environment = {**os.environ, "ONEDNN_VERBOSE": "profile"}
    told = subprocess.run([*sys.argv[1:], how], env=environment, capture_output=True, text=True, check=True)
    return told.stdout.splitlines()


def made(how):
    """By the turn of a length: how often machine code was made, milliseconds of products; megabytes that stayed."""
    count, took, memory, which = {"first": 0, "second": 0}, {"first": [], "second": []}, [], None
    for line in lines(how):
        if line in count:
            which = line
        elif line.startswith("took") and which:
            took[which].append(float(line.split()[1]))
        elif line.startswith(("begin", "end")):
            memory.append(float(line.split()[1]))
        elif which and "create:cache_miss" in line and ("inner_product" in line or "matmul" in line):
            count[which] += 1
    return count, {which: statistics.median(ms) for which, ms in took.items()}, memory[1] - memory[0]


count, ms, megabytes = made("as they come")
print(f"made {count}, {megabytes:.0f} MB more memory")
print(f"a first product {ms['first']:.1f} ms, a second {ms['second']:.1f} ms")
assert count == {"first": 60, "second": 0}
assert megabytes > 60 * 0.1
assert ms["first"] > ms["second"] + 0.5
count, ms, megabytes = made("rounded")
print(f"rounded up to 128: made {count}, {megabytes:.0f} MB more memory")
assert count == {"first": 1, "second": 0}
PY
