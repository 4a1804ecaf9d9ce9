"""Keys that other trainers and services read in rows and messages, and this one does not: reports what would be lost.

Who has them: system: Anthropic's API, Bedrock, LLaMA-Factory; images and the like: LLaMA-Factory, ms-swift, TRL, GLM;
train: Axolotl; loss: ms-swift; masked: torchtune; reasoning_content: DeepSeek, Qwen, vLLM; thinking: gpt-oss, Ollama;
chat_template_kwargs and documents: TRL; weight of a row: Fireworks. Keys that change what is
learned are errors; all others are named and ignored. Rows that are in another format as a whole: dataset_formats/.
"""

from collections.abc import Mapping

from luthier.data.problems import json_path
from luthier.data.problems.problem_collector import ProblemCollector
from luthier.data.rows import images

SYSTEM_KEYS = ("system", "system_prompt", "system_message", "instructions")
LOSS_FLAGS = ("train", "training", "trainable", "loss", "loss_mask", "calculate_loss", "learn")
"""True, or 1, where an answer is to be learned."""
MASKED = "masked"
"""True where an answer is not to be learned."""
_UNSURE_MASKS = ("mask", "train_detail", "loss_weight", "loss_scale")
_VISUAL = ("image", "images", "video", "videos")
_AUDIO = ("audio", "audios")
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thoughts")
_TEMPLATE_KEYS = ("chat_template_kwargs", "enable_thinking")
_CONTEXT_KEYS = ("documents", "attachments")
_ANSWER_KEYS = ("annotations", "parsed")
"""What OpenAI's own answers have, and say nothing while it is empty."""
_ROW_WEIGHTS = ("weight", "sample_weight", "loss_weight")

FOREIGN_KEYS = frozenset(
    (*SYSTEM_KEYS, *LOSS_FLAGS, MASKED, *_UNSURE_MASKS, *_VISUAL, *_AUDIO, *_REASONING, *_TEMPLATE_KEYS, *_CONTEXT_KEYS)
) | {*_ANSWER_KEYS, *_ROW_WEIGHTS}
"""All keys that have a problem of their own, some depending on their values."""


def check_row(value: Mapping[str, object], known: tuple[str, ...], path: str, collector: ProblemCollector) -> None:
    """Reports what the unknown keys of a row, or of a pair's input, mean; `path` leads there.

    `known` are the keys that the caller reads itself.
    """
    reported = set()
    for position, (key, part) in enumerate(value.items()):
        if key in known:
            continue
        if _check_row_key(key, part, json_path.member_path(path, key, position), collector):
            reported.add(key)
    collector.check_keys(value, known, path, reported)


def check_message(item: Mapping[str, object], known: tuple[str, ...], path: str, collector: ProblemCollector) -> None:
    """Reports what the unknown keys of a message mean; `known` are the keys that the caller reads itself."""
    reported = set()
    for position, (key, part) in enumerate(item.items()):
        if key in known:
            continue
        if _check_message_key(key, part, item, json_path.member_path(path, key, position), collector):
            reported.add(key)
    collector.check_keys(item, known, path, reported)


def _check_row_key(key: str, part: object, path: str, collector: ProblemCollector) -> bool:
    """Whether the key is known from elsewhere; then it was reported here, unless its value makes no difference."""
    if key in SYSTEM_KEYS:
        if not is_nothing(part):
            message = f"{key} is beside the messages, where nothing reads it, so it would be lost."
            fix = 'Move it into messages, as the first: {"role": "system", "content": "..."}. --fix does that.'
            collector.error(path, "system_outside_messages", message, fix)
    elif key in _VISUAL or key in _AUDIO:
        _check_media(key, part, path, collector)
    elif key in _TEMPLATE_KEYS or key in _CONTEXT_KEYS:
        _check_context_key(key, part, path, collector)
    elif key in _ROW_WEIGHTS:
        if not (part is None or (_is_number(part) and part == 1)):
            message = f"{key} weighs the row, and here each row counts once an epoch."
            fix = "Remove it: leave out a row of weight 0, and write a heavier one several times."
            collector.error(path, "unsupported_key", message, fix)
    elif key in LOSS_FLAGS or key in (MASKED, *_UNSURE_MASKS):
        if not is_nothing(part):
            message = f"{key} says for the row what is learned, and nothing reads it here."
            fix = 'Write "weight": 0 into the assistant messages that are not to be learned.'
            collector.error(path, "foreign_loss_mask", message, fix)
    else:
        return False
    return True


