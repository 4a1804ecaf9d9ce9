"""Paths to places in a row, as `messages[2].content`: the API's keys by name, a user's own keys only by position."""

SHOWN_KEYS = frozenset(
    """
    messages tools functions parallel_tool_calls role content name weight tool_calls tool_call_id function_call
    refusal audio type text image_url url detail id function arguments description parameters strict input
    preferred_output non_preferred_output preferred_completion non_preferred_completion prompt completion
    input_audio file properties required items enum additionalProperties anyOf oneOf allOf
    system system_prompt system_message instructions image images video videos audios train training trainable loss
    loss_mask calculate_loss learn masked mask train_detail loss_weight loss_scale sample_weight annotations parsed
    reasoning_content reasoning thinking reasoning_details thoughts chat_template_kwargs enable_thinking documents
    attachments
    """.split()  # noqa: SIM905
)
"""Keys that a path may show: the wire's, and those of other trainers (unknown_keys.py).

Any other key is the user's text, which no message and no log may hold."""


def member_path(path: str, key: str, position: int) -> str:
    """The path of a key's value below `path`; "" is the row itself.

    `position` counts the object's keys from 0, and stands in the path for a key that is not in SHOWN_KEYS:
    `tools[0]{2}`.
    """
    if key not in SHOWN_KEYS:
        return f"{path}{{{position}}}"
    return f"{path}.{key}" if path else key
