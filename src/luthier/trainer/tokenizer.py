"""The base model's tokenizer and chat template, as data.render wants them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import transformers

from luthier.core.errors import InvalidRequest
from luthier.data.render import TemplateRefuses

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""What a folder needs to make chat prompts; every checkpoint carries its own copy."""


class FolderTokenizer:
    """A data.render.ChatTokenizer read from a folder in Hugging Face layout."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        if not self._tokenizer.chat_template:
            raise InvalidRequest("no_chat_template", "The base model has no chat template, so chats cannot be learned.")
        self._end_ids = _end_ids(folder, self._tokenizer.eos_token_id)

    @property
    def end_ids(self) -> frozenset[int]:
        return self._end_ids

    @property
    def eos_id(self) -> int | None:
        id: int | None = self._tokenizer.eos_token_id
        return id

    def text(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]],
        add_generation_prompt: bool,
    ) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages), tools=list(tools) or None, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except jinja2.TemplateError:
            # Its message may quote the user's row, and it must not reach the log.
            raise TemplateRefuses from None
        return str(text)

    def token_ids(self, text: str) -> list[int]:
        ids = self._tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return [int(id) for id in ids]


def _end_ids(folder: Path, eos_token_id: int | None) -> frozenset[int]:
    """The tokenizer's end token and those of generation_config.json: families like Gemma end a turn by another one."""
    ends = set() if eos_token_id is None else {eos_token_id}
    path = folder / "generation_config.json"
    if path.exists():
        named = json.loads(path.read_bytes()).get("eos_token_id")
        ends |= {int(id) for id in (named if isinstance(named, list) else [named]) if id is not None}
    return frozenset(ends)