def _check_message_key(
    key: str,
    part: object,
    item: Mapping[str, object],
    path: str,
    collector: ProblemCollector,
) -> bool:
    """Whether the key of a message is known from elsewhere; then it was reported here if its value matters.

    False also for keys of answers, such as annotations, that hold something: the caller reports them as unknown.
    """
    if key in _VISUAL or key in _AUDIO:
        _check_media(key, part, path, collector)
    elif key in LOSS_FLAGS or key == MASKED:
        _check_flag(key, part, item, path, collector)
    elif key in _UNSURE_MASKS:
        if part is not None:
            message = f"{key} says in another trainer's form what is learned of the message, and nothing reads it here."
            fix = 'Write "weight": 0 into an assistant message that is not to be learned, and 1 into one that is.'
            collector.error(path, "foreign_loss_mask", message, fix)
    elif key in _REASONING and item.get("role") == "assistant":
        if not is_nothing(part):
            message = f"{key} is ignored: the reasoning is not learned, only the answer is."
            fix = "To have it learned write it into content, in front of the answer: <think>...</think>."
            collector.warning(path, "reasoning_not_learned", message, fix)
    elif key in _CONTEXT_KEYS:
        _check_context_key(key, part, path, collector)
    elif key in _ANSWER_KEYS or key in _REASONING:
        return is_nothing(part)
    else:
        return False
    return True


def _check_media(key: str, part: object, path: str, collector: ProblemCollector) -> None:
    """Reports images, videos or sound under a key, unless it is empty."""
    if is_nothing(part):
        return
    if key in _VISUAL:
        images.report_key(key, path, collector)
    else:
        report_audio(path, collector)


def report_audio(path: str, collector: ProblemCollector) -> None:
    """Reports as an error at `path` that a row has audio."""
    message = "speech and sound cannot be learned here."
    collector.error(path, "audio_not_supported", message, "Remove it, and write out as content what is said.")


def _check_context_key(key: str, part: object, path: str, collector: ProblemCollector) -> None:
    """Reports a key that would change what the model reads, such as documents, unless it is empty."""
    if is_nothing(part):
        return
    message = f"{key} would change what the model reads; here it reads the messages and tools alone, as when served."
    collector.error(path, "unsupported_key", message, "Remove it, and write what it would add into the messages.")


def _check_flag(key: str, part: object, item: Mapping[str, object], path: str, collector: ProblemCollector) -> None:
    """Reports a flag of another trainer that disagrees with the message's role and weight on what is learned."""
    learned = is_learned(key, part)
    if part is None or (learned is not None and learned is (item.get("role") == "assistant")):
        return
    if learned is None:
        message, fix = f"{key} is neither true nor false.", 'Write "weight": 0 to skip the answer, 1 to learn it.'
    elif learned:
        message = f"{key} asks to learn the message, and only assistant messages are learned."
        fix = "Remove it, or give what is to be learned the role assistant."
    elif item.get("weight") == 0 and not isinstance(item["weight"], bool):
        return
    else:
        message = f"{key} marks an answer that is not to be learned, and here it would be."
        fix = 'Write "weight": 0 in its place. --fix does that.'
    if learned is False and item.get("role") != "assistant":
        return
    collector.error(path, "foreign_loss_mask", message, fix)


def is_learned(key: str, part: object) -> bool | None:
    """Whether a flag of a message (a boolean, 0 or 1) asks to learn it; None where it is no flag."""
    if not (isinstance(part, bool) or (_is_number(part) and part in (0, 1))):
        return None
    return bool(part) is (key != MASKED)


def is_nothing(part: object) -> bool:
    """Whether a value holds nothing that could be lost: null, blank text, [] or {}; not so False and 0."""
    return part is None or part == [] or part == {} or (isinstance(part, str) and not part.strip())


def _is_number(part: object) -> bool:
    return isinstance(part, int | float) and not isinstance(part, bool)
