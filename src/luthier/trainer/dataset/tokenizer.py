"""The base model's tokenizer and chat template, as the renderer (data/rendering/renderer.py) wants them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import transformers

from luthier.chat_templates import sandbox
from luthier.core.errors import InvalidRequest
from luthier.data.rendering import control_text, template_text
from luthier.data.rendering.control_text import ControlTexts
from luthier.model_folder import HuggingFaceFolder
from luthier.tokenization import control_token_guard
from luthier.tokenization.control_token_guard import GuardedTokenizer


class FolderTokenizer:
    """The renderer's ChatTokenizer, read from a folder in Hugging Face layout."""

    def __init__(self, folder: Path) -> None:
        """Reads the folder's files. Raises InvalidRequest for a chat template that is missing or cannot be compiled."""
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        if not self._tokenizer.chat_template:
            raise InvalidRequest("no_chat_template", "The base model has no chat template, so chats cannot be learned.")
        # Rendered as `torch_free_tokenizer` does, and within the same bounds: not by the library, which has none.
        try:
            self._template = sandbox.compile_template(self._tokenizer.chat_template, self._tokenizer.special_tokens_map)
        except jinja2.TemplateError as error:
            raise InvalidRequest(
                "template_cannot_be_used", f"The base model's chat template cannot be used: {error}. Pull it again."
            ) from None
        ends = HuggingFaceFolder(folder).generation_end_ids()
        self._end_ids = frozenset(ends if self.eos_id is None else (self.eos_id, *ends))

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end a turn: the tokenizer's own end and those of generation_config.json."""
        return self._end_ids

    @property
    def eos_id(self) -> int | None:
        """The tokenizer's own end token, None if it has none."""
        id: int | None = self._tokenizer.eos_token_id
        return id

    def text(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]],
        add_generation_prompt: bool,
    ) -> str:
        """What the chat template writes. Raises TemplateRefused where it refuses the messages or costs too much."""
        return template_text.render(self._template, messages, tools, add_generation_prompt)

    @cached_property
    def controls(self) -> ControlTexts:
        """The control tokens, as texts spell them."""
        return control_token_guard.find_controls(
            self._tokenizer.backend_tokenizer, self._end_ids, lambda messages, prompts: self.text(messages, (), prompts)
        )

    @cached_property
    def _guarded(self) -> GuardedTokenizer:
        return GuardedTokenizer(self._tokenizer.backend_tokenizer, self.controls)

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text, none added; spellings of control tokens that are marked as text stay text."""
        if control_text.is_marked(text):
            return self._guarded.token_ids(text)
        ids = self._tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return [int(id) for id in ids]
