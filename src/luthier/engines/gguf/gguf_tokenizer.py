"""Writes a BPE tokenizer and the chat template into a GGUF file, from the files that transformers saves.

Kinds of tokenizers that llama.cpp would read differently are refused: it would not see what was trained.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf

from luthier.core.errors import Unsupported
from luthier.model_folder import HuggingFaceFolder
from luthier.model_source import split_patterns

PRE_TOKENIZERS: Mapping[tuple[str, ...], str] = {
    ("gpt2",): "gpt-2",
    ("digits", "gpt2"): "smollm",
    (split_patterns.LLAMA,): "llama-bpe",
    (split_patterns.QWEN,): "qwen2",
    (split_patterns.TEKKEN,): "tekken",
}
"""Pre-tokenization before the merges -> `tokenizer.ggml.pre`: llama.cpp has the regular expressions by these names.

llama.cpp's expressions for tekken treat letters outside ASCII as both cases: such words may be split differently there.
"""

_SPACE = "\u2581"
"""What SentencePiece writes for a space."""
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_PREFIXED = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": _SPACE}, _SPACES]}
_NO_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
"""Gemma's: it splits after spaces, of which its normalizer leaves none."""
_BYTE = re.compile("<0x[0-9A-F]{2}>")


def add_tokenizer(writer: gguf.GGUFWriter, hf_folder: Path, vocabulary: int) -> None:
    """Adds tokens, merges, special ids and the chat template to the file's metadata.

    Raises Unsupported for other tokenizers. `vocabulary` is the number of token ids, the rows of the embedding matrix.
    """
    tokenizer = json.loads(HuggingFaceFolder(hf_folder).tokenizer.read_bytes())
    config = json.loads(HuggingFaceFolder(hf_folder).tokenizer_config.read_bytes())
    if tokenizer["model"]["type"] != "BPE":
        raise _unsupported("is not a BPE")
    tokens, types = _vocabulary(tokenizer, vocabulary)
    if tokenizer["model"].get("byte_fallback"):
        _add_sentencepiece(writer, tokenizer, tokens, types)
    else:
        _add_byte_level(writer, tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    _add_special_ids(writer, hf_folder, config, {token: id for id, token in enumerate(tokens)})
    writer.add_chat_template(read_chat_template(hf_folder))


def read_chat_template(hf_folder: Path) -> str:
    """The template as text, from its own file or else tokenizer_config.json.

    Raises Unsupported if the model has none: such a model cannot chat.
    """
    jinja = HuggingFaceFolder(hf_folder).chat_template
    if jinja.exists():
        # newline="" keeps every character: the template is part of what was trained.
        with jinja.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    template = json.loads(HuggingFaceFolder(hf_folder).tokenizer_config.read_bytes()).get("chat_template")
    if not isinstance(template, str):
        raise _unsupported("has no chat template")
    return template


def _add_byte_level(writer: gguf.GGUFWriter, tokenizer: Mapping[str, Any]) -> None:
    """Adds merges and pre-tokenization of a byte-level BPE such as GPT-2's.

    Raises Unsupported for one that llama.cpp would not read alike.
    """
    if tokenizer["normalizer"] not in (None, {"type": "NFC"}):
        raise _unsupported("normalises text in a way that llama.cpp does not know")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(tokenizer["pre_tokenizer"]))
    writer.add_token_merges([" ".join(merge) for merge in _merges(tokenizer)])


def _add_sentencepiece(
    writer: gguf.GGUFWriter, tokenizer: Mapping[str, Any], tokens: list[str], types: list[gguf.TokenType]
) -> None:
    """Adds a BPE of the kind of Gemma, Mistral 7B and Llama 2; marks its byte and unknown tokens in `types`.

    llama.cpp merges the pair whose token has the highest score, the tokenizers library the pair that is first in the
    list of merges. So a token's score is the negated rank of the first merge that gives it; a token that no merge gives
    comes last.
    """
    writer.add_tokenizer_model("llama")
    writer.add_add_space_prefix(_adds_space(tokenizer["normalizer"], tokenizer["pre_tokenizer"]))
    merges = _merges(tokenizer)
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    writer.add_token_scores([-float(ranks.get(token, len(merges))) for token in tokens])
    unknown = tokenizer["model"].get("unk_token")
    for id, token in enumerate(tokens):
        if token == unknown:
            types[id] = gguf.TokenType.UNKNOWN
        elif types[id] is gguf.TokenType.NORMAL and _BYTE.fullmatch(token):
            types[id] = gguf.TokenType.BYTE


