"""The twenty chats on which a translated template must say what the model's own says, to the character.

Roles alternate, a system message is the first, and the last turn is the user's: what Ollama makes of other chats is
its own (it joins neighbours of one role by an empty line before a template sees them).
"""

from collections.abc import Mapping

Message = Mapping[str, str]


def _chat(*texts: str, system: str | None = None) -> tuple[Message, ...]:
    """A chat of these texts, the user's and the assistant's in turn, behind a system message if there is one."""
    turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]
    return tuple(turns if system is None else [{"role": "system", "content": system}, *turns])


CHATS: tuple[tuple[Message, ...], ...] = (
    _chat("Name three primary colours."),
    _chat("What is 12 plus 30?", system="You answer briefly."),
    _chat("Hello!", "Hello. What can I do?", "Write a line about the sea."),
    _chat("Hello!", "Hello.", "And then?", system="Clippy is a factual chatbot that is also sarcastic."),
    _chat("1", "2", "3", "4", "5", "6", "7", "8", "9"),
    _chat("1", "2", "3", "4", "5", "6", "7", system="Count."),
    _chat("Two\nlines\n\nand a third.", "An answer\nin two.", "Good."),
    _chat("Continue.", system="First rule.\nSecond rule.\n\n- a list\n- of two"),
    _chat("Continue.", system=""),
    _chat("  blanks at both ends  ", "\n\nnewlines at both ends\n", "\ttabs\t"),
    _chat("Fine?", system="\n  A system message between blanks. \n"),
    _chat("a  b   c\t\td\r\ne", "x \n y", "  "),
    _chat("Ünïcode 東京 здравствуй مرحبا 🙂👩‍👩‍👧 ½ ² ٣", "e\u0301 \u200bzero width\u200d", "\ufeffBOM"),
    _chat("日本語で答えてください。", "はい。", "ありがとう", system="あなたは先生です。"),
    _chat('A "quoted" \\ backslash, {{ braces }}, {% tags %} and `ticks`', '"""three"""', "{{- .Content -}}"),
    _chat("<b>HTML</b> &amp; 'quotes' <|not_a_token|> [INST] </s>", "if a < b && b > c", "$100 %s %d"),
    _chat("def f(x):\n    return {'a': x**2}  # comment\n", "```python\nprint(1)\n```", "Run it."),
    _chat('{"name": "f", "arguments": {"a": [1, 2.5, null]}}', system='Answer in JSON: {"a": 1}'),
    _chat("word " * 300, "answer " * 100, "Short."),
    _chat("user", "assistant", "system", system="user"),
)
