"""Small random models on disk, as the trainer would leave them: base folders, adapters, probes computed by torch."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from luthier.engines.gguf import gguf_tokenizer

HARD_TEXTS = (
    "the cat's 12 hats, 1234567 and 3.14159!",
    "  two  spaces\n\n\n and\ttabs \r\n then   ",
    "x  12\n\n 3. WE'LL see: I'm, you'd, it'S",
    "Ünïcode 東京 здравствуй مرحبا 🙂👩‍👩‍👧 ½ ² ٣",
    "def f(x):\n    return {'a': x**2}  # <|not_special|> <b>",
    "<|im_start|>user\nthe<|im_end|>",
)

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("1", "2"), ("i", "n"), ("Ġ", "a"), ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("'", "s"))
PROMPTS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "Name the three primary colours in a row."}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What's 12 plus 30?\n\n  Ünïcode 東京"}],
    [
        {"role": "user", "content": "the sea the sea the sea, in 1234 lines " * 6},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And then?"},
    ],
)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 100_000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1_000.0},
}
KINDS = ("llama", "llama2", "llama3", "mistral", "qwen2", "qwen3", "gemma3", "phi3")
_PRE = {
    "llama": "smollm",
    "llama2": "sentencepiece",
    "llama3": "llama-bpe",
    "mistral": "tekken",
    "qwen2": "qwen2",
    "qwen3": "gpt-2",
    "gemma3": "sentencepiece",
    "phi3": "llama-bpe",
}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FUSED_TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def make_base(
    folder: Path,
    kind: str,
    seed: int = 0,
    template: str | None = TEMPLATE,
    special: Sequence[str] = SPECIAL,
    **shape: Any,
) -> Path:
    """A base folder's hf/ with random bf16 weights, large enough that positions and biases matter.

    `special` are the special tokens: the first begins a text, the third ends a turn. `shape` is of the configuration.
    """
    tokenizer = make_tokenizer(folder, kind, template, special)
    torch.manual_seed(seed)
    causal = transformers.AutoModelForCausalLM.from_config(_config(kind, len(tokenizer), shape))
    with torch.no_grad():
        for name, parameter in causal.named_parameters():
            spread = 0.5 if "embed" in name or "bias" in name or "lm_head" in name else 0.22
            middle = 1.0 if "norm" in name else 0.0
            if kind == "gemma3":  # its embeddings are scaled up, and its norms add the one themselves
                spread, middle = 0.2, 0.0
            parameter.copy_(torch.randn_like(parameter) * spread + middle)
    causal.to(torch.bfloat16).save_pretrained(folder / "hf")
    return folder


def make_tokenizer(
    folder: Path, kind: str, template: str | None, special: Sequence[str] = SPECIAL
) -> PreTrainedTokenizerFast:
    """The tokenizer's files of a base folder alone."""
    by_characters = _PRE[kind] == "sentencepiece"
    tokenizer = _sentencepiece(kind == "llama2", special) if by_characters else _tokenizer(_PRE[kind], special)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder / "hf")
    return tokenizer


def make_adapter(folder: Path, base: Path, seed: int = 1, spread: float = 0.1, **settings: Any) -> Path:
    """A PEFT checkpoint whose B is not zero."""
    torch.manual_seed(seed)
    with _quiet_peft():
        causal = load(base)
        fused = causal.config.model_type == "phi3"
        targets = list(FUSED_TARGETS if fused else TARGETS)
        tuned = peft.get_peft_model(causal, lora_config(**{"target_modules": targets, **settings}))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * spread)
    tuned.save_pretrained(folder)
    return folder


def lora_config(**settings: Any) -> peft.LoraConfig:
    values = {"r": 8, "lora_alpha": 16, "target_modules": list(TARGETS), "task_type": "CAUSAL_LM"}
    return peft.LoraConfig(**{**values, **settings})


def load(base: Path) -> Any:
    """The canonical weights, computed with in float32."""
    return transformers.AutoModelForCausalLM.from_pretrained(base / "hf", dtype=torch.float32).eval()


def logprobs(base: Path, adapter: Path | None, tokens: Sequence[int]) -> torch.Tensor:
    """Log-probabilities of all tokens after each of these, in float32."""
    causal = load(base)
    with _quiet_peft(), _one_thread(), torch.no_grad():
        model = causal if adapter is None else peft.PeftModel.from_pretrained(causal, adapter)
        found: torch.Tensor = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return found


