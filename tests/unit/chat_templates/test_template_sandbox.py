"""Chat templates render as ever, and none takes more time, memory or language than it may."""

import time
from pathlib import Path

import jinja2
import pytest

from luthier.chat_templates import sandbox
from luthier.chat_templates.render_cost import TooCostly
from luthier.core.errors import InvalidRequest
from luthier.data.rendering.renderer import Renderer, Unrenderable
from luthier.data.rows.supervised import Message, Role
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
CHAT = [{"role": "user", "content": " Who? "}, {"role": "assistant", "content": "A hat."}]
TEXT = "{% set x = 'a' * 5000 %}"


def rendered(template: str) -> str:
    return sandbox.render(sandbox.compile_template(template, NAMES), CHAT, (), True)


def growing(expression: str, most: int = 30) -> str:
    return (
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range("
        + str(most)
        + ") %}{% set ns.x = "
        + expression
        + " %}{% endfor %}{{ ns.x }}"
    )


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "{{ bos_token }}{% for m in messages %}{{ m.role ~ m['content'] | trim }}{% endfor %}",
            "<s>userWho?assistantA hat.",
        ),
        ("{{ messages[::-1][0].content.split('h')[-1] }}", "at."),
        ("{% for m in messages if m.role != 'user' %}{{ loop.last }}{{ loop.index0 }}{% endfor %}", "True0"),
        ("{% macro f(m) %}<{{ m.role }}>{% endmacro %}{{ f(messages[0]) + f(messages[1]) }}", "<user><assistant>"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        ("{{ messages | map(attribute='role') | join(', ') }}", "user, assistant"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ {'a': [1, 'é']} | tojson }}{{ {'a': 1} | tojson(indent=2) }}", '{"a": [1, "é"]}{\n  "a": 1\n}'),
        ("{{ tools is none }}{{ documents is none }}{{ nothing is defined }}", "TrueTrueFalse"),
        ("{% generation %}{{ 'x' }}{% endgeneration %}", "x"),
        ("{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}", "a2b1"),
        ("{{ 'user' in messages | map(attribute='role') | list }}{{ 3 * 2 }}{{ '%s!' % 'a' }}", "True6a!"),
        (
            "{{ 'a\nb' | indent(2) }}{{ [3, 1] | sum }}{{ 1.26 | round(1) }}{{ 'aXa'.replace('X', '-') }}",
            "a\n  b41.3a-a",
        ),
    ],
)
def test_template_that_chats_need_renders_as_in_jinja(template: str, text: str) -> None:
    assert rendered(template) == text


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(1500) %}{% for b in range(1500) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(18) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'a' * 20000000 }}",
        growing("ns.x ~ ns.x"),
        growing("ns.x + ns.x"),
        growing("[ns.x, ns.x]"),
        growing("dict(a=ns.x, b=ns.x)"),
        growing("{'a': ns.x, 'b': ns.x}.items()"),
        growing("[ns.x]", 220),
        TEXT + "{{ x.replace('a', x) }}",
        TEXT + "{{ x | replace('a', x) }}",
        TEXT + "{{ x.join(x) }}",
        TEXT + "{{ range(5000) | join(x) }}",
        TEXT + "{% for i in range(5000) %}{{ x }}{% endfor %}",
        TEXT + "{% set y %}{% for i in range(5000) %}{{ x }}{% endfor %}{% endset %}",
        "{{ '%20000d' % 1 }}",
        "{{ '%s' | format('a') }}{{ '%*d' | format(20000, 1) }}",
        "{{ 2 ** 300 }}",
        "{{ [1] | tojson(indent=1000) }}",
        "{{ 1.5 | round(200, 'ceil') }}",
        "{{ " + "not " * 70 + "1 }}",
        "a" * (sandbox.MAX_SOURCE_CHARACTERS + 1),
    ],
)
def test_template_beyond_its_allowance_is_refused_within_it(template: str) -> None:
    began = time.thread_time()
    with pytest.raises(TooCostly):
        rendered(template)
    assert time.thread_time() - began < 20.0


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}{{ ''.__class__ + 1 }}",
        "{{ '{:>20000}'.format(1) }}",
        "{{ 'a'.zfill(20000) }}",
        "{{ 'a' | center(20000) }}",
        "{{ (5).to_bytes(20000, 'big') }}",
        "{{ {}.fromkeys('ab', 1) }}",
        "{{ [[1]] | sum(start=[]) }}",
        "{% set x = [] %}{{ x.append(1) }}",
        "{{ lipsum() }}",
        "{{ messages | random }}",
        "{% include 'other' %}",
        "{% import 'other' as other %}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% macro f() %}{{ varargs }}{% endmacro %}{{ f(1) }}",
        "{{ raise_exception('no') }}",
        "{{ 1 + 'a' }}",
    ],
)
def test_template_that_uses_what_no_chat_needs_is_refused(template: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        rendered(template)


def test_namespaces_that_hold_one_another_say_nothing_of_it() -> None:
    assert rendered("{% set a = namespace(x=1) %}{% set b = namespace(x=a, y=a) %}{{ b }}") == "<Namespace>"


def test_long_chat_through_an_ordinary_template_stays_within_the_allowance() -> None:
    path = Path(sandbox.__file__).with_name("chatml.jinja")
    template = sandbox.compile_template(path.read_text(), NAMES)
    chat = [{"role": role, "content": "word " * 400} for _ in range(500) for role in ("user", "assistant")]
    assert len(sandbox.render(template, chat, (), True)) > 2_000_000


def test_example_that_a_template_cannot_afford_is_a_problem_of_its_row_in_words(tmp_path: Path) -> None:
    import tokenizers

    tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text(
        "{% for c in messages[0].content %}{% for d in messages[0].content %}{% endfor %}{% endfor %}"
    )
    renderer = Renderer(TorchFreeTokenizer(tmp_path), 512)
    assert renderer.text((Message(Role.USER, "a" * 100, 0.0),), (), False) == ""
    with pytest.raises(Unrenderable) as refused:
        renderer.text((Message(Role.USER, "a" * 1500, 0.0),), (), False)
    assert refused.value.code == "template_too_costly"
    assert "steps" in refused.value.message


def test_template_of_a_stored_model_that_does_not_compile_is_told(tmp_path: Path) -> None:
    import tokenizers

    tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{% for %}"}')
    with pytest.raises((ValueError, InvalidRequest), match="cannot be used"):
        TorchFreeTokenizer(tmp_path)
