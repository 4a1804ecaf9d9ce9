"""Every known dataset format: recognises which one a row is in, converts it, and reports it as a Problem.

Used by the parsers of rows (`data/rows/`), for rows that are not valid as they are, and by `data/repair/`.
"""

from dataclasses import dataclass

from luthier.core.states import Method
from luthier.data.dataset_formats import (
    delimited_text,
    instruction_pairs,
    library_messages,
    openai_records,
    preference_pairs,
    turn_lists,
    unpaired_preferences,
    vendor_apis,
)
from luthier.data.dataset_formats.chat_builder import JsonObject, NotConvertible
from luthier.data.dataset_formats.dataset_format import Conversion, Format, RowKind
from luthier.data.problems.problem_collector import ProblemCollector

FORMATS: tuple[Format, ...] = (
    *unpaired_preferences.FORMATS,
    *preference_pairs.FORMATS,
    *vendor_apis.FORMATS,
    *openai_records.FORMATS,
    *library_messages.FORMATS,
    *turn_lists.FORMATS,
    *delimited_text.FORMATS[:1],
    *instruction_pairs.FORMATS,
    *delimited_text.FORMATS[1:],
)
"""In the order in which they are tried: those that another would take for something simpler come first."""

MEANING_KEYS = frozenset(
    ("label", "kto_tag", "rejected_response", "rejected_message", "rejected_messages", "choices", "system")
)
"""Keys that change the meaning of a row whose messages are valid."""
FORMATS_WITH_MESSAGES = tuple(
    form for form in FORMATS if form.name in ("kto", "answer_and_rejected", "converse", "anthropic", "logged_chat")
)
"""The formats that have those keys."""
_PAIR = '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}'
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")


@dataclass(frozen=True, slots=True)
class RecognisedRow:
    """The format of a row, and the row converted; or None and `refusal`, a clause that says why it cannot be."""

    format: Format
    conversion: Conversion | None
    refusal: str = ""


def recognise(row: JsonObject, formats: tuple[Format, ...] = FORMATS) -> RecognisedRow | None:
    """The first of the formats that a row which is not valid as it is belongs to; None if it is in none of these.

    Never raises: a refused conversion is part of the result. Rows with keys of images, sound or video are refused.
    """
    format = next((format for format in formats if format.recognise(row)), None)
    if format is None:
        return None
    try:
        if any(row.get(key) for key in _MEDIA):
            raise NotConvertible("it has images, sound or video, which no base model can be trained on yet")
        return RecognisedRow(format, format.convert(row))
    except NotConvertible as refusal:
        return RecognisedRow(format, None, str(refusal))


def report_format(recognised: RecognisedRow, method: Method, collector: ProblemCollector) -> None:
    """Adds one error to `collector`: which format the row is in, and what to do for a job of this method.

    The same sentence for all rows of a format that can be converted.
    """
    format = recognised.format
    what = f"the row is in another format: {format.title}, {format.keys.replace('`', '')}."
    mapping = f"Its mapping: {format.mapping}."
    match format.kind:
        case RowKind.PAIRS if method is Method.SUPERVISED:
            what = f"{what} It is a preference pair, but the job's method is supervised."
            fix = f"Make the job with method dpo. {mapping} {_conversion_hint(recognised, method)}"
            collector.error("", "preference_row", what, fix)
        case RowKind.PAIRS:
            collector.error(
                "", "chosen_rejected_row", what, f"Write {_PAIR}. {mapping} {_conversion_hint(recognised, method)}"
            )
        case RowKind.LABELLED:
            what = f"{what} Its label says whether the answer is to be learned at all."
            collector.error("", "labelled_row", what, f"{mapping} {_conversion_hint(recognised, method)}")
        case RowKind.ANSWERS | RowKind.OTHER if method is Method.DPO:
            fix = f"Make the job with method supervised, or write {_PAIR}. {mapping}"
            collector.error("", "supervised_row", f"{what} It is no preference pair, but the job's method is dpo.", fix)
        case RowKind.ANSWERS | RowKind.OTHER:
            fix = f"{mapping} {_conversion_hint(recognised, method)}"
            is_prompt_completion = format.name in ("prompt_completion", "completion_alone")
            collector.error("", "prompt_completion_row" if is_prompt_completion else "other_format", what, fix)


def _conversion_hint(recognised: RecognisedRow, method: Method) -> str:
    """Whether `luthier check --fix` converts the row, as a sentence; the command for it, or why not."""
    if recognised.format.kind is RowKind.LABELLED:
        return "`luthier check FILE --fix OUT` writes the rows with label true as messages and leaves the others."
    if recognised.conversion is None:
        return f"It is not converted by --fix: {recognised.refusal}."
    pairs = recognised.format.kind is RowKind.PAIRS
    return f"`luthier check FILE{' --method dpo' if pairs else ''} --fix OUT` writes it so."
