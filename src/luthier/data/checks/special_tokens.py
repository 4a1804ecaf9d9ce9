"""Control tokens that are spelled in a row: text to the model, and mostly nothing that it should learn to write.

Without a base model those of the chat models in use are looked for; with one also its own.
"""

import re
from collections.abc import Iterable, Iterator

from luthier.data.checks.row_text import RowText
from luthier.data.problems.problem import Problem, Severity
from luthier.data.rendering.control_text import ControlTexts
from luthier.data.rows.chat_message import Message, Role

_END_TOKENS = """
<|im_end|> <|endoftext|> <|eot_id|> <|eom_id|> <|end_of_text|> <|end|> <|return|> <end_of_turn> </s>
<|END_OF_TURN_TOKEN|> <｜end▁of▁sentence｜>
""".split()  # noqa: SIM905
_OTHER_TOKENS = """
<|im_start|> <|im_sep|> <|begin_of_text|> <|start_header_id|> <|end_header_id|> <|python_tag|> <|system|> <|user|>
<|assistant|> <|endofprompt|> <|start|> <|channel|> <|message|> <start_of_turn> [INST] [/INST] <<SYS>> <</SYS>>
[TOOL_CALLS] [AVAILABLE_TOOLS] [TOOL_RESULTS] <|START_OF_TURN_TOKEN|> <｜begin▁of▁sentence｜> <｜User｜> <｜Assistant｜>
""".split()  # noqa: SIM905
_ESCAPED = (b"\\u003c", b"\\u003C", b"\\u005b", b"\\u005B")
"""How some writers spell the "<" or "[" that a token begins with."""
_STRUCK_OUT = re.compile(r"<s>[^<]*</s>")
"""HTML for text that is crossed out, and no token."""


class SpecialTokens:
    """Looks for spellings of control tokens in rows.

    `own` are the spellings of the base model's tokens, `own_ends` of those of them that end a turn.
    """

    def __init__(self, own: Iterable[str] = (), own_ends: Iterable[str] = ()) -> None:
        self._texts = ControlTexts({*_END_TOKENS, *_OTHER_TOKENS, *own})
        self._ends = frozenset((*_END_TOKENS, *own_ends))
        self._in_line = re.compile("|".join(map(re.escape, self._texts.texts)).encode())
        # Nearly all spellings have this character, and hardly a row: it is looked for much faster than all of them.
        self._needles = (*{b"<" if "<" in text else text.encode() for text in self._texts.texts}, *_ESCAPED)

    def problems(self, line: int, raw: bytes, view: RowText) -> list[Problem]:
        """A warning for each text of a row, and each tool, that spells one; it names the first.

        `raw` is the row's line, for a quick look first.
        """
        for needle in self._needles:
            if needle in raw:
                break
        else:
            return []
        if self._in_line.search(raw) is None and b"\\u" not in raw:
            return []
        problems_found = []
        for path, message in view.messages_with_paths():
            for inner_path, value in _text_values(message):
                token = self._first(value)
                if token is not None:
                    is_answer = message.role is Role.ASSISTANT and inner_path == "content" and token in self._ends
                    problems_found.append(_problem(line, f"{path}.{inner_path}", token, is_answer))
        within = "input." if view.rejected else ""
        for index, tool in enumerate(view.tools):
            token = self._texts.first_in(tool)
            if token is not None:
                problems_found.append(_problem(line, f"{within}tools[{index}].function", token, False))
        return problems_found

    def _first(self, value: object) -> str | None:
        """The first token that a text, or any text of a JSON value, spells; None for none, and for struck-out HTML."""
        token = self._texts.first_in(value)
        if token == "</s>" and isinstance(value, str):
            return self._texts.first_in(_STRUCK_OUT.sub("", value))
        return token


def _text_values(message: Message) -> Iterator[tuple[str, object]]:
    """The texts that people wrote in a message, and the arguments of its calls, each with its path in it."""
    yield "content", message.content
    if message.name is not None:
        yield "name", message.name
    if message.tool_call_id is not None:
        yield "tool_call_id", message.tool_call_id
    for index, call in enumerate(message.tool_calls):
        path = "function_call" if call.id is None else f"tool_calls[{index}].function"
        yield f"{path}.arguments", call.arguments


def _problem(line: int, path: str, token: str, is_answer: bool) -> Problem:
    """The warning of a token; `is_answer` if it ends a turn and is in an answer, where the model learns to write it."""
    if is_answer:
        message = f"the answer spells {token}, which ends a turn; here it is text, which the model learns to write."
        fix = "Remove it: training appends the end token to every answer."
    else:
        message = f"the text spells {token}, a control token of chat models; here it is read as text."
        fix = "Remove it if it came along from another program; nothing is to be done if it is meant."
    return Problem(line, path, "special_token", Severity.WARNING, message, fix)
