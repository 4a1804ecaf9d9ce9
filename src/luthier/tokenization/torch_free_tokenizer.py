"""A base model's tokenizer and chat template without torch: for the service, the engines and the command line.

Reads the same files as the trainer's own (trainer/dataset/tokenizer.py); a test holds the two equal.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import tokenizers

from luthier.chat_templates import sandbox
from luthier.data.rendering import control_text, template_text
from luthier.data.rendering.control_text import ControlTexts
from luthier.model_folder import HuggingFaceFolder
from luthier.tokenization import control_token_guard
from luthier.tokenization.control_token_guard import GuardedTokenizer

_INCOMPLETE = "\ufffd"
_MOST_TOKENS_OF_A_CHARACTER = 4
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TorchFreeTokenizer:
    """A `rendering.text_segments.CountingTokenizer` read from a folder in Hugging Face layout.

    Making one reads the folder's files, and raises OSError for a missing one, ValueError for one that cannot be used.
    It has a thread of its own for counting.
    """

    def __init__(self, folder: Path) -> None:
        """Reads tokenizer, configuration and template of the folder. Raises OSError, ValueError."""
        hf = HuggingFaceFolder(folder)
        self._tokenizer = read_tokenizer(hf.tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config = json.loads(hf.tokenizer_config.read_bytes())
        named = {name: _content(config[name]) for name in _SPECIAL if config.get(name) is not None}
        try:
            self._template = sandbox.compile_template(_chat_template(hf, config), named)
        except jinja2.TemplateError as error:
            raise ValueError(f"The base model's chat template cannot be used: {error}") from None
        eos = named.get("eos_token")
        self._eos_id = None if eos is None else self._tokenizer.token_to_id(eos)
        ends = hf.generation_end_ids()
        self._end_ids = frozenset(ends if self._eos_id is None else (self._eos_id, *ends))
        self._worker = ThreadPoolExecutor(1, "tokens")

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end a turn: the tokenizer's EOS, and those of generation_config.json."""
        return self._end_ids

    @property
    def eos_id(self) -> int | None:
        """The id of the tokenizer's EOS; None if the tokenizer names none."""
        return self._eos_id

    @property
    def end_texts(self) -> tuple[str, ...]:
        """The spellings of `end_ids`, in the order of ids."""
        found = [self._tokenizer.id_to_token(id) for id in sorted(self._end_ids)]
        return tuple(text for text in found if text)

    @property
    def longest_token(self) -> int:
        """Characters of the longest token: a text of n characters has at least n divided by this tokens."""
        return max(map(len, self._tokenizer.get_vocab()), default=1)

    def text(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]],
        add_generation_prompt: bool,
    ) -> str:
        """The chat template's text for messages. Raises TemplateRefused."""
        return template_text.render(self._template, messages, tools, add_generation_prompt)

    @cached_property
    def controls(self) -> ControlTexts:
        """The control tokens, found on first use by rendering a sample chat."""
        return control_token_guard.find_controls(
            self._tokenizer, self._end_ids, lambda messages, prompts: self.text(messages, (), prompts)
        )

    @cached_property
    def _guarded(self) -> GuardedTokenizer:
        """The tokenizer for marked texts, built when one is needed."""
        return GuardedTokenizer(self._tokenizer, self.controls)

    def token_ids(self, text: str) -> list[int]:
        """The token ids of a text, none added; marked control tokens are read as text.

        Raises ValueError if they cannot be.
        """
        if control_text.is_marked(text):
            return self._guarded.token_ids(text)
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def texts(self, token_ids: Sequence[int]) -> list[str]:
        """What each token of a sequence adds to its text, one string for each id.

        Of a character in several tokens the last has all of it, the others "".
        """
        texts: list[str] = []
        begun: list[int] = []
        before: list[int] = []  # a token before, for decoders that take the space off a text's first word
        for id in token_ids:
            begun.append(id)
            text = self._decode([*before, *begun])[len(self._decode(before)) :]
            if text.endswith(_INCOMPLETE) and len(begun) < _MOST_TOKENS_OF_A_CHARACTER:
                texts.append("")
                continue
            texts.append(text)
            before, begun = begun[-1:], []
        return texts

    def _decode(self, token_ids: list[int]) -> str:
        """The text of token ids, special tokens written out."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False))

    def count_later(self, texts: list[str]) -> Callable[[], list[int]]:
        """Begins to count the tokens of each text, on all cores; the call that is returned waits for the counts."""
        return self._worker.submit(self._count, texts).result

    def _count(self, texts: list[str]) -> list[int]:
        """The number of tokens of each text, none added; runs on the counting thread."""
        return [len(found) for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a tokenizer.json. Raises OSError, and ValueError for the library's bare Exception."""
    text = path.read_text("utf-8")
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001
        raise ValueError(f"The base model's {path.name} cannot be read ({type(error).__name__}).") from None


def _chat_template(folder: HuggingFaceFolder, config: Mapping[str, Any]) -> str:
    """The template's source, from its own file or else from the configuration. Raises ValueError if there is none."""
    path = folder.chat_template
    template = path.read_text("utf-8") if path.exists() else config.get("chat_template")
    if not isinstance(template, str):
        raise ValueError("The base model has no chat template.")
    return template


def _content(token: object) -> str:
    """The text of a special token, which the configuration has as a string or as an object."""
    return str(token["content"]) if isinstance(token, dict) else str(token)
