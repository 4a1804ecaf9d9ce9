"""Log-probabilities of a prompt's own tokens: of each, after all tokens before it."""

from typing import Any

import numpy as np

from luthier.engines.native.decoder.library import Decoder, Draw, Segment
from luthier.engines.native.steps.sampling import NOT_FINITE
from luthier.engines.native.steps.sequences import FAULTS, Sequence, Vocabulary


def score_rows(decoder: Decoder, sequence: Sequence, segment: Segment, logits: Any, vocabulary: Vocabulary) -> None:
    """Emits an entry for each row of logits: the token that follows it (none behind the last) and the likeliest ones.

    The rows, float32, are those of the segment's last tokens. Where one is not finite, emits an error instead and
    cancels the sequence.
    """
    n_top = sequence.n_scored
    tops = np.empty((len(logits), n_top), np.int32), np.empty((len(logits), n_top), np.float32)
    draws = decoder.draw(
        [
            Draw(
                logits=row.ctypes.data,
                n_top=n_top,
                top_tokens=tops[0][index].ctypes.data,
                top_log_probs=tops[1][index].ctypes.data,
            )
            for index, row in enumerate(logits)
        ]
    )
    if any(draw.token < 0 for draw in draws):
        sequence.emit({"error": "engine_failed", "message": FAULTS[NOT_FINITE]})
        sequence.is_cancelled = True
        return
    entries: list[Any] = []
    first = segment.first_position + len(segment.tokens) - len(logits)
    for index, draw in enumerate(draws):
        place = first + index + 1
        likeliest = zip(tops[0][index].tolist(), tops[1][index].tolist(), strict=True)
        top = [(id, vocabulary.pieces[id], log_prob) for id, log_prob in likeliest]
        if place < sequence.n_prompt:
            id = int(sequence.tokens[place])
            # The likeliest token's log-probability, and how much less likely this one is.
            log_prob = draw.log_prob + float(logits[index][id]) - float(logits[index][draw.token])
            entries.append((id, vocabulary.pieces[id], log_prob, top))
        else:
            entries.append((None, b"", 0.0, top))
    sequence.emit({"scores": entries, "is_last": sequence.n_computed >= sequence.n_prompt})
