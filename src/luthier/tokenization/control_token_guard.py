"""Which tokens of a tokenizer are control tokens, and the token ids of texts in which some are marked as plain text.

A second tokenizer is made of the first, in which each control token has another name, one that nobody can write: the
template's own are renamed in the text, the marked ones are not, and so stay text. All else is as in the first. Both
tokenizers, the trainer's and the torch-free one, use it.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import tokenizers

from luthier.data.rendering.control_text import BREAK, ControlTexts
from luthier.data.rendering.template_text import TemplateRefused

_QUESTION = "What is it?"
_MARKS = frozenset("<>[]{}|｜")
Template = Callable[[list[Mapping[str, object]], bool], str]
"""The text of messages, with or without the prompt of an answer behind them; may raise TemplateRefused."""


class GuardedTokenizer:
    """Tokenizes marked texts (`rendering.control_text`). The second tokenizer is built on first use: up to a second."""

    def __init__(self, backend: tokenizers.Tokenizer, controls: ControlTexts) -> None:
        self._backend = backend
        self._controls = controls

    def token_ids(self, marked: str) -> list[int]:
        """The token ids of a marked text, none added. Raises ValueError where the tokenizer cannot be guarded."""
        backend, names, pattern = self._guarded
        text = pattern.sub(lambda found: names[found[0]], marked)
        return list(backend.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _guarded(self) -> tuple[tokenizers.Tokenizer, dict[str, str], re.Pattern[str]]:
        """The second tokenizer, the replacements to make in a text, and the pattern that finds them.

        The new names are random for each instance. Raises ValueError if a renamed token gets another id.
        """
        nonce = secrets.token_hex(8)
        ids = {text: self._backend.token_to_id(text) for text in self._controls.texts}
        names = {text: f"\ufdd3{nonce}{id}\ufdd3" for text, id in ids.items()}
        content = json.loads(self._backend.to_str())
        for token in content["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        _rename(content["model"], names)
        content |= {"post_processor": None, "truncation": None, "padding": None}
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        if any(backend.token_to_id(names[text]) != id for text, id in ids.items()):
            raise ValueError("The base model's tokenizer gives its control tokens other ids when they are renamed.")
        pattern = re.compile("|".join([BREAK * 2, BREAK, *map(re.escape, self._controls.texts)]))
        return backend, {**names, BREAK: "", BREAK * 2: BREAK}, pattern


def find_controls(backend: tokenizers.Tokenizer, end_ids: frozenset[int], template: Template) -> ControlTexts:
    """The control tokens of a tokenizer: special ones, those that end a turn, those that the template itself writes.

    The last are those around a user's message or at the beginning of an answer, for some families do not call these
    special. Other added tokens (`<think>`, `<tool_call>` of many) are vocabulary: answers are to be learned with them.
    """
    added = backend.get_added_tokens_decoder()
    controls = {token.content for id, token in added.items() if token.special or id in end_ids}
    others = {token.content for token in added.values() if _is_no_word(token.content)} - controls
    chat: list[Mapping[str, object]] = [{"role": "user", "content": _QUESTION}]
    try:
        turn, prompt = template(chat, False), template(chat, True)
    except TemplateRefused:
        return ControlTexts(controls)
    controls |= {text for text in others if text in turn}
    opening = prompt.removeprefix(turn)
    at_opening = [(position, text) for text in controls | others if (position := opening.find(text)) >= 0]
    return ControlTexts(controls | ({min(at_opening)[1]} if at_opening else set()))


def _is_no_word(text: str) -> bool:
    """Whether a token is spelled with brackets or bars, as marks are: some tokenizers add words, and runs of spaces."""
    return not _MARKS.isdisjoint(text)


def _rename(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Renames tokens, in place, in the vocabulary of a tokenizer's model and as its unknown token.

    The vocabulary is a mapping to ids or, for Unigram, a list of pieces and scores.
    """
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(text, text): id for text, id in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
    unknown = model.get("unk_token")
    if unknown is not None:
        model["unk_token"] = names.get(unknown, unknown)
