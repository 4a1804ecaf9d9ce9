"""A base model's tokenizer and chat template without torch: for checks that must not wait for a trainer.

Reads the same files as the trainer's own (trainer/tokenizer.py, through transformers); a test holds the two equal.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox
import tokenizers

from luthier.data.render import TemplateRefuses

_HALF = "\ufffd"
_MOST_TOKENS_OF_A_CHARACTER = 4
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class QuickTokenizer:
    """A data.token_counts.CountingTokenizer read from a folder in Hugging Face layout. Raises OSError, ValueError."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
        named = {name: _content(config[name]) for name in _SPECIAL if config.get(name) is not None}
        self._template = _environment().from_string(_chat_template(folder, config))
        # One plain dictionary: jinja2's chain of two costs half of a short chat's rendering.
        self._template.globals = dict(self._template.globals) | named
        eos = named.get("eos_token")
        self._eos_id = None if eos is None else self._tokenizer.token_to_id(eos)
        self._end_ids = self._find_ends(folder)
        self._worker = ThreadPoolExecutor(1, "tokens")

    @property
    def end_ids(self) -> frozenset[int]:
        return self._end_ids

    @property
    def eos_id(self) -> int | None:
        return self._eos_id

    @property
    def end_texts(self) -> tuple[str, ...]:
        found = [self._tokenizer.id_to_token(id) for id in sorted(self._end_ids)]
        return tuple(text for text in found if text)

    @property
    def longest_token(self) -> int:
        """Characters of the longest token: a text of n characters has at least n over this tokens."""
        return max(map(len, self._tokenizer.get_vocab()), default=1)

    def text(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]],
        add_generation_prompt: bool,
    ) -> str:
        try:
            return self._template.render(
                messages=messages, tools=tools or None, add_generation_prompt=add_generation_prompt
            )
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError, KeyError):
            # A template's message may quote the user's row. The other errors are those of a template that expects
            # what the row has not.
            raise TemplateRefuses from None

    def token_ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def texts(self, token_ids: Sequence[int]) -> list[str]:
        """What each token of a sequence adds to its text; of a character in several tokens all stands at the last."""
        texts: list[str] = []
        begun: list[int] = []
        before: list[int] = []  # a token before, for decoders that take the space off a text's first word
        for id in token_ids:
            begun.append(id)
            text = self._decode([*before, *begun])[len(self._decode(before)) :]
            if text.endswith(_HALF) and len(begun) < _MOST_TOKENS_OF_A_CHARACTER:
                texts.append("")
                continue
            texts.append(text)
            before, begun = begun[-1:], []
        return texts

    def _decode(self, token_ids: list[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False))

    def count_later(self, texts: list[str]) -> Callable[[], list[int]]:
        """Begins to count the tokens of each text, on all cores; the call that is returned waits for the counts."""
        return self._worker.submit(self._count, texts).result

    def _count(self, texts: list[str]) -> list[int]:
        return [len(found) for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def _find_ends(self, folder: Path) -> frozenset[int]:
        """The tokenizer's end token, and those of generation_config.json: some families end a turn by another one."""
        ends = {self._eos_id}
        path = folder / "generation_config.json"
        if path.exists():
            named = json.loads(path.read_bytes()).get("eos_token_id")
            ends |= set(named if isinstance(named, list) else [named])
        return frozenset(int(id) for id in ends if id is not None)


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    template = path.read_text("utf-8") if path.exists() else config.get("chat_template")
    if not isinstance(template, str):
        raise ValueError("The base model has no chat template.")
    return template


def _content(token: object) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Where chat templates run: they come from strangers, so that they see a sandbox and no class of Python's."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _as_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now, "dict": _dict, "namespace": _namespace}
    return environment


class _Generation(jinja2.ext.Extension):
    """The block `{% generation %}` of some templates marks what the model wrote; its content stays as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _as_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)


def _dict(*pairs: Any, **more: Any) -> dict[Any, Any]:
    return dict(*pairs, **more)


def _namespace(*pairs: Any, **more: Any) -> jinja2.utils.Namespace:
    attributes = dict(*pairs, **more)
    if any(str(name).startswith("_") for name in attributes):
        raise jinja2.TemplateError("a namespace of the template has a private name")
    return jinja2.utils.Namespace(attributes)
