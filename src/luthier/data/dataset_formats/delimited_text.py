"""Rows of one text with the turns marked inside it: guanaco, HH, ChatML, [INST]; and plain text, which is no chat.

Formats for `known_formats`; `split_turns` is used for prompts and outputs of other formats too.
"""

import re

from luthier.data.dataset_formats.chat_builder import ChatBuilder, JsonObject, NotConvertible, role_of
from luthier.data.dataset_formats.dataset_format import Conversion, Format, RowKind, to_conversion

Turns = list[tuple[str, str]]

_HH = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \t]?")
_WORDS = "System|Human|User|Assistant|Instruction|Input|Response"
_HEADED = re.compile(rf"(?:\A\s*|\n)### ?({_WORDS}):?[ \t]*")
_GUANACO = re.compile(rf"(?:\A\s*|\n|(?<!#)(?=### ?(?:{_WORDS}):))### ?({_WORDS}):?[ \t]*")
"""Also a mark within a line: guanaco's own rows have no line break between turns. Only where a mark begins the text."""
_CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.S)
_LLAMA2 = re.compile(r"(?:<s>)?\s*\[INST\](.*?)\[/INST\](.*?)(?=</s>|<s>|\[INST\]|\Z)(?:</s>)?", re.S)
_LLAMA2_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.S)
_HEADINGS = {"instruction": "user", "response": "assistant"}


def split_turns(text: str) -> Turns | None:
    """The (role, text) of each turn of a marked text, blanks around them gone.

    None where it is not marked, or the marks do not divide the whole of it.
    """
    if "<|im_start|>" in text:
        return _chatml(text)
    if "[/INST]" in text:
        return _llama2(text)
    if _HH.match(text):
        return _split_by(_HH, text)
    return _split_by(_GUANACO if _GUANACO.match(text) else _HEADED, text)


def _split_by(pattern: re.Pattern[str], text: str) -> Turns | None:
    """The turns of a text by marks of one kind, text before the first as system; an `Input` joins the turn before it.

    None without marks of both user and assistant.
    """
    matches = list(pattern.finditer(text))
    marks = {role_of(_HEADINGS.get(word := one[1].lower(), word)) for one in matches}
    if not marks >= {"user", "assistant"}:
        return None
    before = text[: matches[0].start()].strip()
    ends = [one.start() for one in matches[1:]] + [len(text)]
    turns_found: Turns = [("system", before)] if before else []
    for one, end in zip(matches, ends, strict=True):
        word = one[1].lower()
        content = text[one.end() : end].strip()
        if word == "input" and turns_found and turns_found[-1][0] == "user":
            turns_found[-1] = ("user", f"{turns_found[-1][1]}\n\n{content}" if content else turns_found[-1][1])
        else:
            turns_found.append((_HEADINGS.get(word) or role_of(word) or "user", content))
    return turns_found


def _chatml(text: str) -> Turns | None:
    """The turns of ChatML; None where text is left outside of the marks, or a role is another."""
    pieces = [(role_of(one[1]), one[2].strip()) for one in _CHATML.finditer(text)]
    if _CHATML.sub("", text).strip() or any(role not in ("system", "user", "assistant") for role, _ in pieces):
        return None
    return [(role, content) for role, content in pieces if role is not None]


def _llama2(text: str) -> Turns | None:
    """The turns of Llama 2's [INST] marks, with the system prompt in them; None where text is left outside."""
    if _LLAMA2.sub("", text).strip():
        return None
    pieces: Turns = []
    for one in _LLAMA2.finditer(text):
        prompt, answer = one[1], one[2].strip()
        system = _LLAMA2_SYSTEM.match(prompt)
        if system:
            pieces.append(("system", system[1].strip()))
            prompt = prompt[system.end() :]
        pieces.append(("user", prompt.strip()))
        if answer:
            pieces.append(("assistant", answer))
    return pieces


def add_marked_turns(chat: ChatBuilder, marked: Turns) -> None:
    """Adds the turns; an empty assistant's turn at the end, where a prompt asks for the answer, is left out."""
    for index, (role, content) in enumerate(marked):
        if content or role != "assistant" or index < len(marked) - 1:
            chat.add_text(role, content)


def _text(row: JsonObject) -> str | None:
    """The row's `text` if it is a string and the row has no messages; else None."""
    text = row.get("text")
    return text if isinstance(text, str) and "messages" not in row else None


def _is_delimited(row: JsonObject) -> bool:
    text = _text(row)
    return text is not None and split_turns(text) is not None


def _convert_delimited(row: JsonObject) -> Conversion:
    """A message for each marked turn. Raises NotConvertible if none is the assistant's."""
    marked = split_turns(_text(row) or "")
    assert marked is not None
    chat = ChatBuilder()
    add_marked_turns(chat, marked)
    chat.note_dropped(row, ("text",))
    return to_conversion(chat)


def _refuse_text(row: JsonObject) -> Conversion:
    """Always raises NotConvertible: plain text has no question and answer."""
    raise NotConvertible("nothing in it says what is asked and what is answered")


def _is_segments(row: JsonObject) -> bool:
    """Whether the row has Axolotl's list `segments`."""
    value = row.get("segments")
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "text" in one for one in value)


def _refuse_segments(row: JsonObject) -> Conversion:
    """Always raises NotConvertible: the texts hold some model's control tokens."""
    raise NotConvertible("its texts are written in some model's own template, which only that model reads")


FORMATS = (
    Format(
        "marked_text",
        "text with marked turns (guanaco, HH, ChatML, Llama 2's [INST], Alpaca's headings)",
        '`{"text": "### Human: ... ### Assistant: ..."}`',
        "what follows each mark is a message of its own, and the marks go: the base model's chat template sets its own",
        _is_delimited,
        _convert_delimited,
        refused="marks that do not divide the whole text",
    ),
    Format(
        "plain_text",
        "plain text (continued pre-training)",
        '`{"text": "..."}`',
        "a chat model learns from questions and answers; split the text into user and assistant messages",
        lambda row: _text(row) is not None,
        _refuse_text,
        RowKind.OTHER,
        refused="all: nothing says what is asked and what is answered",
    ),
    Format(
        "segments",
        "Axolotl's input_output segments",
        '`{"segments": [{"label", "text"}]}`',
        "its texts are written in one model's template; give the turns as messages, with weight 0 where label is false",
        _is_segments,
        _refuse_segments,
        RowKind.OTHER,
        refused="all: its texts hold control tokens of one model's template",
    ),
)
