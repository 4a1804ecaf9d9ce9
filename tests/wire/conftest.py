"""What many tests of the wire begin with: a client of each dialect, and an uploaded file."""

import pytest
from openai import OpenAI

import rows


@pytest.fixture(params=["azure", "azure_v1", "openai_client"])
def client(request: pytest.FixtureRequest) -> OpenAI:
    made: OpenAI = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def file(openai_client: OpenAI) -> str:
    return openai_client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune").id
