#!/usr/bin/env bash
# peft 0.21.2: what does it say to a LoRA whose `target_modules` are not all in the model?
#
# Guess: an error that names those that are missing, or a warning at least: there is an error where none is found, and
#        a warning for keys of `rank_pattern` and names in `exclude_modules` that meet nothing.
# Seen:  nothing. One hit is enough for all. The seven names of Llama's layers on a Phi-3, which has queries, keys and
#        values in one layer and gate and up in another, give an adapter on two of a block's four layers, and the saved
#        adapter_config.json names all seven. `layers_to_transform` and `modules_to_save` are passed over as well.
#
#   q_proj k_proj v_proj o_proj gate_proj up_proj down_proj: adapters on down_proj and o_proj, warnings none
#   layers_to_transform 0 and 99: layer 0, warnings none     modules_to_save "nothing": warnings none
#   q_proj alone: NoMatchingPeftModuleError                  rank_pattern of q_proj: 1 warning
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check \
    'peft==0.21.2' 'transformers==5.23.0' 'torch==2.13.0' 'accelerate==1.15.0' 'numpy==2.4.6'
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PY'
import json
import sys
import warnings

import peft
import transformers

LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPE = transformers.Phi3Config(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, pad_token_id=0,
    bos_token_id=1, eos_token_id=2
)


def attach(**fields):
    """The adapted model, and the warnings of peft's own."""
    config = peft.LoraConfig(r=4, task_type="CAUSAL_LM", **fields)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = peft.get_peft_model(transformers.Phi3ForCausalLM(SHAPE), config)
    return model, [str(warning.message) for warning in caught if warning.category is not FutureWarning]


def adapted(model):
    names = [name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name]
    return sorted({name.rpartition(".")[2] for name in names}), sorted({name.split(".")[4] for name in names})


model, said = attach(target_modules=LLAMA)
model.save_pretrained(sys.argv[1])
with open(f"{sys.argv[1]}/adapter_config.json") as file:
    saved = sorted(json.load(file)["target_modules"])
print("Llama's names:", adapted(model), "- warnings", said, "- saved as", saved)
assert adapted(model)[0] == ["down_proj", "o_proj"]
assert said == []
assert saved == sorted(LLAMA)
model, said = attach(target_modules=["o_proj"], layers_to_transform=[0, 99])
print("layers 0 and 99:", adapted(model), "- warnings", said)
assert (adapted(model)[1], said) == (["0"], [])
_, said = attach(target_modules=["o_proj"], modules_to_save=["nothing"])
print("modules to save:", said)
assert said == []
_, said = attach(target_modules=["o_proj"], rank_pattern={"q_proj": 8})
print("rank_pattern:", said)
assert len(said) == 1
try:
    attach(target_modules=["q_proj"])
except ValueError as error:
    print("q_proj alone:", type(error).__name__)
else:
    raise AssertionError("q_proj was taken")
PY
