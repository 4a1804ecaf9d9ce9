"""Whether the published OpenAPI files are at hand, which the fixture `url` holds each answer against."""

import pytest

import answers
from repository import SPEC_FOLDER


@pytest.mark.parametrize("file", sorted({file for files in answers.PUBLISHED.values() for file in files}))
def test_published_file_is_read_so_that_answers_are_held_against_it(file: str) -> None:
    document = answers.published(file)
    if document is None:
        pytest.skip(f"{file} is not in {SPEC_FOLDER}: no answer is held against it (LUTHIER_SPEC_DIR)")
    assert document["paths"]
