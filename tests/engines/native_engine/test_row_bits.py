"""A row's logits have the same bits whatever else the step computes, however its prompt was cut, on any threads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small_models
import tiny_decoders
from luthier.engines.native.decoder import adapters
from luthier.engines.native.decoder.library import NO_ADAPTER, Decoder
from luthier.model_folder import CheckpointFolder
from tiny_decoders import Array, Piece

TOKENS = tiny_decoders.prompt(150)
PAGES = (3, 11, 6)
CUTS: tuple[tuple[int, ...], ...] = ((), (1,), (64,), (5, 11, 18, 37, 64, 65, 149), (31, 95, 127), tuple(range(1, 150)))


def make_decoder(folder: Path, n_threads: int) -> tuple[Decoder, int]:
    """A decoder with a window shorter than the text, three heads to a head of keys, and an adapter."""
    base = folder / "hf"
    if not base.exists():
        tiny_decoders.save(base, "mistral", torch.bfloat16, sliding_window=90, num_attention_heads=6, hidden_size=96)
        small_models.make_adapter(folder / "adapter", folder, r=8)
    decoder = tiny_decoders.load(base, n_pages=40, n_threads=n_threads)
    return decoder, adapters.load_adapter(decoder, CheckpointFolder(folder / "adapter"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module", params=[1, 3], ids=["one thread", "three threads"])
def model(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[Decoder, int]]:
    decoder, adapter = make_decoder(folder, request.param)
    yield decoder, adapter
    decoder.close()


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[bool, Array]:
    """The logits of the text in one step, alone and on one thread, by whether the adapter is applied."""
    decoder, adapter = make_decoder(folder, 1)
    logits = {tuned: tiny_decoders.read(decoder, TOKENS, adapter if tuned else NO_ADAPTER) for tuned in (False, True)}
    decoder.close()
    assert not np.array_equal(logits[False], logits[True])
    return logits


@pytest.mark.parametrize("tuned", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("cuts", CUTS, ids=lambda cuts: f"{len(cuts) + 1} pieces")
def test_prompt_in_pieces_has_the_bits_of_the_prompt_in_one_step(
    model: tuple[Decoder, int], alone: dict[bool, Array], tuned: bool, cuts: tuple[int, ...]
) -> None:
    decoder, adapter = model
    logits = tiny_decoders.read(decoder, TOKENS, adapter if tuned else NO_ADAPTER, cuts, PAGES)
    assert same_bits(logits, alone[tuned])


@pytest.mark.parametrize("seed", range(6))
def test_rows_beside_those_of_others_have_the_bits_that_they_have_alone(
    model: tuple[Decoder, int], alone: dict[bool, Array], seed: int
) -> None:
    """Seven sequences, each read in pieces of its own, in steps that hold whichever of them."""
    decoder, adapter = model
    random = np.random.default_rng(seed)
    texts = [TOKENS, TOKENS, *(tiny_decoders.prompt(150, number) for number in range(1, 6))]
    adapters = [NO_ADAPTER, adapter, *random.choice([NO_ADAPTER, adapter], 5).tolist()]
    pages = random.permutation(40)[:21].reshape(7, 3)
    done = [0] * len(texts)
    logits: list[list[Any]] = [[] for _ in texts]
    while min(done) < len(TOKENS):
        chosen = [number for number in random.permutation(len(texts)) if done[number] < len(TOKENS)]
        pieces = []
        for number in chosen[: random.integers(1, 8)]:
            n = min(int(random.integers(1, 50)), len(TOKENS) - done[number])
            tokens = texts[number][done[number] : done[number] + n]
            pieces.append((number, Piece(tokens, pages[number], done[number], adapters[number], n)))
            done[number] += n
        parts = tiny_decoders.step(decoder, *(piece for _, piece in pieces))
        for (number, _), part in zip(pieces, parts, strict=True):
            logits[number].append(part)
    assert same_bits(np.concatenate(logits[0]), alone[False])
    assert same_bits(np.concatenate(logits[1]), alone[True])


def test_logits_of_the_last_tokens_have_the_bits_that_they_have_among_all(
    model: tuple[Decoder, int], alone: dict[bool, Array]
) -> None:
    decoder, adapter = model
    parts = tiny_decoders.step(
        decoder,
        Piece(TOKENS, (0, 1, 2), adapter=adapter, n_logits=1),
        Piece(tiny_decoders.prompt(30, 1), (9,)),
        Piece(TOKENS, (4, 5, 6), n_logits=7),
    )
    assert same_bits(parts[0], alone[True][-1:])
    assert len(parts[1]) == 0
    assert same_bits(parts[2], alone[False][-7:])


def same_bits(a: Array, b: Array) -> bool:
    return np.array_equal(a.view(np.int32), b.view(np.int32))
