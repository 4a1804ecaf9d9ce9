"""Chat templates in the style of each family, in words of our own, and a tiny random base model of each."""

from dataclasses import dataclass
from pathlib import Path

import small_models


@dataclass(frozen=True)
class Family:
    """`kind` is small's word for the shape; of `special` the first token begins a text, the third ends a turn."""

    kind: str
    template: str
    special: tuple[str, ...]
    targets: tuple[str, ...] = small_models.TARGETS


_LLAMA = """\
{{- bos_token }}
{%- if strftime_now is defined %}{% set today = strftime_now("%d %b %Y") %}
{%- else %}{% set today = "1 Jan 2024" %}{% endif %}
{%- if messages and messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}
{%- set turns = messages[1:] %}
{%- else %}{% set system = '' %}{% set turns = messages %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nToday is ' + today + '.\n\n' + system + '<|eot_id|>' }}
{%- for message in turns %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

_GEMMA = """\
{{- bos_token }}
{%- if messages and messages[0]['role'] == 'system' %}{% set before = messages[0]['content'] + '\n\n' %}
{%- set turns = messages[1:] %}{% else %}{% set before = '' %}{% set turns = messages %}{% endif %}
{%- for message in turns %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('user and assistant take turns') }}{% endif %}
{%- set name = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + name + '\n' + (before if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{% endif %}"""

_MISTRAL = """\
{{- bos_token }}
{%- if messages and messages[0]['role'] == 'system' %}{% set before = messages[0]['content'] + '\n\n' %}
{%- set turns = messages[1:] %}{% else %}{% set before = '' %}{% set turns = messages %}{% endif %}
{%- for message in turns %}
{%- if message['role'] == 'user' %}
{{- '[INST] ' + (before if loop.last or loop.index0 == turns | length - 2 else '') + message['content'] + ' [/INST]' }}
{%- else %}{{- ' ' + message['content'] + eos_token }}{% endif %}
{%- endfor %}"""
"""The system message is before the last question, as in Mistral's own: they move when the chat goes on."""

_CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"""

_QWEN3 = """\
{%- if tools %}{{- '<|im_start|>system\nFunctions:' }}
{%- for tool in tools %}{{- '\n' + tool | tojson }}{% endfor %}{{- '<|im_end|>\n' }}{% endif %}
{%- set last = namespace(question=-1) %}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{% set last.question = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
{%- set said = message['content'] %}
{%- if message['role'] == 'assistant' and loop.index0 < last.question %}
{%- set said = said.split('</think>')[-1] %}{% endif %}
{{- '<|im_start|>' + message['role'] + '\n' + said }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' + call.function.name + ' ' + call.function.arguments | tojson + '</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"""
"""Reasoning of earlier turns is dropped from the history."""

_PHI = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant<|im_sep|>' }}{% endif %}"""

FAMILIES = {
    "llama": Family("llama3", _LLAMA, ("<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>", "<|end_header_id|>")),
    "gemma": Family("gemma3", _GEMMA, ("<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>")),
    "mistral": Family("mistral", _MISTRAL, ("<s>", "[INST]", "</s>", "[/INST]")),
    "mistral-7b": Family("llama2", _MISTRAL, ("<s>", "<pad>", "</s>")),
    "qwen2": Family("qwen2", _CHATML, small_models.SPECIAL),
    "qwen3": Family("qwen3", _QWEN3, small_models.SPECIAL),
    "phi": Family("phi3", _PHI, (*small_models.SPECIAL, "<|im_sep|>"), small_models.FUSED_TARGETS),
}

ENDLESS = """\
{%- for message in messages %}
{{- message['role'] + ': ' + message['content'] + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'assistant: ' }}{% endif %}"""
"""Writes no end-of-turn token after an answer."""

ALL = FAMILIES | {"qwen2-endless": Family("qwen2", ENDLESS, small_models.SPECIAL)}


def make_source(folder: Path, name: str) -> Path:
    """A folder in Hugging Face layout with the family's tiny model, as a base model comes from elsewhere."""
    family = ALL[name]
    return small_models.make_base(folder, family.kind, template=family.template, special=family.special) / "hf"