def _adds_space(normalizer: object, pre_tokenizer: object) -> bool:
    """Whether each stretch of text between special tokens gets a space before it.

    Raises Unsupported for other rules.
    """
    match normalizer, pre_tokenizer:
        case None, {"type": "Metaspace", "replacement": char, "prepend_scheme": scheme, "split": False} if (
            char == _SPACE
        ):
            # "first" is only before the first character, and there a chat has its first special token.
            return bool(scheme == "always")
        case _ if normalizer == _PREFIXED and pre_tokenizer is None:
            return True
        case _ if normalizer == _SPACES and pre_tokenizer in (None, _NO_SPLIT):
            return False
    raise _unsupported("treats spaces in a way that llama.cpp has no name for here")


def _merges(tokenizer: Mapping[str, Any]) -> list[list[str]]:
    """The pairs of tokens that are merged, in order; older files write a pair as one string with a space in it."""
    merges = tokenizer["model"]["merges"]
    return [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges]


def _vocabulary(tokenizer: Mapping[str, Any], size: int) -> tuple[list[str], list[gguf.TokenType]]:
    """Text and kind of each of `size` token ids; ids without a token get a name of their own and are UNUSED."""
    # Embedding matrices are often padded beyond the tokens: the unused rows need names of their own.
    tokens = [f"[PAD{id}]" for id in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for token, id in tokenizer["model"]["vocab"].items():
        tokens[id], types[id] = token, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    return tokens, types


def _pre_tokenizer(pre_tokenizer: Mapping[str, Any] | None) -> str:
    """llama.cpp's name for how a tokenizer cuts text before the merges. Raises Unsupported if it has none here."""
    steps = tuple(_steps(pre_tokenizer)) if pre_tokenizer else ()
    if steps not in PRE_TOKENIZERS:
        raise _unsupported("cuts text by rules that llama.cpp has no name for here")
    return PRE_TOKENIZERS[steps]


def _steps(node: Mapping[str, Any]) -> Iterator[str]:
    """The steps of a pre-tokenizer as PRE_TOKENIZERS names them, "unknown" for any other kind."""
    match node:
        case {"type": "Sequence", "pretokenizers": children}:
            for child in children:
                yield from _steps(child)
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}:
            if use_regex:
                yield "gpt2"
        case {"type": "Digits", "individual_digits": True}:
            yield "digits"
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            yield pattern
        case _:
            yield "unknown"


def _add_special_ids(
    writer: gguf.GGUFWriter, hf_folder: Path, config: Mapping[str, Any], ids: Mapping[str, int]
) -> None:
    """Adds the ids of special tokens and of the end of a turn to the metadata; `ids` is the vocabulary.

    Raises Unsupported for a tokenizer without an end-of-sequence token.
    """

    def id_of(key: str) -> int | None:
        """The id of the token that the configuration names; None if it names none, or none of the vocabulary."""
        token = config.get(key)
        content = token["content"] if isinstance(token, dict) else token
        return ids.get(content) if content is not None else None

    # Only the chat template says where a BOS is, as in training: the tokenizer's own rules never add one here.
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    if (bos := id_of("bos_token")) is not None:
        writer.add_bos_token_id(bos)
    if (pad := id_of("pad_token")) is not None:
        writer.add_pad_token_id(pad)
    if (unknown := id_of("unk_token")) is not None:
        writer.add_unk_token_id(unknown)
    eos = id_of("eos_token")
    if eos is None:
        raise _unsupported("has no end-of-sequence token")
    writer.add_eos_token_id(eos)
    turn_end, *others = HuggingFaceFolder(hf_folder).generation_end_ids() or (eos,)
    # Without it llama.cpp guesses by the token's spelling; and a grammar lets an answer end only with this token.
    writer.add_eot_token_id(turn_end)
    if further := [id for id in others if id != eos]:
        writer.add_eom_token_id(further[0])


def _unsupported(what: str) -> Unsupported:
    """The error for a model whose tokenizer `what`; it names the kinds that can be served."""
    names = ", ".join(sorted(PRE_TOKENIZERS.values()))
    return Unsupported(
        "unsupported_tokenizer",
        f"This model's tokenizer {what}. Servable are byte-level BPE tokenizers of the kinds {names}, and BPE in the "
        "manner of SentencePiece (Gemma, Llama 2), with a template. Choose a base model of these.",
    )
