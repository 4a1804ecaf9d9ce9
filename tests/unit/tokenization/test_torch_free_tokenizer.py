"""The tokenizer without torch makes what the trainer's makes, text for text and token for token."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from luthier.data.rendering.template_text import TemplateRefused
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer
from luthier.trainer.dataset.tokenizer import FolderTokenizer

ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
TEXTS = st.text(st.sampled_from(" \n\tab1é'<|>{}%."), max_size=12) | st.text(max_size=8)
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": TEXTS}), min_size=1, max_size=5)
TOOL = {"type": "function", "function": {"name": "brew", "parameters": {"type": "object", "properties": {"é": {}}}}}
TEMPLATES = {
    "chatml": tiny.TEMPLATE,
    "with tools": "{{ bos_token }}{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}" + tiny.TEMPLATE,
    "strict": (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system: ' + messages[0].content) }}{% endif %}"
        + tiny.TEMPLATE
    ),
    "namespace, loop controls, generation": (
        "{%- set ns = namespace(count=0) %}\n{%- for message in messages %}\n"
        "    {%- if message.role == 'tool' %}{% continue %}{% endif %}\n"
        "    {%- set ns.count = ns.count + 1 %}\n"
        "{{ ns.count }}{% if message.role == 'assistant' %}{% generation %}{{ message.content | trim }}{{ eos_token }}"
        "{% endgeneration %}{% else %}{{ message.content.split('\\n')[-1] }}{% endif %}\n"
        "{%- endfor %}{{ strftime_now('%Y') }}{{ dict(a=1) | tojson }}"
    ),
}


@pytest.fixture(scope="module", params=TEMPLATES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny.tokenizer_folder(tmp_path_factory.mktemp("tokenizer"), TEMPLATES[request.param])
    return TorchFreeTokenizer(folder), FolderTokenizer(folder)


@settings(deadline=None)
@given(messages=MESSAGES, tools=st.sampled_from([[], [TOOL]]), add=st.booleans())
def test_text_and_tokens_are_the_trainers(both: Any, messages: list[Any], tools: list[Any], add: bool) -> None:
    quick, slow = both
    try:
        wanted = slow.text(messages, tools, add)
    except TemplateRefused:
        with pytest.raises(TemplateRefused):
            quick.text(messages, tools, add)
        return
    text = quick.text(messages, tools, add)
    assert text == wanted
    assert quick.token_ids(text) == slow.token_ids(text)
    assert quick.end_ids == slow.end_ids == {2}
    assert quick.end_texts == (tiny.SPECIAL[2],)


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=6))
def test_counts_are_those_of_the_tokens(both: Any, texts: list[str]) -> None:
    quick, _ = both
    later = quick.count_later(texts)
    assert later() == [len(quick.token_ids(text)) for text in texts]
    assert all(len(text) <= quick.longest_token * len(quick.token_ids(text)) for text in texts)


def test_end_tokens_of_the_generation_config_count(tmp_path: Path) -> None:
    folder = tiny.tokenizer_folder(tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    assert TorchFreeTokenizer(folder).end_ids == FolderTokenizer(folder).end_ids == {1, 2}


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ namespace(__class__=1) }}",
        "{{ dict.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__['json'] }}",
    ],
)
def test_template_cannot_reach_behind_its_sandbox(tmp_path: Path, attack: str) -> None:
    quick = TorchFreeTokenizer(tiny.tokenizer_folder(tmp_path, attack))
    with pytest.raises(TemplateRefused):
        quick.text([{"role": "user", "content": "Hi"}], [], False)


def test_torch_is_not_loaded(tmp_path: Path) -> None:
    folder = tiny.tokenizer_folder(tmp_path)
    code = (
        "import sys; from pathlib import Path; from luthier.tokenization import torch_free_tokenizer; "
        f"tokenizer = torch_free_tokenizer.TorchFreeTokenizer(Path({str(folder)!r})); tokenizer.token_ids('Hi'); "
        f"print(*{{'torch', 'transformers'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
