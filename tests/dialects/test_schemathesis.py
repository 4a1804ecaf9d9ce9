"""Schemathesis reads our own description and tries to prove it wrong: every operation, every check it has."""

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.openapi.loaders import from_asgi
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from fakes import BASE, KEY
from luthier import app
from luthier.api import server
from luthier.api.services import Services
from luthier.service.context import Context
from luthier.service.keys import DEFAULT_RESOURCE
from luthier.service.serving import Serving
from luthier.settings import Settings

pytestmark = pytest.mark.fuzz

EXAMPLES = 50
WELL_SHAPED = {
    "invalid_cursor",
    "invalid_training_type",
    "integrations_not_supported",
    "method_not_supported",
    "missing_model",
    "prompt_loss_weight_not_supported",
    "base_model_not_deletable",
    "deployment_model_not_found",
    "deployment_model_not_supported",
    "file_not_found",
    "image_not_supported",
    "invalid_deployment_name",
    "invalid_filename",
    "invalid_hyperparameter",
    "invalid_seed",
    "invalid_sku",
    "invalid_suffix",
    "model_not_found",
    "model_not_ready",
    "suffix_too_long",
}
"""Why a request of the right shape is refused with 400 all the same, in words that a schema has none for."""


class Standing:
    """An application that is a fresh one in each test: the operations are known before any test is begun."""

    now: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.now(scope, receive, send)


standing = Standing()


def read_description() -> BaseSchema:
    with tempfile.TemporaryDirectory() as folder:
        built = app.build(Settings(data_dir=Path(folder)))
        standing.now = built.api
        return from_asgi("/openapi.json", standing)


wire = read_description()


HEADERS = {"api-key": KEY}
KNOWN = {
    "subscription": DEFAULT_RESOURCE.subscription,
    "group": DEFAULT_RESOURCE.resource_group,
    "account": DEFAULT_RESOURCE.account,
    "model_name": BASE,
}
"""What is there, by the names of the paths' parameters."""


@pytest.fixture(autouse=True)
def fresh(context: Context, serving: Serving) -> None:
    """A service with a file and a job."""
    standing.now = server.build(Services(context, serving, lambda: None), None)
    with TestClient(standing, headers=HEADERS) as client:
        form = {"data": {"purpose": "fine-tune"}, "files": {"file": ("rows.jsonl", b"{}")}}
        KNOWN["file_id"] = client.post("/v1/files", **form).json()["id"]
        asked = {"model": BASE, "training_file": KNOWN["file_id"]}
        KNOWN["job_id"] = client.post("/v1/fine_tuning/jobs", json=asked).json()["id"]


@wire.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Every second path, by the length of its words, names what is there: else all would end at the first 404."""
    if path_parameters and sum(len(str(value)) for value in path_parameters.values()) % 2:
        return {name: KNOWN.get(name, value) for name, value in path_parameters.items()}
    return path_parameters


@pytest.mark.timeout(600)
@wire.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_operation_answers_otherwise_than_described(case: schemathesis.Case) -> None:
    response = case.call(headers=HEADERS)
    excluded = (
        [positive_data_acceptance] if response.status_code == 400 and _code(response.json()) in WELL_SHAPED else []
    )
    case.validate_response(response, headers=HEADERS, excluded_checks=excluded)


def _code(body: dict[str, Any]) -> str:
    error = body["error"]
    inner: dict[str, Any] = error.get("innererror") or error.get("inner_error") or error
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(inner["code"])).lower()  # the control plane's are CamelCase
