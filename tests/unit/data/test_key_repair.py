"""Keys of other trainers turned into what is read here, and left alone where that would be a guess."""

from typing import Any

import pytest

from luthier.data.repair import row_repair

USER = {"role": "user", "content": "Tea?"}
ANSWER = {"role": "assistant", "content": "Yes."}
SYSTEM = {"role": "system", "content": "Be brief."}


def answer(**more: Any) -> dict[str, Any]:
    return {"messages": [USER, {**ANSWER, **more}]}


@pytest.mark.parametrize(
    ("row", "mended"),
    [
        ({"system": "Be brief.", "messages": [USER, ANSWER]}, {"messages": [SYSTEM, USER, ANSWER]}),
        ({"messages": [SYSTEM, USER, ANSWER], "system": "Be brief."}, {"messages": [SYSTEM, USER, ANSWER]}),
        (
            {"system": [{"type": "text", "text": "Be brief."}], "messages": [USER, ANSWER], "id": 3},
            {"messages": [SYSTEM, USER, ANSWER], "id": 3},
        ),
        (
            {"input": {"messages": [USER], "system": "Be brief."}, "preferred_output": [ANSWER]},
            {"input": {"messages": [SYSTEM, USER]}, "preferred_output": [ANSWER]},
        ),
        (answer(train=False), answer(weight=0)),
        (answer(loss=0), answer(weight=0)),
        (answer(masked=True), answer(weight=0)),
        (answer(train=True), answer()),
        (answer(train=True, weight=1), answer(weight=1)),
        ({"messages": [{**USER, "train": False}, ANSWER]}, {"messages": [USER, ANSWER]}),
    ],
)
def test_keys_that_are_pure_text_are_turned(row: dict[str, Any], mended: dict[str, Any]) -> None:
    assert row_repair.repair_row(row)[0] == mended
    assert row_repair.repair_row(mended) == (mended, [])


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be kind.", "messages": [SYSTEM, USER, ANSWER]},
        {"system": "Be brief.", "instructions": "Be kind.", "messages": [USER, ANSWER]},
        {"system": [{"type": "text", "text": "Hi", "cache_control": {}}], "messages": [USER, ANSWER]},
        {"system": {"text": "Hi"}, "messages": [USER, ANSWER]},
        answer(train=False, weight=1),
        answer(train=False, loss=True),
        answer(loss=0.5),
        answer(mask=0),
        answer(reasoning_content="So."),
        {"messages": [{**USER, "train": True}, ANSWER]},
        {"messages": [USER, ANSWER], "images": ["1.jpg"]},
    ],
)
def test_keys_whose_meaning_would_be_a_guess_are_left(row: dict[str, Any]) -> None:
    assert row_repair.repair_row(row) == (row, [])
