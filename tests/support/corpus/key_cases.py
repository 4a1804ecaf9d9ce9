"""Keys that other trainers and services read, and this one does not."""

from typing import Any

from corpus.case import ANSWER, USER, Case, Found, error, lines, row, turns, warning
from luthier.core.states import Method

_SHOWN = [{"role": "user", "content": "<image>Which planet?"}, ANSWER]


def _answer(id: str, *expected: Found, **more: Any) -> Case:
    return turns(id, [USER, {**ANSWER, **more}], *expected)


def _pair(id: str, within: dict[str, Any], *expected: Found, **more: Any) -> Case:
    good: dict[str, Any] = {
        "input": {"messages": [USER]},
        "preferred_output": [ANSWER],
        "non_preferred_output": [{**ANSWER, "content": "Mars."}],
    }
    pair = {**good, **more, "input": {**good["input"], **within}}
    return Case(id, lines(good, pair, good), expected, method=Method.DPO)


CASES = (
    row("system_beside_messages", {"system": "Be brief.", "messages": [USER, ANSWER]}, error("system_outside_messages", "system")),
    turns("system_prompt_beside_messages", [USER, ANSWER], error("system_outside_messages", "system_prompt"),
          system_prompt="Be brief."),
    turns("system_of_blocks", [USER, ANSWER], error("other_format"),
          system=[{"type": "text", "text": "Be brief."}]),
    turns("images_beside_messages", _SHOWN, error("image_not_supported", "images"), images=["1.jpg"]),
    turns("videos_beside_messages", _SHOWN, error("image_not_supported", "videos"), videos=["1.mp4"]),
    turns("image_in_a_message", [{**USER, "image": "1.jpg"}, ANSWER], error("image_not_supported", "messages[0].image")),
    turns("audios_beside_messages", [USER, ANSWER], error("audio_not_supported", "audios"), audios=["1.wav"]),
    turns("audio_of_a_user", [{**USER, "audio": "1.wav"}, ANSWER], error("audio_not_supported", "messages[0].audio")),
    _answer("train_false", error("foreign_loss_mask", "messages[1].train"), train=False),
    _answer("loss_false", error("foreign_loss_mask", "messages[1].loss"), loss=False),
    _answer("loss_zero", error("foreign_loss_mask", "messages[1].loss"), loss=0.0),
    _answer("loss_half", error("foreign_loss_mask", "messages[1].loss"), loss=0.5),
    _answer("trainable_false", error("foreign_loss_mask", "messages[1].trainable"), trainable=False),
    _answer("masked_true", error("foreign_loss_mask", "messages[1].masked"), masked=True),
    _answer("mask_of_unsure_meaning", error("foreign_loss_mask", "messages[1].mask"), mask=1),
    _answer("train_false_and_weight_one", error("foreign_loss_mask", "messages[1].train"), train=False, weight=1),
    turns("user_to_be_learned", [{**USER, "train": True}, ANSWER], error("foreign_loss_mask", "messages[0].train")),
    turns("loss_mask_of_the_row", [USER, ANSWER], error("foreign_loss_mask", "loss_mask"), loss_mask=[0, 1]),
    _answer("reasoning_content", warning("reasoning_not_learned", "messages[1].reasoning_content"), reasoning_content="So."),
    _answer("thinking", warning("reasoning_not_learned", "messages[1].thinking"), thinking="So."),
    _answer("annotations", warning("unknown_key", "messages[1].annotations"), annotations=[{"type": "url_citation"}]),
    turns("template_arguments", [USER, ANSWER], error("unsupported_key", "chat_template_kwargs"),
          chat_template_kwargs={"enable_thinking": False}),
    turns("documents_beside_messages", [USER, ANSWER], error("unsupported_key", "documents"), documents=[{"text": "Jupiter"}]),
    turns("weight_of_the_row", [USER, ANSWER], error("unsupported_key", "weight"), weight=0.5),
    turns("label_false", [USER, ANSWER], error("labelled_row"), label=False),
    turns("rejected_message", [USER, ANSWER], error("preference_row"), rejected_message=ANSWER),
    _pair("pair_with_system_beside_messages", {"system": "Be brief."}, error("system_outside_messages", "input.system")),
    _pair("pair_with_images", {}, error("image_not_supported", "images"), images=["1.jpg"]),
)  # fmt: skip

CLEAN = (
    _answer("answer_as_openai_gives_it", annotations=[], refusal=None, audio=None, function_call=None, tool_calls=None),
    _answer("answer_with_empty_reasoning", reasoning_content=None, reasoning="", thinking=" ", parsed=None),
    _answer("answer_to_be_learned_in_others_words", train=True, loss=1, masked=False, training=None),
    turns("answer_not_to_be_learned_in_both_words", [USER, {**ANSWER, "train": False, "weight": 0}, USER, ANSWER]),
    turns("user_not_to_be_learned_in_others_words", [{**USER, "train": False}, ANSWER]),
    turns("row_with_empty_keys_of_others", [USER, ANSWER], system="", images=[], videos=None, audios=[], documents=[],
          chat_template_kwargs={}, weight=1, loss_mask=None),
)  # fmt: skip