def write_probes(
    target: Path, base: Path, adapter: Path | None = None, prompts: Sequence[list[dict[str, str]]] = PROMPTS
) -> Path:
    """Writes `target`/probes.json: what the base, or the adapter on it, says in float32."""
    causal = load(base)
    if adapter is not None:
        with _quiet_peft():
            causal = peft.PeftModel.from_pretrained(causal, adapter).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base / "hf")
    probes = []
    for messages in prompts:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        positions = _greedy(causal, list(ids), tokenizer.eos_token_id)
        probes.append({"messages": messages, "prompt_tokens": len(ids), "positions": positions})
    content = {"version": 1, "base_model": "small", "dtype": "float32", "probes": probes}
    target.mkdir(exist_ok=True)
    (target / "probes.json").write_text(json.dumps(content))
    return target


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """peft 0.21 reads an attribute that transformers 5.23 has renamed, and transformers says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads of torch that wait for one another spin: beside any other process they make this fifty times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@_one_thread()
@torch.inference_mode()
def _greedy(causal: Any, ids: list[int], end: int) -> list[dict[str, Any]]:
    positions: list[dict[str, Any]] = []
    while len(positions) < 8 and (not positions or positions[-1]["token_id"] != end):
        values, tokens = causal(torch.tensor([ids])).logits[0, -1].log_softmax(-1).topk(10)
        positions.append(
            {"token_id": int(tokens[0]), "top": [[int(t), float(v)] for t, v in zip(tokens, values, strict=True)]}
        )
        ids = [*ids, int(tokens[0])]
    return positions


def _config(kind: str, vocabulary: int, own: Mapping[str, Any]) -> Any:
    shape: dict[str, Any] = {
        "vocab_size": vocabulary + 5,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": 0,
        "eos_token_id": 2,
        **own,
    }
    match kind:
        case "llama" | "llama2":
            return transformers.LlamaConfig(**shape, tie_word_embeddings=True)
        case "llama3":
            return transformers.LlamaConfig(**shape, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=False)
        case "mistral":
            return transformers.MistralConfig(**shape, head_dim=32, sliding_window=None, tie_word_embeddings=False)
        case "qwen2":
            return transformers.Qwen2Config(**shape, tie_word_embeddings=True)
        case "gemma3":
            shape |= {"num_hidden_layers": 3, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
            kinds = ["sliding_attention", "full_attention", "sliding_attention"]
            return transformers.Gemma3TextConfig(**shape, layer_types=kinds, rope_parameters=GEMMA_ROPE)
        case "phi3":
            rope = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.75}
            return transformers.Phi3Config(**shape, rope_parameters=rope, pad_token_id=2)
        case _:
            return transformers.Qwen3Config(**shape, head_dim=32, tie_word_embeddings=False)


def _tokenizer(pre: str, special: Sequence[str]) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*special, *letters, *("".join(merge) for merge in MERGES)]
    ignore_merges = pre in ("llama-bpe", "tekken")
    vocabulary = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, list(MERGES), ignore_merges=ignore_merges))
    steps = next(steps for steps, name in gguf_tokenizer.PRE_TOKENIZERS.items() if name == pre)
    cuts = [_cut(step) for step in steps]
    if "gpt2" not in steps:
        cuts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[2], pad_token=special[2]
    )


def _sentencepiece(space_before_text: bool, special: Sequence[str]) -> PreTrainedTokenizerFast:
    """A BPE over characters with bytes for those that it does not know: Gemma's kind, or with a space Llama 2's."""
    merges = [("\u2581", "t"), ("h", "e"), ("\u2581t", "he"), ("1", "2"), ("i", "n"), ("\u2581", "a"), ("\n", "\n")]
    merges += [("\u2581", "\u2581"), ("e", "\u2581"), ("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]
    pieces = [*map(chr, range(33, 127)), "\n", "\u2581", "\u00fc", "\u6771"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    made = ("".join(merge) for merge in merges)
    tokens = list(dict.fromkeys([*special, "<unk>", *bytes_, *pieces, *made]))
    vocabulary = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", "\u2581")
    if space_before_text:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces])
    else:
        tokenizer.normalizer = spaces
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token=special[2],
        pad_token=special[2],
        unk_token="<unk>",
    )


def _cut(step: str) -> pre_tokenizers.PreTokenizer:
    if step == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if step == "digits":
        return pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Split(Regex(step), behavior="isolated", invert=False)
