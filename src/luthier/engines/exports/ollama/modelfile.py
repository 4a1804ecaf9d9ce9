"""The Modelfile: the shape of a chat template in Go's template language, our sampling defaults, the stop texts."""

import json
from collections.abc import Sequence

import jinja2

from luthier.core.errors import Unsupported
from luthier.data.rendering.template_text import TemplateRefused
from luthier.engines.exports.ollama import go_template, proof_chats, template_shape
from luthier.engines.exports.ollama.template_shape import Render, Shape, SystemPlace, Turn

MODELFILE = "Modelfile"
SAMPLING = {"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0, "repeat_penalty": 1}
"""What a request without sampling fields gets here. Ollama's own are 0.8, 0.9, 40, 0 and 1.1."""
_BLANKS = "9 10 11 12 13 28 29 30 31 32"
"""What Jinja's trim takes away, of ASCII; blanks beyond it at the ends of a message stay in Ollama."""
_TRIM = f"""\
{{{{- $begin := -1 }}}}{{{{ $end := 0 }}}}{{{{ $solid := false }}}}
{{{{- range $place := len $text }}}}
{{{{- if $solid }}}}{{{{ $end = $place }}}}{{{{ end }}}}
{{{{- $solid = not (eq (index $text $place) {_BLANKS}) }}}}
{{{{- if and $solid (lt $begin 0) }}}}{{{{ $begin = $place }}}}{{{{ end }}}}
{{{{- end }}}}
{{{{- if $solid }}}}{{{{ $end = len $text }}}}{{{{ end }}}}
{{{{- if lt $begin 0 }}}}{{{{ $text = "" }}}}{{{{ else }}}}{{{{ $text = slice $text $begin $end }}}}{{{{ end }}}}
"""
"""Strips `$text`: the language has no function for it. A loop over a number needs Go 1.24."""


def go_chat_template(render: Render) -> str:
    """The model's own chat template in Go's language, equal on all proof chats.

    Raises Unsupported for one that cannot be said there.
    """
    try:
        template = _written(template_shape.find_shape(render))
    except (TemplateRefused, jinja2.TemplateError):
        raise template_shape.other_shape() from None
    parsed = go_template.parse(template)
    for chat in proof_chats.CHATS:
        try:
            own = render(chat, True)
        except (TemplateRefused, jinja2.TemplateError):
            raise template_shape.other_shape() from None
        if go_template.execute(parsed, chat) != own:
            raise template_shape.other_shape()
    return template


def modelfile(template: str, stops: Sequence[str], context_tokens: int, gguf_name: str) -> str:
    """The Modelfile's text. Raises Unsupported for a template that no Modelfile can quote."""
    if '"""' in template:
        raise Unsupported("template_not_translatable", "The chat template has three quotes in a row. Take gguf.")
    parameters = [f"PARAMETER {name} {value}" for name, value in SAMPLING.items()]
    parameters.append(f"PARAMETER num_ctx {context_tokens}")
    parameters += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    return "\n".join([f"FROM ./{gguf_name}", f'TEMPLATE """{template}"""', *parameters]) + "\n"


def _written(shape: Shape) -> str:
    """The template of a shape."""
    folds = shape.system_place is not SystemPlace.OWN_TURN
    trimming = [
        role
        for role, turn in (("system", shape.system), ("user", shape.user), ("assistant", shape.assistant))
        if turn.trims
    ]
    parts = [_said(shape.start)]
    if folds:
        parts.append('{{- $system := "" }}{{ $before := "" }}')
    parts.append("{{- range $index, $message := .Messages }}\n{{- $text := $message.Content }}\n")
    if trimming:
        roles = " ".join(json.dumps(role) for role in trimming)
        parts.append(f"{{{{- if eq $message.Role {roles} }}}}\n{_TRIM}{{{{- end }}}}\n")
    if shape.without_system:
        opening = _said(shape.without_system)
        parts.append(f'{{{{- if and (eq $index 0) (ne $message.Role "system") }}}}{opening}{{{{ end }}}}\n')
    parts.append('{{- if eq $message.Role "system" }}')
    if folds:
        parts.append("{{ $system = printf " + _quoted("%s%s%s") + f" {_quoted(shape.system.before)} $text ")
        parts.append(f"{_quoted(shape.system.after)} }}}}\n")
    else:
        parts.append(_turn(shape.system) + "\n")
    parts.append('{{- else if eq $message.Role "user" }}')
    if folds:
        parts.append(_folded_user(shape))
        parts.append(_said(shape.user.before) + "{{ $before }}{{ $text }}" + _said(shape.user.after))
    else:
        parts.append(_turn(shape.user))
    parts.append('\n{{- else if eq $message.Role "assistant" }}' + _turn(shape.assistant))
    parts.append("\n{{- end }}\n{{- end }}" + _said(shape.generation))
    return "".join(parts)


def _folded_user(shape: Shape) -> str:
    """Sets what precedes the text of a user's turn: the system message, at the first such turn or at the last."""
    if shape.system_place is SystemPlace.FIRST_USER_TURN:
        return '{{ $before = $system }}{{ $system = "" }}'
    return '{{ $before = "" }}{{ if eq (len (slice $.Messages $index)) 1 }}{{ $before = $system }}{{ end }}'


def _turn(turn: Turn) -> str:
    return _said(turn.before) + "{{ $text }}" + _said(turn.after)


def _said(text: str) -> str:
    """An action that writes a text; nothing for none."""
    return f"{{{{ {_quoted(text)} }}}}" if text else ""


def _quoted(text: str) -> str:
    """A text as a Go string constant."""
    return json.dumps(text, ensure_ascii=False)
