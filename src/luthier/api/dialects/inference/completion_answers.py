"""Wire shape of legacy completions: text_completion, complete and in chunks, as plain JSON.

The same in every dialect; echoed prompts and their log-probabilities are part of it.
"""

import codecs
from collections.abc import Iterator, Sequence
from typing import Any

from luthier.api.dialects.inference.chat_answers import header_shape, usage
from luthier.core.inference.generation import FinishReason, TokenLogProb
from luthier.service.inference.answers import Answer, AnswerHeader, ChoiceDelta, PromptEcho

Shape = dict[str, Any]


class CompletionAnswers:
    """The shapes of one request's answer, complete or streamed; remembers how much text of each choice was shaped.

    `top` is how many alternatives each token's log-probability has, None for no log-probabilities at all.
    """

    def __init__(self, top: int | None) -> None:
        self._top = top
        self._lengths: dict[int, int] = {}

    def complete(self, header: AnswerHeader, answer: Answer) -> Shape:
        """A text_completion with every choice, its echoed prompt before its text, and the usage."""
        deltas = [
            ChoiceDelta(index, choice.text, None, choice.log_probs, choice.finish_reason, choice.echo)
            for index, choice in enumerate(answer.choices)
        ]
        choices = [self._choice(delta) for delta in deltas]
        return {**self.stream_header(header), "choices": choices, "usage": usage(answer.usage)}

    def chunks(self, header: Shape, deltas: Sequence[ChoiceDelta]) -> Iterator[Shape]:
        """One chunk that holds all these deltas, unlike a chat's."""
        yield {**header, "choices": [self._choice(delta) for delta in deltas]}

    def stream_header(self, header: AnswerHeader) -> Shape:
        """The fields that the answer, and every chunk of it, begins with."""
        return header_shape(header, "cmpl", "text_completion")

    def _choice(self, delta: ChoiceDelta) -> Shape:
        """What one delta adds to its choice; counts its characters for the text offsets of the next."""
        text = delta.echo.text + (delta.text or "")
        offset = self._lengths.get(delta.index, 0)
        self._lengths[delta.index] = offset + len(text)
        return {
            "index": delta.index,
            "text": text,
            "logprobs": None if self._top is None else _log_probs(delta, self._top, offset),
            "finish_reason": None if delta.finish_reason is None else str(delta.finish_reason),
        }


def _log_probs(delta: ChoiceDelta, top: int, offset: int) -> Shape | None:
    """Parallel lists of tokens, log-probabilities (nats) and text offsets (characters); None if the delta has none.

    The delta begins at `offset` of its choice's text. An answer that ends with its first token has no entry for that
    end token. After a prompt's own tokens one is added all the same: programs that compare continuations cut off the
    last entry as the answer's.
    """
    if delta.log_probs is None and not delta.echo.log_probs:
        return None
    shape: Shape = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    offset = _append_prompt(shape, delta.echo, top, offset)
    next_token = delta.echo.next_token
    if not delta.log_probs and delta.finish_reason is FinishReason.STOP and next_token is not None:
        likeliest = next_token.top[0]
        _append(shape, spelling(likeliest), likeliest.log_prob, next_token.top[:top], offset)
    for token in delta.log_probs or ():
        _append(shape, spelling(token), token.log_prob, token.top[:top], offset)
        offset += len(token.token)
    return shape


def _append_prompt(shape: Shape, echo: PromptEcho, top: int, offset: int) -> int:
    """Appends the prompt's tokens to the lists of `shape`; returns the offset after its text.

    The first token has null log-probabilities: nothing stands before it. The text lacks a token that begins every
    prompt, such as <s>: the offsets count it as empty.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts = [decoder.decode(bytes(token.bytes)) for token in echo.log_probs]
    n_unseen = len("".join(texts)) - len(echo.text)
    token_offset = offset
    for position, (token, text) in enumerate(zip(echo.log_probs, texts, strict=True)):
        _append(shape, spelling(token), token.log_prob, token.top[:top], token_offset)
        if position == 0:
            shape["token_logprobs"][0] = shape["top_logprobs"][0] = None
            token_offset -= max(0, min(n_unseen, len(text)))
        token_offset += len(text)
    return offset + len(echo.text)


def _append(shape: Shape, text: str, log_prob: float, top: Sequence[TokenLogProb], offset: int) -> None:
    """Appends one token to each list of `shape`; `top` are its alternatives, `offset` where it begins in the text."""
    shape["tokens"].append(text)
    shape["token_logprobs"].append(log_prob)
    shape["top_logprobs"].append({spelling(other): other.log_prob for other in top})
    shape["text_offset"].append(offset)


def spelling(token: TokenLogProb) -> str:
    """A token as legacy completions spell it: its text, or `bytes:\\xe6\\x9d` where it ends within a character.

    As OpenAI does: several such tokens would otherwise be one key of `top_logprobs`.
    """
    try:
        bytes(token.bytes).decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)
    return token.token
