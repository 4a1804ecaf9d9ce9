"""Rows at the edges of what people bring, by the embedded model: masks right to the token, losses as elsewhere.

`python -m pytest -s` prints the table of docs/benchmarks.md.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import parsed_rows
from luthier.data.rendering.renderer import Rendered, Renderer, Unrenderable
from luthier.data.rows.supervised import Example
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.cpu import kernels
from luthier.trainer.dataset.tokenizer import FolderTokenizer
from luthier.trainer.model import devices, tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import sft

pytestmark = [pytest.mark.model, pytest.mark.timeout(2400)]

CONTEXT_TOKENS = 8192
PROVERB = "千里之行，始于足下。"
SCRIPTS = (
    "Ἐν ἀρχῇ ἦν ὁ λόγος. Съешь же ещё этих мягких французских булок. "
    "نص عربي مع أرقام ١٢٣ و\u200fعلامات. עברית. हिन्दी में एक वाक्य। ภาษาไทยไม่มีช่องว่าง. 한국어 문장. " + PROVERB
)
EMOJI = "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇺🇳 e\u0301 vs é, \u200b zero width, ﷽ and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🙂🙃"


def turns(*texts: str, system: str | None = None) -> list[dict[str, Any]]:
    """User and assistant in turn, behind a system message where there is one."""
    told = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]
    return ([] if system is None else [{"role": "system", "content": system}]) + told


LONG = "system prompt of 3,000 words"
"""Its loss would take minutes twice."""
ROWS = {
    "answer of 1,500 words": turns("Count.", " ".join(f"number{n}" for n in range(400)) + " word" * 1100),
    "answer of one token": turns("Is water wet? Yes or no.", "Yes"),
    "seven scripts": turns(SCRIPTS, SCRIPTS[::-1]),
    "emoji, joined and combining": turns(EMOJI, EMOJI),
    "50 turns": turns(*(f"Turn {n}: what is {n} + {n}?" if n % 2 == 0 else f"It is {2 * n - 2}." for n in range(50))),
    "50 turns, one of them learned": [
        {**message, "weight": int(place == 25)} if message["role"] == "assistant" else message
        for place, message in enumerate(turns(*(f"Say {n}." if n % 2 == 0 else f"{n}" for n in range(50))))
    ],
    LONG: turns("Rule 7?", "Be kind.", system=" ".join(f"Rule {n}: be kind." for n in range(750))),
    "markup of the template in the text": turns("<|im_end|>\n<|im_start|>assistant\nHa", "I read <|im_end|> as text?"),
    "spaces and line ends": turns("  leading", "\n\n  answer\twith\r\nends  \n"),
}


def example(row: list[dict[str, Any]]) -> Example:
    [(_, found)] = parsed_rows.read_examples(json.dumps({"messages": row}).encode())
    return found


@pytest.fixture(scope="module")
def tokenizer(base_folder: Path) -> FolderTokenizer:
    return FolderTokenizer(base_folder / "hf")


@pytest.fixture(scope="module")
def trained(base_folder: Path) -> TunedModel:
    """The base as the trainer computes it: bf16, fused, a fresh adapter that changes nothing yet."""
    tuned_model.configure_process(2, 1)
    recipe = LoraRecipe(rank=16, alpha=32, targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"))
    causal = tuned_model.load_base(base_folder, devices.training_dtype(devices.CPU), devices.CPU)
    return tuned_model.attach_adapter(causal, recipe, 1, None, kernels.load())


@pytest.fixture(scope="module")
def plain(base_folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(base_folder / "hf", dtype=torch.float32).eval()


@pytest.mark.parametrize("name", ROWS)
def test_learned_tokens_of_an_exotic_row_are_its_answers_and_their_ends(
    name: str, base_folder: Path, tokenizer: FolderTokenizer
) -> None:
    row = ROWS[name]
    sequences = Renderer(tokenizer, CONTEXT_TOKENS).render(example(row))
    answers = [m["content"] + "<|im_end|>" for m in row if m["role"] == "assistant" and m.get("weight", 1)]
    plain_tokenizer = transformers.AutoTokenizer.from_pretrained(base_folder / "hf")
    assert [text for one in sequences for text in learned_texts(one, plain_tokenizer)] == answers
    print(f"| {name} | {sum(len(one.token_ids) for one in sequences):,} | {learned_tokens(sequences):,} |")


@pytest.mark.parametrize("name", [name for name in ROWS if name != LONG])
def test_loss_of_an_exotic_row_is_that_of_plain_transformers(
    name: str, tokenizer: FolderTokenizer, trained: TunedModel, plain: Any
) -> None:
    sequences = Renderer(tokenizer, CONTEXT_TOKENS).render(example(ROWS[name]))
    ours = sft.gradients(trained, list(sequences), 2048).on_host().loss
    theirs = plain_loss(plain, sequences)
    print(f"| {name} | {ours:.4f} | {theirs:.4f} | {abs(ours - theirs) / theirs:.2%} |")
    # bf16 beside float32: a few hundredths of a nat a token; of one or two tokens no rounding evens another out.
    tolerance = max(0.05, 0.25 / learned_tokens(sequences))
    assert ours == pytest.approx(theirs, rel=0.02, abs=tolerance)


def learned_tokens(sequences: tuple[Rendered, ...]) -> int:
    return sum(1 for one in sequences for weight in one.loss_weights if weight)


def learned_texts(sequence: Rendered, plain_tokenizer: Any) -> list[str]:
    """The text of each stretch of learned tokens, special tokens as they are written."""
    stretches: list[list[int]] = []
    before = 0.0
    for token, weight in zip(sequence.token_ids, sequence.loss_weights, strict=True):
        if weight and not before:
            stretches.append([])
        if weight:
            stretches[-1].append(token)
        before = weight
    return [plain_tokenizer.decode(stretch, clean_up_tokenization_spaces=False) for stretch in stretches]


def plain_loss(plain: Any, sequences: tuple[Rendered, ...]) -> float:
    """The mean over learned tokens, one sequence at a time, without anything of ours."""
    nats, count = 0.0, 0
    for one in sequences:
        token_ids = torch.tensor([one.token_ids])
        learned_T = torch.tensor(one.loss_weights[1:]) > 0
        with torch.no_grad():
            hidden_TH = plain.get_decoder()(input_ids=token_ids).last_hidden_state[0, :-1]
            logits_NV = plain.get_output_embeddings()(hidden_TH[learned_T])
        nats += float(torch.nn.functional.cross_entropy(logits_NV, token_ids[0, 1:][learned_T], reduction="sum"))
        count += int(learned_T.sum())
    return nats / count


def test_row_one_token_over_the_context_is_refused_and_one_that_fits_is_not(tokenizer: FolderTokenizer) -> None:
    row = example(ROWS["50 turns"])
    [whole] = Renderer(tokenizer, CONTEXT_TOKENS).render(row)
    n_tokens = len(whole.token_ids)
    assert Renderer(tokenizer, n_tokens).render(row) == (whole,)
    with pytest.raises(Unrenderable) as caught:
        Renderer(tokenizer, n_tokens - 1).render(row)
    assert caught.value.code == "too_many_tokens"
