"""Places in a row, as `messages[2].content`: words of the wire by name, a user's own keys by position alone."""

WORDS = frozenset(
    """
    messages tools functions parallel_tool_calls role content name weight tool_calls tool_call_id function_call
    refusal audio type text image_url url detail id function arguments description parameters strict input
    preferred_output non_preferred_output preferred_completion non_preferred_completion prompt completion
    input_audio file properties required items enum additionalProperties anyOf oneOf allOf
    """.split()  # noqa: SIM905
)
"""Keys that a path may show. Any other key is the user's text, which no message and no log may hold."""


def inside(path: str, key: str, position: int) -> str:
    """The place of a key's value. `position` counts the object's keys from 0, as [n] counts elements: `tools[0]{2}`."""
    if key not in WORDS:
        return f"{path}{{{position}}}"
    return f"{path}.{key}" if path else key
