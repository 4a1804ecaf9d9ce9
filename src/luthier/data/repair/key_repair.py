"""Repairs keys of other trainers: system prompts beside messages become messages, loss flags become weights.

A step of `row_repair`; `data/rows/unknown_keys.py` reports the same keys as problems.
"""

from luthier.data.rows import unknown_keys

CHANGE_TEXTS = {
    "system_outside_messages": "system beside the messages made their first message",
    "foreign_loss_mask": "flags of what is learned turned into weight",
}
"""What was done, by its code."""
JsonObject = dict[str, object]


def repair_keys(row: JsonObject, changes: list[str]) -> JsonObject:
    """The row, or a pair's `input` in it, with such keys turned into messages and weights; appends codes to `changes`.

    The argument row is never changed: it is returned itself where nothing was to be done.
    """
    row = _repair_holder(row, changes)
    within = row.get("input")
    if isinstance(within, dict) and "messages" in within and "messages" not in row:
        repaired = _repair_holder(within, changes)
        row = row if repaired is within else {**row, "input": repaired}
    return row


def _repair_holder(holder: JsonObject, changes: list[str]) -> JsonObject:
    """A copy of an object with `messages`, both repairs made; the object itself if its messages are no objects."""
    messages = holder.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return holder
    repaired = [_with_weight(message, changes) for message in messages]
    if repaired != messages:
        holder = {**holder, "messages": repaired}
    return _with_system(holder, repaired, changes)


def _with_system(holder: JsonObject, messages: list[JsonObject], changes: list[str]) -> JsonObject:
    """The object with the system prompt beside its messages put first among them, and its key removed.

    Only one such key, and only where the messages begin with no other system prompt: the order would be a guess. Else
    the object itself. Appends to `changes`.
    """
    system_keys = [key for key in unknown_keys.SYSTEM_KEYS if not unknown_keys.is_nothing(holder.get(key))]
    text = _system_text(holder[system_keys[0]]) if len(system_keys) == 1 else None
    if text is None:
        return holder
    first = messages[0]
    if first.get("role") in ("system", "developer"):
        if first.get("content") != text:
            return holder
    else:
        messages = [{"role": "system", "content": text}, *messages]
    changes.append("system_outside_messages")
    fields = {key: part for key, part in holder.items() if key not in unknown_keys.SYSTEM_KEYS}
    return {key: messages if key == "messages" else part for key, part in fields.items()}


def _system_text(part: object) -> str | None:
    """A string, or Anthropic's text blocks joined by a blank line; None for anything else."""
    if isinstance(part, str):
        return part
    if not isinstance(part, list):
        return None
    texts = []
    for block in part:
        if not isinstance(block, dict) or not set(block) <= {"type", "text"} or block.get("type", "text") != "text":
            return None
        if not isinstance(block.get("text"), str):
            return None
        texts.append(block["text"])
    return "\n\n".join(texts)


def _with_weight(message: JsonObject, changes: list[str]) -> JsonObject:
    """A message without other trainers' loss flags: where they say that an answer is not learned, it gets weight 0.

    The message itself where it has none, or where flags disagree with one another, with its role or with its weight.
    Appends to `changes`.
    """
    flags = {key: message[key] for key in (*unknown_keys.LOSS_FLAGS, unknown_keys.MASKED) if key in message}
    flag_values = {None if part is None else unknown_keys.is_learned(key, part) for key, part in flags.items()}
    if not flags or (None in flag_values and any(part is not None for part in flags.values())):
        return message
    flag_values.discard(None)
    is_answer = message.get("role") == "assistant"
    weight = message.get("weight")
    if (
        len(flag_values) > 1
        or (flag_values == {True} and not is_answer)
        or (flag_values and weight is not None and flag_values != {weight == 1})
    ):
        return message
    fields = {key: part for key, part in message.items() if key not in flags}
    if flag_values == {False} and is_answer:
        fields["weight"] = 0
    changes.append("foreign_loss_mask")
    return fields
