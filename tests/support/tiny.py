"""A tiny random Llama base model, built in about a second: for tests that need a real model but not a good one."""

from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

NAME = "tiny"
VOCABULARY = 400
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_TEXT = (
    "Clippy is a factual chatbot that is also sarcastic. Who wrote the letter, and what is the biggest ocean?",
    "The Pacific Ocean, as if it were a small pond. You are a helpful assistant; the user asks and you answer.",
    "How many apples are in 12 boxes of 30? There are 360 apples in all, and that is the end of the story.",
    "system user assistant content role message question answer one two three four five six seven",
)


def base_folder(folder: Path, seed: int = 0, template: str = TEMPLATE, head_dim: int = 16) -> Path:
    """Makes `folder`/hf: a Llama of 2 layers, width 64, 4 heads over 2 key heads, 400 tokens, bf16, random by `seed`.

    Byte-level BPE with digits apart (SmolLM2's pre-tokenizer) and ChatML. Everything works as with a large model:
    training, probes, GGUF conversion. No probes.json: `luthier.trainer.model.prepare` writes one. Returns `folder`.
    """
    transformers.utils.logging.disable_progress_bar()
    hf = folder / "hf"
    hf.mkdir(parents=True)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        # Wider than usual, so that next-token distributions differ from place to place.
        initializer_range=0.1,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    torch.random.set_rng_state(state)
    model.save_pretrained(hf)
    _tokenizer(template).save_pretrained(hf)
    return folder


def tokenizer_folder(folder: Path, template: str = TEMPLATE) -> Path:
    """The tokenizer and template alone, in Hugging Face layout. Returns `folder`."""
    _tokenizer(template).save_pretrained(folder)
    return folder


def _tokenizer(template: str) -> transformers.PreTrainedTokenizerFast:
    backend = tokenizers.Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_TEXT, trainer)
    assert backend.get_vocab_size() == VOCABULARY
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        chat_template=template,
    )
