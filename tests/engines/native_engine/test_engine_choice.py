"""Which engine serves a model: our own where it can, and otherwise the reason names what stands in the way."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import small_models
from luthier.core.states import EngineName
from luthier.engines import choice

LISTS_TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
WRITES_CALLS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{{ message['content'] or '' }}"
    "{% for call in message.tool_calls or [] %}CALL{{ '<|im_end|>\n' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OUR_FORM = (
    '<tool_call>\n{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>"
)
ANOTHER_FORM = "[CALL {{ call.function.name }}({{ call.function.arguments | tojson }})]"


@pytest.mark.parametrize("kind", ["llama", "llama2", "llama3", "mistral", "qwen2", "qwen3"])
def test_our_own_engine_serves_what_it_computes(kind: str, tmp_path: Path) -> None:
    chosen = choice.choose(small_models.make_base(tmp_path, kind))
    assert chosen == choice.Choice(EngineName.NATIVE, "The model and this machine have all that it needs.")


@pytest.mark.model
def test_our_own_engine_serves_the_embedded_model(base_folder: Path) -> None:
    assert choice.choose(base_folder).engine is EngineName.NATIVE
    assert choice.choose(base_folder, EngineName.NATIVE).engine is EngineName.NATIVE


def test_checkpoint_with_all_weights_is_served_like_a_base(tmp_path: Path) -> None:
    hf = small_models.make_base(tmp_path, "llama") / "hf"
    assert choice.choose(hf).engine is EngineName.NATIVE


def test_llama_cpp_serves_what_the_setting_gives_it(tmp_path: Path) -> None:
    chosen = choice.choose(small_models.make_base(tmp_path, "llama"), EngineName.LLAMACPP)
    assert chosen == choice.Choice(EngineName.LLAMACPP, "LUTHIER_SERVE_ENGINE asks for it.")


@pytest.mark.parametrize(
    ("kind", "changes", "obstacle"),
    [
        ("gemma3", {}, "its architecture is Gemma3ForCausalLM"),
        ("phi3", {}, "its architecture is Phi3ForCausalLM"),
        ("llama", {"architectures": None}, "its architecture is not named"),
        ("llama", {"hidden_act": "relu"}, "its activation is relu"),
        ("llama", {"mlp_bias": True}, "its MLP has biases"),
        ("llama", {"quantization_config": {"bits": 4}}, "its weights are quantized"),
        ("llama", {"hidden_size": 60}, "its sizes are no multiples of 16"),
        ("llama", {"head_dim": 512}, "its heads have 512 dimensions, of 256 at most"),
        ("llama", {"num_key_value_heads": 3}, "its query heads cannot be divided among its key heads"),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "its rotary embedding is of the type yarn"),
        ("llama", {"partial_rotary_factor": 0.5}, "only a part of its heads is rotated"),
        (
            "mistral",
            {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]},
            "its layers differ in what they attend to",
        ),
        ("llama", {"num_attention_heads": "many"}, r"its files cannot be read \(ValueError\)"),
    ],
)
def test_llama_cpp_serves_the_rest_and_the_reason_names_the_obstacle(
    kind: str, changes: dict[str, Any], obstacle: str, tmp_path: Path
) -> None:
    base = small_models.make_base(tmp_path, kind)
    config = base / "hf" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    for setting in (EngineName.AUTO, EngineName.NATIVE):
        chosen = choice.choose(base, setting)
        assert chosen.engine is EngineName.LLAMACPP
        assert_says(chosen.reason, obstacle)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_folder_that_lacks_a_file_is_not_served_by_our_own_engine(name: str, tmp_path: Path) -> None:
    base = small_models.make_base(tmp_path, "llama")
    (base / "hf" / name).unlink()
    chosen = choice.choose(base)
    assert chosen.engine is EngineName.LLAMACPP
    assert_says(chosen.reason, r"its files cannot be read \(\w+\)")


@pytest.mark.parametrize(("form", "engine"), [(OUR_FORM, EngineName.NATIVE), (ANOTHER_FORM, EngineName.LLAMACPP)])
def test_template_that_writes_calls_in_a_form_of_its_own_is_for_llama_cpp(
    form: str, engine: EngineName, tmp_path: Path
) -> None:
    template = LISTS_TOOLS + WRITES_CALLS.replace("CALL", form)
    chosen = choice.choose(small_models.make_base(tmp_path, "llama", template=template))
    assert chosen.engine is engine
    if engine is EngineName.LLAMACPP:
        assert_says(chosen.reason, "its chat template writes tool calls in a form that only llama.cpp parses")


def assert_says(reason: str, obstacle: str) -> None:
    assert re.fullmatch(f"Luthier's own engine does not serve it: {obstacle}\\.", reason), reason
